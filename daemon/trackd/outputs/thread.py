"""The outputs thread: writes settled frames to files, so that neither the IO thread nor the engine waits for a disk."""

from __future__ import annotations

import errno
import logging
import queue
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, open_writer
from trackd_client.protocol import Open

logger = logging.getLogger(__name__)

# The most records of one stream that may wait. Beyond that the stream's frames wait, or its own overload policy drops
# them, before they are accepted. So no record of an accepted frame is dropped, memory is bounded, and no other stream
# waits.
MOST_WAITING = 256
_RETRY_S = 0.5


@dataclass(slots=True)
class OpenFiles:
    """Open a stream's files; a repeated attempt opens the remaining ones."""

    kinds: list[str]  # still to be opened
    info: StreamInfo
    tried: bool = False


@dataclass(slots=True)
class WriteFrame:
    """Write one frame; a repeated attempt skips the writers that are done."""

    record: OutputRecord
    done: list[Writer] = field(default_factory=list)


@dataclass(slots=True)
class CloseFiles:
    """Finish a stream's files."""


Job = OpenFiles | WriteFrame | CloseFiles


class HeldJobs:
    """A stream's jobs that wait because the first of them failed with an OSError."""

    def __init__(self, first: Job, reason: str) -> None:
        self.jobs: deque[Job] = deque([first])
        self.reason = reason


