"""The thread that writes the looks of streams: neither a step nor the thread that learns waits for the disk."""

from __future__ import annotations

import logging
import queue
from concurrent.futures import Future
from dataclasses import dataclass

from trackd.identity.arrays import Arrays
from trackd.identity.looks import Looks
from trackd.store.looks_folder import LooksFolder

logger = logging.getLogger(__name__)

_WAIT_S = 30.0


@dataclass(slots=True, eq=False)
class PendingLooks:
    """Looks that are written once their frame is stored. A later one of its stream replaces it: it is not written."""

    stream: str
    epoch: int
    seq: int
    gallery: str | None
    corrections: int
    arrays: Future[Arrays | None] | None  # made by the thread that learns; None: nothing is written

    def result(self) -> Looks | None:
        """Wait for the arrays, and return the looks; None if nothing was learnt, or later ones have replaced them.

        Raises:
            Exception: that of the thread that learns, or `TimeoutError`.
        """
        pending = self.arrays
        arrays = None if pending is None else pending.result(_WAIT_S)
        if arrays is None:
            return None
        return Looks(self.stream, self.epoch, self.seq, self.gallery, self.corrections, arrays)


class LooksWriter:
    """Writes and deletes files in the order in which it is told to. Any thread may call `put` and `remove`."""

    def __init__(self, folder: LooksFolder) -> None:
        self.folder = folder
        self._jobs: queue.SimpleQueue[PendingLooks | str | None] = queue.SimpleQueue()
        self._failing = False

    def put(self, looks: PendingLooks) -> None:
        """Write looks; the frame that they were made after is stored."""
        self._jobs.put(looks)

    def remove(self, stream: str) -> None:
        """Delete the file of a stream, which has been closed or has begun another epoch."""
        self._jobs.put(stream)

    def stop(self) -> None:
        """Make `run` return when all is written."""
        self._jobs.put(None)

    def run(self) -> None:
        """Write until `stop`."""
        while (job := self._jobs.get()) is not None:
            try:
                self._do(job)
                if self._failing:
                    logger.warning("the looks of animals can be written again")
                self._failing = False
            except (OSError, ValueError) as error:
                if not self._failing:  # not every five seconds
                    logger.error("the looks of animals cannot be written; a restart learns them anew: %s", error)
                self._failing = True

    def _do(self, job: PendingLooks | str) -> None:
        if isinstance(job, str):
            self.folder.remove(job)
            return
        try:
            looks = job.result()
        except Exception as error:
            logger.error("stream=%s seq=%d: the looks of its animals cannot be made: %s", job.stream, job.seq, error)
            return
        if looks is not None:
            self.folder.write(looks)
