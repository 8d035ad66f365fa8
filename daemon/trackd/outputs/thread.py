"""The outputs thread: writes settled frames to files, so that neither the IO thread nor the engine waits for a disk."""

from __future__ import annotations

import logging
import queue
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from trackd.outputs.backlog import Backlog, CloseFiles, EndFiles, Job, OpenFiles, SkipFrames, WriteFrame
from trackd.outputs.finisher import Finisher
from trackd.outputs.positions import Positions
from trackd.outputs.progress import Progress
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.session_log import EarlierSession, SessionLog, find_session
from trackd.outputs.stream_files import StreamFiles
from trackd_client.protocol import Open

logger = logging.getLogger(__name__)

# The most records of one stream that may wait. Beyond that the stream's frames wait, or its own overload policy drops
# them, before they are accepted. So no record of an accepted frame is dropped, memory is bounded, and no other stream
# waits.
MOST_WAITING = 256
MOST_WAITING_BYTES = 256 * 1024 * 1024  # of all streams
_MOST_OF_ONE = 4  # a stream may have a quarter of these bytes
# With a journal: the positions of a stream's files are stored after so many records or bytes, or after this time.
_SAVE_RECORDS, _SAVE_BYTES = 64, 4 * 1024 * 1024
_SAVE_S = 0.5
_TURN_S = 0.005  # a stream with more work than this takes turns with the others
_RETRY_S = 0.5


