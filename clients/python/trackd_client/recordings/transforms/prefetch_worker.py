"""The work of a worker process: reading its blocks of a recording, and sending the frames one by one."""

from __future__ import annotations

import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from multiprocessing.connection import Connection

import cv2

from trackd_client.recordings.images.source import MissingImages
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError

# Short, so that all workers have a block within the frames that may be queued; and so that a video's reader decodes
# the other workers' blocks, which is faster than a seek.
BLOCK_FRAMES = 4
AHEAD_FRAMES = 4  # decoded and queued, for each worker


@dataclass(frozen=True, slots=True)
class Failed:
    """The error of reading a frame, sent in the frame's place."""

    error: RecordingError


def blocks_of(clips: Iterable[Clip], length: int) -> Iterator[Clip]:
    """The frames of `clips` in runs of at most `length`."""
    for clip in clips:
        for first in range(clip.start, clip.stop, length):
            yield Clip(first, min(first + length, clip.stop))


def work(recording: Recording, clips: Iterable[Clip], number: int, n_workers: int, frames: Connection) -> None:
    """Read the worker's blocks of `clips`, and send each frame through `frames`. The process ends at the return.

    Block i is read by worker i modulo `n_workers`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the replaying process stops its workers
    logging.getLogger(MissingImages.__module__).disabled = True  # the replaying process counts frames without images
    cv2.setNumThreads(1)  # the number of processes is the number of cores to use
    waiting: queue.Queue[RecordedFrame | Failed | None] = queue.Queue(AHEAD_FRAMES)
    sender = threading.Thread(target=_send, args=(waiting, frames), name="send frames", daemon=True)
    sender.start()
    try:
        for frame in recording.frames(islice(blocks_of(clips, BLOCK_FRAMES), number, None, n_workers)):
            _put(waiting, frame, sender)
        _put(waiting, None, sender)
    except _ReceiverGone:
        return
    except Exception as error:
        sent = error if isinstance(error, RecordingError) else RecordingError(f"{recording.name}: {error!r}")
        with contextlib.suppress(_ReceiverGone):
            _put(waiting, Failed(sent), sender)
            _put(waiting, None, sender)
    sender.join()


class _ReceiverGone(Exception):  # noqa: N818
    """The replaying process has closed the pipe, or has ended."""


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
        except OSError:  # the replaying process has closed the pipe, or has ended
            return