class OutputsThread:
    """One thread, any number of writers by stream; a second thread finishes the files of closed streams.

    Where a disk cannot be written (it is full, read-only, unplugged), the stream's jobs are held and tried again.
    Its records wait, then its frames; other streams do not. A stream that closes in this state loses the waiting
    records, and the log names them.

    Args:
        out_dir: the folder of all output files.
        on_error: called once for every record or file that was not written and will not be.
        on_caught_up: called when a stream is no longer behind.
        clock: monotonic seconds, for the time of the next attempt.
    """

    def __init__(
        self,
        out_dir: Path,
        on_error: Callable[[], None],
        on_caught_up: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._out_dir = out_dir
        self._on_error = on_error
        self._on_caught_up = on_caught_up
        self._clock = clock
        self._caught_up = False
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()  # bounded by `is_behind`
        self._submitted: Counter[str] = Counter()  # records, by stream; only the IO thread counts here
        self._written: Counter[str] = Counter()  # only the outputs thread counts here
        self._writers: dict[str, list[Writer]] = {}
        self._failing: set[Writer] = set()
        self._held: dict[str, HeldJobs] = {}  # by stream
        self._retry_at = 0.0  # s of the clock
        # A long stream's .slp takes a minute to finish; the other streams' frames do not wait for it.
        self._finisher = ThreadPoolExecutor(1, "outputs-finish")
        self._finishing: dict[str, Future[None]] = {}
        self.paths: list[Path] = []

    def run(self) -> None:
        """Do jobs until `stop`; then finish all files."""
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                self._on_error()
                logger.exception("an output could not be written")
        for name in list(self._writers):
            self._do_or_hold(name, CloseFiles())
        self._finisher.shutdown(wait=True)

    # --- called by the IO thread ---

    def open(self, name: str, kinds: Sequence[str], message: Open) -> None:
        """Open a stream's files."""
        info = StreamInfo(name, message.skeleton, message.source, message.frame_shape, None)
        self._jobs.put(lambda: self._do_or_hold(name, OpenFiles(list(kinds), info)))

    def write(self, name: str, record: OutputRecord) -> None:
        """Write the record of one frame."""
        self._submitted[name] += 1
        self._jobs.put(lambda: self._do_or_hold(name, WriteFrame(record)))

    def is_behind(self, name: str) -> bool:
        """Whether so many of a stream's records wait that it should send no more for now."""
        return self._submitted[name] - self._written[name] > MOST_WAITING

    def caught_up(self) -> bool:
        """Whether any stream has stopped being behind since the last call."""
        was, self._caught_up = self._caught_up, False
        return was

    def fault(self, name: str | None = None) -> str | None:
        """Why a stream's files, or any stream's, cannot be written for now; None while they can. For any thread."""
        held = self._held.copy()
        if name is None:
            return next((stream.reason for stream in held.values()), None)
        return held[name].reason if name in held else None

    def close(self, name: str) -> None:
        """Finish a stream's files."""
        self._jobs.put(lambda: self._do_or_hold(name, CloseFiles()))

    def stop(self) -> None:
        """Make `run` finish all files and return."""
        self._jobs.put(None)

    # --- on the outputs thread ---

    def _next(self) -> Callable[[], None] | None:
        if not self._held:
            return self._jobs.get()
        try:
            wait_s = self._retry_at - self._clock()
            return self._jobs.get(timeout=wait_s) if wait_s > 0 else self._retry
        except queue.Empty:
            return self._retry

    def _do_or_hold(self, name: str, job: Job) -> None:
        """Do a stream's job, or append it to the jobs that are held."""
        held = self._held.get(name)
        if held is None:
            try:
                self._do(name, job)
            except OSError as error:
                logger.error("stream=%s: %s; its frames wait until it can be", name, _reason(error))
                if not self._held:
                    self._retry_at = self._clock() + _RETRY_S
                self._held[name] = HeldJobs(job, _reason(error))
        elif not isinstance(job, CloseFiles):
            held.jobs.append(job)
        else:
            self._try(name, held)
            if name in self._held:
                self._give_up(name, held)
            self._do(name, job)

    def _retry(self) -> None:
        self._retry_at = self._clock() + _RETRY_S
        for name, held in list(self._held.items()):
            self._try(name, held)

    def _try(self, name: str, held: HeldJobs) -> None:
        try:
            while held.jobs:
                self._do(name, held.jobs[0])
                held.jobs.popleft()
        except OSError as error:
            held.reason = _reason(error)
            return
        del self._held[name]
        logger.warning("stream=%s: its outputs can be written again, and no record of them is missing", name)

    def _give_up(self, name: str, held: HeldJobs) -> None:
        """Drop the held jobs of a stream that closes while its disk cannot be written, and log the lost frames."""
        del self._held[name]
        lost = []
        for job in held.jobs:
            try:
                self._do(name, job)  # the stream's other files may be on a disk that can be written
            except OSError:
                self._on_error()
                if isinstance(job, WriteFrame):
                    self._written[name] += 1
                    lost.append(job.record.frame_index)
        frames = f"frame_index={lost[0]} to {lost[-1]}" if lost else "it had none"
        logger.error("stream=%s: %s; %d frames are lost to it: %s", name, held.reason, len(lost), frames)

    def _do(self, name: str, job: Job) -> None:
        match job:
            case OpenFiles():
                self._open(name, job)
            case WriteFrame():
                self._write(name, job)
            case CloseFiles():
                self._close(name)

    def _open(self, name: str, job: OpenFiles) -> None:
        if not job.tried:
            job.tried = True
            self._close(name)
            if name in self._finishing:
                self._finishing.pop(name).result()  # it writes the same file
            self._writers[name] = []
        while job.kinds:
            try:
                self._writers[name].append(open_writer(job.kinds[0], self._out_dir, job.info))
            except Exception as error:  # the other outputs are written all the same
                if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                    raise
                self._on_error()
                logger.exception("stream=%s: the output %s cannot be written", name, job.kinds[0])
            job.kinds.pop(0)

    def _write(self, name: str, job: WriteFrame) -> None:
        unwritten: OSError | None = None
        for writer in self._writers.get(name, ()):
            if writer in job.done:
                continue
            try:
                writer.write(job.record)
            except OSError as error:
                unwritten = OSError(error.errno, error.strerror or str(error), str(writer.path))
                continue
            except Exception:
                self._on_error()
                # Such a writer fails with every frame: each failure is counted, only the first is logged.
                if writer not in self._failing:
                    self._failing.add(writer)
                    logger.exception("stream=%s frame_index=%d: %s", name, job.record.frame_index, writer.path)
            job.done.append(writer)
        if unwritten is not None:
            raise unwritten
        self._written[name] += 1
        if self._submitted[name] - self._written[name] == MOST_WAITING // 2:
            self._caught_up = True
            self._on_caught_up()

    def _close(self, name: str) -> None:
        writers = self._writers.pop(name, [])
        if writers:
            self._failing.difference_update(writers)
            self._finishing = {other: future for other, future in self._finishing.items() if not future.done()}
            self._finishing[name] = self._finisher.submit(self._finish, writers)

    def _finish(self, writers: Sequence[Writer]) -> None:
        for writer in writers:
            try:
                writer.close()
                self.paths.append(writer.path)
            except Exception as error:
                self._on_error()
                logger.error(
                    "%s could not be finished; if its .part exists, `trackd outputs recover %s` finishes it: %s",
                    writer.path, writer.path.parent, error, exc_info=not isinstance(error, OSError),
                )  # fmt: skip


def _reason(error: OSError) -> str:
    named = "" if error.filename is None else f" {error.filename}"
    return f"the output{named} cannot be written: {error.strerror or error}"
