"""The outputs thread: writes settled frames to files, off the hot path."""

from __future__ import annotations

import errno
import logging
import queue
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trackd.outputs.held import Close, Held, Job, Open, Write
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, open_writer
from trackd_client.detections import Detections
from trackd_client.protocol import Open as OpenMessage
from trackd_client.protocol import Status, Tracks

logger = logging.getLogger(__name__)

# Records of one stream that may wait. Beyond that the stream's frames wait or are shed by its own policy, before
# they are accepted: a record that was asked for is never left out, memory stays bounded, and no other stream waits.
MOST_WAITING = 256
_RETRY_S = 0.5


class OutputsThread:
    """One thread, any number of writers by stream; a second finishes the files of streams that have ended.

    What a disk does not take (it is full, read-only, gone) is kept and tried again: the stream's records wait, then its
    frames do, and no other stream's. A stream that ends while they wait loses them, and the log says which.

    Args:
        out_dir: where files go.
        on_error: called once for every record or file that was not written and will not be.
        on_caught_up: called when a stream that was behind is so no longer.
    """

    def __init__(
        self, out_dir: Path, on_error: Callable[[], None], on_caught_up: Callable[[], None] = lambda: None
    ) -> None:
        self._out_dir = out_dir
        self._on_error = on_error
        self._on_caught_up = on_caught_up
        self._caught_up = False
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue()  # bounded by `is_behind`
        self._asked: Counter[str] = Counter()  # records, by stream; the IO thread counts here,
        self._written: Counter[str] = Counter()  # and the outputs thread here
        self._writers: dict[str, list[Writer]] = {}
        self._failing: set[Writer] = set()
        self._held: dict[str, Held] = {}  # streams whose disk takes nothing for now
        self._retry_at = 0.0  # monotonic s
        # A long stream's .slp takes a minute to finish; the other streams' frames do not wait for it.
        self._finisher = ThreadPoolExecutor(1, "outputs-finish")
        self._finishing: dict[str, Future[None]] = {}
        self.paths: list[Path] = []

    def run(self) -> None:
        """The thread's life."""
        while (job := self._next()) is not None:
            try:
                job()
            except Exception:
                self._on_error()
                logger.exception("an output could not be written")
        for name in list(self._writers):
            self._take(name, Close())
        self._finisher.shutdown(wait=True)

    # --- asked for by the IO thread ---

    def open(self, name: str, kinds: Sequence[str], message: OpenMessage) -> None:
        """Begin a stream's files."""
        info = StreamInfo(name, message.skeleton, message.source, message.frame_shape, None)
        self._jobs.put(lambda: self._take(name, Open(kinds, info)))

    def write(self, name: str, tracks: Tracks, detections: Detections | None) -> None:
        """Write one settled frame; those that were not tracked have nothing to write."""
        record = record_of(tracks, detections)
        if record is not None:
            self._asked[name] += 1
            self._jobs.put(lambda: self._take(name, Write(record)))

    def is_behind(self, name: str) -> bool:
        """Whether so many of a stream's records wait that it should send no more for now."""
        return self._asked[name] - self._written[name] > MOST_WAITING

    def caught_up(self) -> bool:
        """Whether a stream that was behind is so no longer, since this was asked last."""
        was, self._caught_up = self._caught_up, False
        return was

    def fault(self, name: str | None = None) -> str | None:
        """Why a stream's files cannot be written for now, or any stream's; None while they can. For any thread."""
        held = self._held.copy()
        if name is None:
            return next((stream.why for stream in held.values()), None)
        return held[name].why if name in held else None

    def close(self, name: str) -> None:
        """Finish a stream's files."""
        self._jobs.put(lambda: self._take(name, Close()))

    def stop(self) -> None:
        """Have `run` finish all files and return."""
        self._jobs.put(None)

    # --- on the outputs thread ---

    def _next(self) -> Callable[[], None] | None:
        if not self._held:
            return self._jobs.get()
        try:
            wait_s = self._retry_at - time.monotonic()
            return self._jobs.get(timeout=wait_s) if wait_s > 0 else self._retry
        except queue.Empty:
            return self._retry

    def _take(self, name: str, job: Job) -> None:
        """Do a stream's next job, or keep it behind those that could not be done."""
        held = self._held.get(name)
        if held is None:
            try:
                self._do(name, job)
            except OSError as error:
                logger.error("stream=%s: %s; its frames wait until it can be", name, _why(error))
                if not self._held:
                    self._retry_at = time.monotonic() + _RETRY_S
                self._held[name] = Held(job, _why(error))
        elif not isinstance(job, Close):
            held.jobs.append(job)
        else:
            self._try(name, held)
            if name in self._held:
                self._give_up(name, held)
            self._do(name, job)

    def _retry(self) -> None:
        self._retry_at = time.monotonic() + _RETRY_S
        for name, held in list(self._held.items()):
            self._try(name, held)

    def _try(self, name: str, held: Held) -> None:
        try:
            while held.jobs:
                self._do(name, held.jobs[0])
                held.jobs.popleft()
        except OSError as error:
            held.why = _why(error)
            return
        del self._held[name]
        logger.warning("stream=%s: its outputs can be written again, and nothing of them is missing", name)

    def _give_up(self, name: str, held: Held) -> None:
        """The stream ends and its disk takes nothing: what waited is lost, and this says what."""
        del self._held[name]
        lost = []
        for job in held.jobs:
            try:
                self._do(name, job)
            except OSError:  # its other files take what they can
                self._on_error()
                if isinstance(job, Write):
                    self._written[name] += 1
                    lost.append(job.record.frame_index)
        which = f"frame_index={lost[0]} to {lost[-1]}" if lost else "it had none"
        logger.error("stream=%s: %s; %d frames are lost to it: %s", name, held.why, len(lost), which)

    def _do(self, name: str, job: Job) -> None:
        match job:
            case Open():
                self._open(name, job)
            case Write():
                self._write(name, job)
            case Close():
                self._close(name)

    def _open(self, name: str, job: Open) -> None:
        if not job.tried:
            job.tried = True
            self._close(name)
            if name in self._finishing:
                self._finishing.pop(name).result()  # it writes the same file
            self._writers[name] = []
        while job.kinds:
            try:
                self._writers[name].append(open_writer(job.kinds[0], self._out_dir, job.info))
            except Exception as error:  # the others are written all the same
                if isinstance(error, OSError) and error.errno != errno.ENAMETOOLONG:
                    raise
                self._on_error()
                logger.exception("stream=%s: the output %s cannot be written", name, job.kinds[0])
            job.kinds.pop(0)

    def _write(self, name: str, job: Write) -> None:
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
                # One that fails fails again with every frame: counted each time, told once.
                if writer not in self._failing:
                    self._failing.add(writer)
                    logger.exception("stream=%s frame_index=%d: %s", name, job.record.frame_index, writer.path)
            job.done.append(writer)
        if unwritten is not None:
            raise unwritten
        self._written[name] += 1
        if self._asked[name] - self._written[name] == MOST_WAITING // 2:
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
                    "%s could not be finished; if its .part is there, `trackd outputs recover %s` makes it of that: %s",
                    writer.path, writer.path.parent, error, exc_info=not isinstance(error, OSError),
                )  # fmt: skip


def _why(error: OSError) -> str:
    named = "" if error.filename is None else f" {error.filename}"
    return f"the output{named} cannot be written: {error.strerror or error}"


def record_of(tracks: Tracks, detections: Detections | None) -> OutputRecord | None:
    """A settled frame as writers take it; None for one that was not tracked."""
    if tracks.status is not Status.TRACKED or detections is None:
        return None
    assert tracks.track_ids is not None
    assert tracks.track_scores is not None
    assert tracks.boxes is not None
    return OutputRecord(
        frame_index=tracks.frame_index,
        t_ns=tracks.t_ns,
        track_ids=np.asarray(tracks.track_ids),
        track_scores=tracks.track_scores,
        boxes=tracks.boxes,
        keypoints=tracks.keypoints,
        keypoint_scores=detections.keypoint_scores,
        scores=tracks.scores,
        masks=detections.masks,
        parents=parents_of(tracks),
    )


def parents_of(tracks: Tracks) -> dict[int, int]:
    """The tracks that divided in a frame, by the new tracks that they divided into."""
    pairs = zip(tracks.new_tracks, tracks.parents, strict=True) if tracks.parents else ()
    return {child: parent for child, parent in pairs if parent >= 0}
