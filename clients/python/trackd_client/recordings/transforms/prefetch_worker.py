"""What a worker process does: read its blocks of a recording, and send the frames one by one."""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import cv2

from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError

# Short, so that all workers have something to do within the frames that may wait; and so short that a video's
# reader decodes on over the other workers' blocks rather than seek.
BLOCK_FRAMES = 4
AHEAD_FRAMES = 4  # decoded and waiting, for each worker


@dataclass(frozen=True, slots=True)
class Failed:
    """Sent in a frame's place: what reading it raised."""

    error: RecordingError


def blocks_of(clips: Sequence[Clip], length: int) -> list[Clip]:
    """The frames of `clips` in runs of at most `length`."""
    return [
        Clip(first, min(first + length, clip.stop)) for clip in clips for first in range(clip.start, clip.stop, length)
    ]


def work(recording: Recording, blocks: Sequence[Clip], frames: Connection) -> None:
    """The process's whole life: read `blocks`, in order, and send each frame through `frames`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the replaying process ends its workers itself
    cv2.setNumThreads(1)  # there are as many processes as the user wanted cores
    waiting: queue.Queue[RecordedFrame | Failed | None] = queue.Queue(AHEAD_FRAMES)
    sender = threading.Thread(target=_send, args=(waiting, frames), name="send frames", daemon=True)
    sender.start()
    try:
        for frame in recording.frames(blocks):
            _put(waiting, frame, sender)
        _put(waiting, None, sender)
    except _ReceiverGone:
        return
    except Exception as error:
        told = error if isinstance(error, RecordingError) else RecordingError(f"{recording.name}: {error!r}")
        with contextlib.suppress(_ReceiverGone):
            _put(waiting, Failed(told), sender)
            _put(waiting, None, sender)
    sender.join()


class _ReceiverGone(Exception):  # noqa: N818
    """Nobody takes frames any more."""


def _put(
    waiting: queue.Queue[RecordedFrame | Failed | None], item: RecordedFrame | Failed | None, sender: threading.Thread
) -> None:
    while sender.is_alive():
        try:
            waiting.put(item, timeout=0.5)
            return
        except queue.Full:
            continue
    raise _ReceiverGone


def _send(waiting: queue.Queue[RecordedFrame | Failed | None], frames: Connection) -> None:
    while (item := waiting.get()) is not None:
        try:
            frames.send(item)
        except OSError:  # the replaying process closed its end, or is gone
            return