class OutputsThread:
    """One thread, any number of files by stream; a second thread finishes the files of closed streams.

    Streams take turns, so that a stream with large files delays the others by one frame of its own. Where a disk cannot
    be written (it is full, read-only, unplugged), the stream's jobs wait and are tried again. Its records wait, then
    its frames; other streams do not. A stream that closes in this state loses the waiting records, and the log names
    them.

    Without `positions` a stream's files are finished at the end of the daemon; after a kill the next daemon continues
    those of a client that sent a session's token. With them the files of open streams are left as they are, and the
    next daemon continues them.

    Args:
        out_dir: the folder of all output files.
        on_error: called once for every record or file that was not written and will not be.
        on_progress: called when there is news for `take_progress`.
        clock: monotonic seconds.
        positions: where the positions of open files are stored, with a journal.
        on_saved: called with a stream and a seq: no restart needs the stream's frames up to this one.
        max_bytes: of the records that wait.
    """

    def __init__(
        self,
        out_dir: Path,
        on_error: Callable[[], None],
        on_progress: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        positions: Positions | None = None,
        on_saved: Callable[[str, int], None] = lambda stream, seq: None,
        max_bytes: int = MOST_WAITING_BYTES,
    ) -> None:
        self._out_dir = out_dir
        self._on_error = on_error
        self._clock = clock
        self._positions = positions
        self._on_saved = on_saved
        self._max_bytes = max_bytes
        self._turns: queue.SimpleQueue[Backlog | None] = queue.SimpleQueue()
        self._progress = Progress(on_progress)
        self._finisher = Finisher(on_error, self._turns.put, positions)
        self._finder = ThreadPoolExecutor(1, "outputs-find")
        self._backlogs = self._finisher.backlogs
        self._submitted_bytes = self._written_bytes = 0  # each counted by one thread
        self._n_opened = 0  # files
        self._retry_at = self._save_at = 0.0  # s of the clock
        self._failing: set[Backlog] = set()  # cannot be written now
        self._dirty: set[Backlog] = set()  # have records that the stored positions do not include

    def run(self) -> None:
        """Do jobs until `stop`; then finish or leave all files."""
        while (backlog := self._next()) is not None:
            self._turn(backlog, _TURN_S)
        for backlog in list(self._backlogs.values()):
            if self._positions is None and not backlog.ending:
                backlog.ending = True
                backlog.jobs.append(CloseFiles())
            self._do_all(backlog)
            if not backlog.ending:
                backlog.files.park()
        self._finder.shutdown(wait=False, cancel_futures=True)
        self._finisher.stop()

    def _do_all(self, backlog: Backlog) -> None:
        tried = False
        while backlog.jobs and not (tried and backlog.reason):
            while not self._is_free(backlog):
                time.sleep(0.01)
            self._turn(backlog, float("inf"))
            tried = True

    # --- called by the IO thread ---

    def find_session(
        self, name: str, kinds: Sequence[str], message: Open, done: Callable[[EarlierSession | None], None]
    ) -> None:
        """Look for the files of a client's session that a daemon without a journal has left when it was killed.

        `take_progress` then returns `done` with them, or with None.

        Args:
            name: of the stream.
            kinds: the formats.
            message: the stream's `open`.
            done: called on the IO thread.
        """
        info, session = _info(message), message.session
        if session is None or self._positions is not None or name in self._backlogs:
            self._progress.tell(partial(done, None))
            return

        def find() -> None:
            found = None
            try:
                found = find_session(self._out_dir, info, kinds, session)
            except Exception:
                self._on_error()
                logger.exception("stream=%s: its earlier outputs could not be read", name)
            self._progress.tell(partial(done, found))

        self._finder.submit(find)

    def name_session(self, name: str, session: str) -> None:
        """Note that the client of another session has taken a stream over."""
        backlog = self._backlogs.get(name)
        if backlog is not None and backlog.files.log is not None and backlog.files.log.session is not None:
            backlog.files.log.session = session

    def open(
        self,
        name: str,
        kinds: Sequence[str],
        message: Open,
        opening: int = 0,
        settled_seq: int = -1,
        earlier: EarlierSession | None = None,
        after_seq: int = -1,
    ) -> int:
        """Open a stream's files, or continue those of an earlier daemon.

        Args:
            name: of the stream.
            kinds: the formats.
            message: the stream's `open`.
            opening: the epoch in which the stream was opened.
            settled_seq: of a stream that an earlier daemon opened: its last settled frame.
            earlier: what `find_session` found.
            after_seq: the last frame that another member of a fleet has written into files of its own.

        Returns:
            The last frame that is in the files; the caller writes those after it. −1: none.
        """
        info = _info(message)
        log = None
        if self._positions is None:
            log = SessionLog(self._out_dir, info, kinds, message.session, earlier)
        files = StreamFiles(self._out_dir, kinds, info, self._on_error, self._positions, opening, settled_seq, log)
        written = max(files.stored_seq, after_seq)
        backlog = Backlog(name, files, len(kinds), written_seq=written, skipped_seq=written)
        self._n_opened += backlog.n_files
        self._finisher.add(backlog)
        self._submit(backlog, OpenFiles())
        if files.stored_seq >= 0:
            self._on_saved(name, files.stored_seq)
        return files.stored_seq

    def finish_closed(self, open_streams: Collection[str]) -> None:
        """Finish what an earlier daemon had closed and not finished. Call this before any thread runs."""
        for name, stored in [] if self._positions is None else list(self._positions.streams()):
            if name not in open_streams:
                info = StreamInfo(name, None, None, None, None)
                files = StreamFiles(self._out_dir, list(stored.files), info, self._on_error)
                self._finisher.finish_left(Backlog(name, files))

    def write(self, name: str, seq: int, record: OutputRecord, nbytes: int = 0) -> None:
        """Write the record of one frame.

        Args:
            name: of the stream.
            seq: of the frame.
            record: the frame.
            nbytes: what its row in the journal takes, where that is more than the record.
        """
        backlog = self._backlogs[name]
        job = WriteFrame(seq, record, max(nbytes, record.nbytes))
        backlog.submitted += 1
        backlog.skipped_seq = seq
        backlog.submitted_bytes += job.nbytes
        self._submitted_bytes += job.nbytes
        self._submit(backlog, job)

    def skip(self, name: str, seq: int) -> None:
        """Note that a frame has no record: where many follow one another, the journal does not have to keep them."""
        backlog = self._backlogs[name]
        if self._positions is not None and not backlog.waiting and seq - backlog.skipped_seq >= _SAVE_RECORDS:
            backlog.skipped_seq = seq
            self._submit(backlog, SkipFrames(seq))

    def is_behind(self, name: str) -> bool:
        """Whether so many of a stream's records wait that it should send no more for now."""
        backlog = self._backlogs.get(name)
        if backlog is None or not backlog.waiting:
            return False
        behind = backlog.waiting > MOST_WAITING or self._over_bytes(backlog)
        backlog.awaited = backlog.awaited or behind
        return behind

    def _over_bytes(self, backlog: Backlog) -> bool:
        waiting_bytes = backlog.submitted_bytes - backlog.written_bytes
        return (
            waiting_bytes > self._max_bytes // _MOST_OF_ONE
            or self._submitted_bytes - self._written_bytes > self._max_bytes
        )

    def unwritten_span(self, name: str, seq: int) -> int:
        """Return how many frames the journal has to keep for a stream's files, up to `seq`."""
        backlog = self._backlogs.get(name)
        if backlog is None or self._positions is None or not backlog.waiting:
            return 0
        return seq - backlog.written_seq

    def written_seq(self, name: str, settled_seq: int) -> int:
        """Return up to which seq every settled frame of a stream is in its files, or has no record.

        Args:
            name: of the stream.
            settled_seq: its last settled frame.
        """
        backlog = self._backlogs.get(name)
        if backlog is None or not backlog.waiting:
            return settled_seq
        return backlog.written_seq

    def noted_seq(self, name: str) -> int | None:
        """Return a seq up to which a stream's files have all frames that have records; any thread may call it.

        None: the stream has no files here.
        """
        backlog = self._backlogs.get(name)
        if backlog is None:
            return None
        submitted_seq = backlog.skipped_seq  # read before `waiting`, which the other thread lowers
        return submitted_seq if not backlog.waiting else backlog.written_seq

    def take_progress(self) -> tuple[set[str], list[Callable[[], None]]]:
        """Return the streams whose records were written since the last call, and the calls of `end` that are done."""
        return self._progress.take()

    def fault(self, name: str | None = None) -> str | None:
        """Why a stream's files, or any stream's, cannot be written for now; None while they can. For any thread."""
        if name is not None:
            backlog = self._backlogs.get(name)
            return None if backlog is None else backlog.reason
        return next((backlog.reason for backlog in self._backlogs.copy().values() if backlog.reason is not None), None)

    @property
    def n_open_files(self) -> int:
        """The number of files that are open, or that are being finished."""
        return self._n_opened - self._finisher.n_finished

    @property
    def paths(self) -> list[Path]:
        """The files that are finished."""
        return self._finisher.paths

    @property
    def unfinished(self) -> list[Path]:
        """The files that could not be finished, and that nothing has finished since."""
        return self._finisher.unfinished

    def end(self, name: str, done: Callable[[], None]) -> None:
        """Write all records of a stream that closes; `take_progress` then returns `done`."""
        backlog = self._backlogs.get(name)
        if backlog is None:  # the stream could not be opened
            self._progress.tell(done)
            return
        backlog.ending = True
        self._submit(backlog, EndFiles(done), now=True)

    def close(self, name: str) -> None:
        """Finish a stream's files."""
        backlog = self._backlogs.get(name)
        if backlog is not None:
            backlog.ending = True
            self._submit(backlog, CloseFiles(), now=True)

    def stop(self) -> None:
        """Make `run` do what waits and return."""
        self._turns.put(None)

    def _submit(self, backlog: Backlog, job: Job, *, now: bool = False) -> None:
        backlog.jobs.append(job)
        if now or not (backlog.queued or backlog.reason):
            backlog.queued = True
            self._turns.put(backlog)

    # --- on the outputs thread ---

    def _next(self) -> Backlog | None:
        """The stream whose turn is next; None at the end."""
        while True:
            now = self._clock()
            if self._failing and now >= self._retry_at:
                self._retry_at = now + _RETRY_S
                for backlog in list(self._failing):
                    self._turn(backlog, _TURN_S)
            if self._dirty and now >= self._save_at:
                self._save_idle()
            due = [self._retry_at] * bool(self._failing) + [self._save_at] * bool(self._dirty)
            try:
                return self._turns.get(timeout=max(0.0, min(due) - now)) if due else self._turns.get()
            except queue.Empty:
                continue

    def _turn(self, backlog: Backlog, for_s: float) -> None:
        """Do jobs of one stream, for some time."""
        until = self._clock() + for_s
        backlog.queued = False  # a job that is added from here on brings another turn
        try:
            while backlog.jobs and self._is_free(backlog) and not self._prepare(backlog):
                if backlog.unsaved >= _SAVE_RECORDS or backlog.unsaved_bytes >= _SAVE_BYTES:
                    self._save(backlog)
                self._do(backlog, backlog.jobs[0])
                backlog.jobs.popleft()
                if backlog.reason is not None:
                    self._recovered(backlog)
                if backlog.jobs and self._clock() >= until:
                    self._turns.put(backlog)
                    return
        except OSError as error:
            self._hold(backlog, error)
        except Exception:
            self._on_error()
            logger.exception("stream=%s: an output could not be written", backlog.name)
            job = backlog.jobs.popleft()
            if isinstance(job, EndFiles):
                self._progress.tell(job.done)
            elif isinstance(job, WriteFrame):
                self._count(backlog, job)
            self._turns.put(backlog)

    @staticmethod
    def _is_free(backlog: Backlog) -> bool:
        """Whether no earlier file of the stream's name is being finished; the end of that brings another turn."""
        if backlog.previous is not None and backlog.previous.finished:
            backlog.previous = None
        return backlog.previous is None and not backlog.preparing

    def _prepare(self, backlog: Backlog) -> bool:
        """Have the parts of a process that was killed finished on the other thread; whether there are any."""
        if backlog.prepared:
            return False
        backlog.prepared = True
        if backlog.files.parts_left:
            self._finisher.finish_parts(backlog)
        return backlog.preparing

    def _do(self, backlog: Backlog, job: Job) -> None:
        match job:
            case OpenFiles():
                backlog.files.open()
            case WriteFrame():
                backlog.files.write(job.seq, job.record)
                self._count(backlog, job)
            case SkipFrames():
                backlog.files.skip(job.seq)
                self._save(backlog)
            case EndFiles():
                self._save(backlog)
                self._progress.tell(job.done)
            case CloseFiles():
                self._dirty.discard(backlog)
                self._finisher.finish(backlog)

    def _count(self, backlog: Backlog, job: WriteFrame) -> None:
        """Count a record that is written, or lost."""
        backlog.written_seq = job.seq
        backlog.written_bytes += job.nbytes
        backlog.written += 1
        self._written_bytes += job.nbytes
        if self._positions is None:
            self._progress.tell(backlog.name)
            return
        if not self._dirty:
            self._save_at = self._clock() + _SAVE_S
        self._dirty.add(backlog)
        if backlog.awaited and backlog.waiting <= MOST_WAITING // 2 and not self._over_bytes(backlog):
            backlog.awaited = False
            self._progress.tell(backlog.name)

    def _save(self, backlog: Backlog) -> None:
        """Store the positions of a stream's files; raises OSError where that fails."""
        seq = backlog.files.save()
        backlog.saved, backlog.saved_bytes = backlog.written, backlog.written_bytes
        self._dirty.discard(backlog)
        self._on_saved(backlog.name, seq)

    def _save_idle(self) -> None:
        self._save_at = self._clock() + _SAVE_S
        for backlog in list(self._dirty):
            try:
                self._save(backlog)
            except OSError as error:  # repeated, and the stream's next records wait for it
                logger.debug("stream=%s: the positions of its outputs cannot be stored: %s", backlog.name, error)

    def _hold(self, backlog: Backlog, error: OSError) -> None:
        """Let a stream's jobs wait; where the stream closes, drop those that cannot be done."""
        named = "" if error.filename is None else f" {error.filename}"
        reason = f"the output{named} cannot be written: {error.strerror or error}"
        if backlog.ending and isinstance(backlog.jobs[0], OpenFiles | WriteFrame | SkipFrames):
            self._give_up(backlog, backlog.reason or reason)
            return
        if backlog.reason is None:
            logger.error("stream=%s: %s; its frames wait until it can be", backlog.name, reason)
        if not self._failing:
            self._retry_at = self._clock() + _RETRY_S
        self._failing.add(backlog)
        backlog.reason = reason

    def _recovered(self, backlog: Backlog) -> None:
        backlog.reason = None
        self._failing.discard(backlog)
        logger.warning("stream=%s: its outputs can be written again, and no record of them is missing", backlog.name)

    def _give_up(self, backlog: Backlog, reason: str) -> None:
        """Drop the jobs of a stream that closes while its disk cannot be written, and log the lost frames."""
        backlog.files.end_session()  # what is in the output files is not lost because the log cannot be written
        lost = []
        while backlog.jobs and isinstance(job := backlog.jobs[0], OpenFiles | WriteFrame | SkipFrames):
            try:
                self._do(backlog, job)  # the stream's other files may be on a disk that can be written
            except OSError:
                self._on_error()
                if isinstance(job, WriteFrame):
                    self._count(backlog, job)
                    lost.append(job.record.frame_index)
            backlog.jobs.popleft()
        backlog.reason = None
        self._failing.discard(backlog)
        frames = f"frame_index={lost[0]} to {lost[-1]}" if lost else "it had none"
        logger.error("stream=%s: %s; %d frames are lost to it: %s", backlog.name, reason, len(lost), frames)
        self._turns.put(backlog)


def _info(message: Open) -> StreamInfo:
    return StreamInfo(message.stream, message.skeleton, message.source, message.frame_shape, None)
