"""The outputs thread: writes settled frames to files, off the hot path."""

from __future__ import annotations

import logging
import queue
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer, open_writer
from trackd_client.detections import Detections
from trackd_client.protocol import Open, Status, Tracks

logger = logging.getLogger(__name__)

# Records of one stream that may wait. Beyond that the stream's frames wait or are shed by its own policy, before
# they are accepted: a record that was asked for is never left out, memory stays bounded, and no other stream waits.
MOST_WAITING = 256


class OutputsThread:
    """One thread, any number of writers by stream; a second finishes the files of streams that have ended.

    Args:
        out_dir: where files go.
        on_error: called once for every record or file that could not be written.
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
        # A long stream's .slp takes a minute to finish; the other streams' frames do not wait for it.
        self._finisher = ThreadPoolExecutor(1, "outputs-finish")
        self._finishing: dict[str, Future[None]] = {}
        self.paths: list[Path] = []

    def run(self) -> None:
        """The thread's life."""
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                self._on_error()
                logger.exception("an output could not be written")
        for name in list(self._writers):
            self._close(name)
        self._finisher.shutdown(wait=True)

    def open(self, name: str, kinds: Sequence[str], message: Open) -> None:
        """Begin a stream's files."""
        info = StreamInfo(name, message.skeleton, message.source, message.frame_shape, None)
        self._jobs.put(lambda: self._open(name, kinds, info))

    def write(self, name: str, tracks: Tracks, detections: Detections | None) -> None:
        """Write one settled frame; those that were not tracked have nothing to write."""
        record = record_of(tracks, detections)
        if record is not None:
            self._asked[name] += 1
            self._jobs.put(lambda: self._write(name, record))

    def is_behind(self, name: str) -> bool:
        """Whether so many of a stream's records wait that it should send no more for now."""
        return self._asked[name] - self._written[name] > MOST_WAITING

    def caught_up(self) -> bool:
        """Whether a stream that was behind is so no longer, since this was asked last."""
        was, self._caught_up = self._caught_up, False
        return was

    def close(self, name: str) -> None:
        """Finish a stream's files."""
        self._jobs.put(lambda: self._close(name))

    def stop(self) -> None:
        """Have `run` finish all files and return."""
        self._jobs.put(None)

    def _open(self, name: str, kinds: Sequence[str], info: StreamInfo) -> None:
        self._close(name)
        if name in self._finishing:
            self._finishing.pop(name).result()  # it writes the same file
        self._writers[name] = []
        for kind in kinds:
            try:
                self._writers[name].append(open_writer(kind, self._out_dir, info))
            except Exception:  # the others are written all the same
                self._on_error()
                logger.exception("stream=%s: the output %s cannot be written", name, kind)

    def _write(self, name: str, record: OutputRecord) -> None:
        self._written[name] += 1
        if self._asked[name] - self._written[name] == MOST_WAITING // 2:
            self._caught_up = True
            self._on_caught_up()
        for writer in self._writers.get(name, ()):
            try:
                writer.write(record)
            except Exception:
                self._on_error()
                # One that fails fails again with every frame: counted each time, told once.
                if writer not in self._failing:
                    self._failing.add(writer)
                    logger.exception("stream=%s frame_index=%d: %s", name, record.frame_index, writer.path)

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
            except Exception:
                self._on_error()
                logger.exception("%s could not be finished", writer.path)


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
