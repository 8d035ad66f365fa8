"""The end of the demo: its recording as a live stream with images, again and again, for the daemon's page."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from rich.console import Console

from trackd.commands.live import Addresses, own_daemon, signals_as_interrupts
from trackd_client import Client
from trackd_client.apps.replay import Pace, looped
from trackd_client.recordings.recording import Recording

STREAM = "demo"


def play_live(
    recording: Recording,
    config: Mapping[str, Any],
    console: Console,
    addresses: Addresses | None = None,
    n_frames: int | None = None,
) -> None:
    """Play a recording until Ctrl-C, with the present as its capture times, and print the page's address.

    Args:
        recording: what to play, at its recorded rate.
        config: of the stream.
        console: for the address.
        addresses: of the daemon, which is started here; free ports in place of those that are in use.
        n_frames: end after so many frames; None: never.
    """
    with (
        suppress(KeyboardInterrupt),
        signals_as_interrupts(),
        own_daemon(addresses or Addresses(), None, None) as found,
        Client(found.ingest, found.tracks, found.control) as client,
        client.open_stream(
            STREAM,
            config=config,
            frame_shape=recording.frame_shape,
            skeleton=recording.skeleton,
            source=str(recording.source),
        ) as stream,
    ):
        console.print(f"\nwatch it live at {found.page}   (Ctrl-C ends it)", highlight=False, soft_wrap=True)
        pace = Pace(recording.fps, 1.0)
        for number, frame in enumerate(looped(recording, sys.maxsize)):
            if n_frames is not None and number >= n_frames:
                return
            pace.wait(number)
            stream.send(frame.image, frame.detections, frame_index=number, t_ns=time.time_ns())
