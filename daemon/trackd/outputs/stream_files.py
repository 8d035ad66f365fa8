"""The output files of one stream: opened, written, continued after a restart, finished."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trackd.crash_points import crash_point
from trackd.outputs.files.append_file import LostFileError
from trackd.outputs.positions import Positions, StoredFile, StoredFiles
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.session_log import SessionLog
from trackd.outputs.writer import Position, Writer, open_writer, writer_class

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class OpenFile:
    """A file that is being written."""

    kind: str
    writer: Writer
    seq: int = -1  # of the last frame that was written to it
    failing: bool = False


class StreamFiles:
    """The files of a stream; only the outputs threads use them.

    Args:
        out_dir: their folder.
        kinds: their formats.
        info: the stream.
        on_error: called once for every record or file that was not written and will not be.
        positions: where their positions are stored, with a journal.
        opening: the epoch in which the stream was opened.
        settled_seq: the last frame that was settled before the restart; −1 for a new stream.
        log: where their positions are stored, without a journal.
    """

    def __init__(
        self,
        out_dir: Path,
        kinds: Sequence[str],
        info: StreamInfo,
        on_error: Callable[[], None],
        positions: Positions | None = None,
        opening: int = 0,
        settled_seq: int = -1,
        log: SessionLog | None = None,
    ) -> None:
        self._out_dir = out_dir
        self._unopened = list(kinds)
        self._info = info
        self._on_error = on_error
        self._positions = positions
        self._opening = opening
        self._settled_seq = settled_seq
        self._stored = None if positions is None else positions.get(info.name, opening)
        self.log = log
        self._prepared = self._stored is not None or (log is not None and log.continued)
        self._files: list[OpenFile] = []
        self._seq = self.stored_seq
        self._held_index: int | None = None  # continued files have the frames up to this one, which are sent again
        self._failed: list[Writer] = []  # could not be finished

    @property
    def unfinished(self) -> list[Path]:
        """The files that could not be finished, and that nothing has finished since."""
        paths = []
        for writer in self._failed:
            part = writer.part_of(self._out_dir, self._info.name)
            if part is None or part.exists() or not writer.path.exists():
                paths.append(writer.path)
        return paths

    @property
    def stored_seq(self) -> int:
        """The last frame that a restart would not write again; −1: none."""
        return -1 if self._stored is None else min(self._stored.seq, self._settled_seq)

    @property
    def continued(self) -> bool:
        """Whether the files were begun before a restart."""
        return self._stored is not None

    @property
    def parts_left(self) -> bool:
        """Whether parts of a process that was killed have to be finished before the files can be opened."""
        if self._prepared:
            return False
        parts = (writer_class(kind).part_of(self._out_dir, self._info.name) for kind in self._unopened)
        return any(part is not None and part.exists() for part in parts)

    def finish_parts(self) -> bool:
        """Finish the parts of a process that was killed; return whether all of them are. `open` repeats what failed."""
        failed = False
        for kind in self._unopened:
            try:
                writer = writer_class(kind)
                part = writer.part_of(self._out_dir, self._info.name)
                if part is not None and writer.recover(part) is not None and self._positions is None:
                    logger.warning(
                        "stream=%s: its output %s begins in a new file, since the part on disk is of another session; "
                        "with daemon.state_dir, or a client that sends `session` in `open`, a restart continues the "
                        "file",
                        self._info.name, kind,
                    )  # fmt: skip
            except Exception as error:
                failed = True
                logger.error("stream=%s: the part of its output %s is not finished: %s", self._info.name, kind, error)
        return not failed

    def open(self) -> None:
        """Open the files that are not open yet. One that can never be opened is counted and logged.

        Raises:
            OSError: a file cannot be opened for now; the call may be repeated.
        """
        logged = self.log is not None and self.log.session is not None
        # The positions are stored before a file exists: a restart then knows an empty file as its own. And after the
        # earlier file was set aside: a restart does not take that for its own.
        if not self._prepared and (logged or self._positions is not None):
            self._unopened = [kind for kind in self._unopened if self._attempt(kind, self._set_aside)]
        if self._positions is not None and not self._prepared:
            self._stored = StoredFiles(self._opening, {kind: StoredFile(-1, {}) for kind in self._unopened})
            self._positions.save(self._info.name, self._stored)
        if self.log is not None:
            self.log.begin(self._unopened)
        self._prepared = True
        self._open_files()
        crash_point("after_output_open")

    def write(self, seq: int, record: OutputRecord) -> None:
        """Write one frame; files that have it already are left as they are.

        Raises:
            OSError: a file cannot be written for now; the call may be repeated.
        """
        log = self.log
        if log is not None and log.resuming:
            self._resume(log, record.frame_index)
        if self._held_index is not None:
            if record.frame_index <= self._held_index:
                self._seq = max(self._seq, seq)
                return
            self._held_index = None
        unwritten: OSError | None = None
        if self._unopened:  # of a stream that closes while a file cannot be opened
            unwritten = OSError(errno.EIO, "it could not be opened", self._unopened[0])
        for file in self._files:
            if seq <= file.seq:
                continue
            try:
                file.writer.write(record)
            except OSError as error:
                unwritten = OSError(error.errno, error.strerror or str(error), str(file.writer.path))
                continue
            except Exception:
                self._on_error()
                # Such a writer fails with every frame: each failure is counted, only the first is logged.
                if not file.failing:
                    file.failing = True
                    logger.exception(
                        "stream=%s frame_index=%d: %s", self._info.name, record.frame_index, file.writer.path
                    )
            file.seq = seq
            crash_point("after_output")
        if unwritten is not None:
            raise unwritten
        if log is not None and log.is_open and seq > self._seq:
            log.add(record, {file.kind: file.writer.position() for file in self._files})
        self._seq = max(self._seq, seq)

    def skip(self, seq: int) -> None:
        """Note that the frames up to this one, and after the last one that was written, have no records."""
        for file in self._files:
            file.seq = max(file.seq, seq)
        self._seq = max(self._seq, seq)

    def save(self) -> int:
        """Store the positions of the files; return the last frame that is in all of them.

        Raises:
            OSError: they cannot be stored for now.
        """
        if self._positions is None or not self._prepared:
            return self._seq
        files = {file.kind: StoredFile(file.seq, file.writer.position()) for file in self._files}
        if self._stored is not None:  # of a file that cannot be opened for now
            files |= {kind: stored for kind, stored in self._stored.files.items() if kind in self._unopened}
        saved = StoredFiles(self._opening, files)
        self._positions.save(self._info.name, saved)
        return saved.seq if files else self._seq

    def finish(self) -> list[Path]:
        """Finish the files; return those that are finished. One that cannot be is counted and logged."""
        finished = []
        for file in self._files:
            try:
                file.writer.close()
                finished.append(file.writer.path)
            except Exception as error:
                self._failed.append(file.writer)
                self._on_error()
                logger.error(
                    "%s could not be finished; if its .part exists, `trackd outputs recover %s` finishes it: %s",
                    file.writer.path, file.writer.path.parent, error, exc_info=not isinstance(error, OSError),
                )  # fmt: skip
        if self._positions is not None and len(finished) == len(self._files):
            self._positions.remove(self._info.name)
        self.end_session()
        return finished

    def end_session(self) -> None:
        """Delete the log: the session ends, and no restart continues the files."""
        if self.log is not None:
            self.log.remove()

    def park(self) -> None:
        """Close the files without finishing them; the next daemon continues them."""
        try:
            self.save()
        except OSError as error:
            logger.error("stream=%s: the positions of its outputs could not be stored: %s", self._info.name, error)
        for file in self._files:
            file.writer.park()

    def _attempt(self, kind: str, step: Callable[[str], None]) -> bool:
        """Do a step for one format; the other formats are written all the same if it fails for good."""
        try:
            step(kind)
        except Exception as error:
            if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                raise
            self._on_error()
            logger.exception("stream=%s: the output %s cannot be written", self._info.name, kind)
            return False
        return True

    def _set_aside(self, kind: str) -> None:
        writer_class(kind).set_aside(self._out_dir, self._info.name)

    def _open_files(self) -> None:
        while self._unopened:
            self._attempt(self._unopened[0], self._open)
            self._unopened.pop(0)

    def _resume(self, log: SessionLog, frame_index: int) -> None:
        """Cut continued files to before the first frame that the client sends; an earlier one stays as it is.

        Raises:
            OSError: a file cannot be cut for now; the call may be repeated.
        """
        if log.cut(frame_index):
            self._unopened = [file.kind for file in self._files]
            for file in self._files:
                file.writer.park()
            self._files = []
        self._open_files()
        if log.last_frame_index is not None and log.last_frame_index >= frame_index:
            self._held_index = log.last_frame_index
            logger.warning(
                "stream=%s: its outputs keep frame_index=%d to %d as they are: they were written too long ago",
                self._info.name, frame_index, log.last_frame_index,
            )  # fmt: skip
        log.resumed()

    def _open(self, kind: str) -> None:
        stored = None if self._stored is None else self._stored.files.get(kind)
        if stored is None:
            position = None if self.log is None else self.log.position(kind)
            self._files.append(OpenFile(kind, self._writer(kind, position, "the next frame"), self._seq))
            return
        seq = min(stored.seq, self._settled_seq)
        if seq < stored.seq:
            logger.error(
                "stream=%s: its output %s has frames up to seq=%d, and the journal up to seq=%d; those between "
                "them stay in the file", self._info.name, kind, stored.seq, seq,
            )  # fmt: skip
        self._files.append(OpenFile(kind, self._writer(kind, stored.position, f"seq={seq + 1}"), seq))

    def _writer(self, kind: str, position: Position | None, first: str) -> Writer:
        """A writer that continues a file, or one of a new file where that cannot be continued."""
        try:
            return open_writer(kind, self._out_dir, self._info, position)
        except LostFileError as error:
            self._on_error()
            logger.error(
                "stream=%s: its output %s cannot be continued: %s; a new file begins with %s",
                self._info.name, kind, error, first,
            )  # fmt: skip
            return open_writer(kind, self._out_dir, self._info)
