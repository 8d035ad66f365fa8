"""`trackd live`: a camera, a daemon and the address of its page, in one command.

The whole life in order of time: open the camera, find or start a daemon, print the address, run until the source ends
or a signal arrives, close the stream, end the own daemon, name the files.
"""

from __future__ import annotations

import json
import signal
import socket
import threading
import webbrowser
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Timeout
from trackd_client.apps.camera.run import CameraCommand, open_camera, run_camera
from trackd_client.client import CONTROL, INGEST, TRACKS
from trackd_client.configuration import ConfigError
from trackd_client.errors import TrackdError
from trackd_client.transport.curve import NO_KEYS, ClientKeys

HTTP = "http://127.0.0.1:9570"  # of a daemon without a configuration
FIND_S = 3.0  # the wait for a daemon that may not run


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a daemon is; the defaults are those of `trackd serve`."""

    ingest: str = INGEST
    tracks: str = TRACKS
    control: str = CONTROL
    http: str = HTTP

    @property
    def page(self) -> str:
        """The address of the viewer's page."""
        return f"{self.http.rstrip('/')}/"


def live(
    command: CameraCommand,
    addresses: Addresses,
    port: int | None = None,
    *,
    open_page: bool = False,
    keys: ClientKeys = NO_KEYS,
    console: Console | None = None,
) -> None:
    """Run a camera with a daemon that runs at `addresses`, or with one of its own.

    Args:
        command: the camera, its detector and its stream.
        addresses: of a daemon that may run; an own daemon takes them if they are free, and free ports otherwise.
        port: of the own daemon's page; None: that of `addresses.http`, or a free one.
        open_page: open the page in a browser.
        keys: CURVE keys for a daemon that runs.
        console: for all lines.

    Raises:
        SourceError: the source cannot be opened.
        DetectorError: the detector cannot be used, or has failed.
        TrackdError: the daemon refuses the stream, or frames were rejected.
    """
    console = console or Console()
    with ExitStack() as ends:
        ends.enter_context(signals_as_interrupts())
        opened = open_camera(command)
        ends.callback(opened.grabber.stop)
        found = running_at(addresses, keys)
        if found is None:
            found = ends.enter_context(own_daemon(addresses, port, command.options.record))
            keys = NO_KEYS
        elif port is not None:
            raise ConfigError("--port is for a daemon that trackd live starts; one runs at these addresses already")
        console.print(f"watch it at {found.page}   (Ctrl-C ends it)", highlight=False, markup=False, soft_wrap=True)
        if open_page:
            webbrowser.open(found.page)
        client = ends.enter_context(Client(found.ingest, found.tracks, found.control, **keys))
        camera = opened.camera(client)
        done = run_camera(camera, console, f"{camera.name} at {found.page}")
    if camera.video is not None:
        console.print(
            f"  the video                        {camera.video.path}", highlight=False, markup=False, soft_wrap=True
        )
        for path in written_beside(camera.video.path, camera.name, command.options.outputs):
            console.print(f"  tracked                          {path}", highlight=False, markup=False, soft_wrap=True)
    if done.rejected:
        raise TrackdError(f"{done.rejected} of {done.sent} frames were rejected and have no ids")


def running_at(addresses: Addresses, keys: ClientKeys) -> Addresses | None:
    """Return the addresses of the daemon that answers there; None if one can be started.

    Raises:
        TrackdError: nothing answers at an address that was given, and no daemon can listen there.
    """
    if not may_be_taken(addresses.control):
        return None
    with Client(addresses.ingest, addresses.tracks, addresses.control, timeout_s=FIND_S, **keys) as client:
        try:
            client.status()
        except Timeout:
            if addresses.control == CONTROL:  # some other program; a daemon gets free ports
                return None
            raise TrackdError(f"no daemon answers at {addresses.control}, and none can be started there") from None
    return addresses


@contextmanager
def own_daemon(addresses: Addresses, port: int | None, record: Path | None) -> Iterator[Addresses]:
    """Start a daemon for this camera, and drain it at the end.

    Yields:
        its addresses.

    Raises:
        TrackdError: it did not start; its own line says why.
    """
    overrides = [
        f"daemon.endpoints.{name}={endpoint}"
        for name in ("ingest", "tracks", "control")
        if not may_be_taken(endpoint := getattr(addresses, name))
    ]
    place = urlsplit(addresses.http)
    if port is not None:
        overrides.append(f"daemon.http=127.0.0.1:{port}")
    elif not may_be_taken(f"tcp://{place.hostname}:{place.port}"):
        overrides.append(f"daemon.http={place.hostname}:{place.port}")
    if record is not None:
        overrides.append(f"out_dir={json.dumps(str(record.resolve()))}")
        overrides.append(f"recording.dir={json.dumps(str(record.resolve() / 'messages'))}")  # for the page's button
    with ExitStack() as ends:
        try:
            found = ends.enter_context(running_daemon(overrides))
        except RuntimeError as error:
            raise TrackdError(str(error)) from None
        yield Addresses(found["ingest"], found["tracks"], found["control"], found["http"])


def may_be_taken(endpoint: str) -> bool:
    """Return whether an address may be in use: a bind fails, or the file of an `ipc://` address exists."""
    place = urlsplit(endpoint)
    if place.scheme == "ipc":
        return Path(place.netloc + place.path).exists()
    try:
        with socket.create_server((place.hostname or "127.0.0.1", place.port or 0)):
            return False
    except (OSError, ValueError):  # in use, or of another host
        return True


def written_beside(video: Path, stream: str, outputs: tuple[str, ...]) -> list[Path]:
    """Return the output files of the stream in the folder of its video, those that exist."""
    return [path for kind in outputs if (path := video.parent / f"{stream}.{kind}").exists()]


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, so that a daemon of one's own is ended in each case.

    SIGINT too: a shell starts a program in the background with SIGINT ignored.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {
        each: signal.signal(each, interrupt) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
