"""The thread that finishes files. A long stream's .slp takes a minute; the other streams' frames do not wait for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from trackd.outputs.backlog import Backlog
from trackd.outputs.positions import Positions
from trackd.outputs.stream_files import StreamFiles

logger = logging.getLogger(__name__)


class Finisher:
    """Finishes the files of closed streams, one stream at a time, and knows the streams whose files are not finished.

    Args:
        on_error: called for a file that could not be finished.
        on_free: called with a stream that can continue: the files or parts that it waited for are finished.
        positions: where the positions of open files are stored, with a journal.
    """

    def __init__(
        self, on_error: Callable[[], None], on_free: Callable[[Backlog], None], positions: Positions | None
    ) -> None:
        self._on_error = on_error
        self._on_free = on_free
        self._positions = positions
        self._thread = ThreadPoolExecutor(1, "outputs-finish")
        self._lock = threading.Lock()  # for the end of one stream and the opening of the next one of its name
        self.backlogs: dict[str, Backlog] = {}  # the latest of each name, until its files are finished
        self.n_finished = 0  # files
        self.paths: list[Path] = []
        self._incomplete: list[StreamFiles] = []

    @property
    def unfinished(self) -> list[Path]:
        """The files that could not be finished, and that nothing has finished since."""
        return [path for files in self._incomplete for path in files.unfinished]

    def add(self, backlog: Backlog) -> None:
        """Add a stream; it waits until the files of an earlier stream of its name are finished."""
        with self._lock:
            previous = self.backlogs.get(backlog.name)
            if previous is not None and not previous.finished:
                backlog.previous = previous
            self.backlogs[backlog.name] = backlog

    def finish(self, backlog: Backlog) -> None:
        """Finish the files of a stream that is closed."""
        self._thread.submit(self._finish, backlog)

    def finish_parts(self, backlog: Backlog) -> None:
        """Finish the parts that a killed process has left where a new stream will write."""
        backlog.preparing = True
        self._thread.submit(self._finish_parts, backlog)

    def finish_left(self, backlog: Backlog) -> None:
        """Finish the files of a stream that an earlier daemon closed; it was killed before it had finished them."""
        backlog.ending = True
        self.add(backlog)
        self._thread.submit(self._finish_left, backlog)

    def stop(self) -> None:
        """Wait until all files are finished."""
        self._thread.shutdown(wait=True)

    # --- on its thread ---

    def _finish(self, backlog: Backlog) -> None:
        try:
            self.paths += backlog.files.finish()
        except Exception:
            self._on_error()
            logger.exception("stream=%s: its outputs could not be finished", backlog.name)
        if backlog.files.unfinished:
            self._incomplete.append(backlog.files)
        self.n_finished += backlog.n_files
        self._remove(backlog)

    def _finish_parts(self, backlog: Backlog) -> None:
        backlog.files.finish_parts()
        backlog.preparing = False
        self._on_free(backlog)

    def _finish_left(self, backlog: Backlog) -> None:
        if not backlog.files.finish_parts():
            self._on_error()
        elif self._positions is not None:
            self._positions.remove(backlog.name)
        self._remove(backlog)

    def _remove(self, backlog: Backlog) -> None:
        with self._lock:
            backlog.finished = True
            successor = self.backlogs.get(backlog.name)
            if successor is backlog:
                del self.backlogs[backlog.name]
                successor = None
        if successor is not None:
            self._on_free(successor)
