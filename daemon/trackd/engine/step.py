"""One step: a frame of each ready stream, from the queue to its settlement.

The file reads in order of time. `StepRunner.run` takes the work of a step; each frame becomes a `FrameStep`, which goes
through `prepare`, `encode`, `score` and `assign`, and ends in a `Settlement`. Frames whose scorers share a model go
through its passes together. An error in one frame stays in its `FrameStep` and stops no other stream.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from trackd.engine.image import decode_image, image_shape, is_jpeg
from trackd.engine.inbox import Inbox, Work
from trackd.engine.outcome import CommandResult, Outcome, Settlement, frame_record, skip_record
from trackd.engine.queue import Command, QueuedFrame, Skip, StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.models.errors import DecodeError, DeviceLostError, DeviceMemoryError, FrameError
from trackd.store.looks_writer import PendingLooks
from trackd.store.records import FrameRecord, Record
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import BatchScorer, Query, Scores
from trackd.tracking.tracker import Assignment
from trackd.tracking.window import State
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage, ErrorCode, FrameHead, ProtocolError, Status

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class FrameStep:
    """One frame of a step; each function below fills the fields that the next one reads."""

    queue: StreamQueue
    item: QueuedFrame
    state: StreamState
    image: Image | EncodedImage | None = None  # pixels, or a file that the scorer decodes, if it is needed
    instances: Instances | None = None
    features: Any = None  # one row per instance, opaque
    packing: Callable[[], State | None] | None = None  # ends the conversion of the features for the journal
    packed: State | None = None  # its result
    query: Query | None = None
    scores: Scores | None = None  # None also if there is nothing to compare
    assignment: Assignment | None = None
    corrected: bool = False  # the tracker was corrected after the frame, since its animals were identified
    looks: PendingLooks | None = None  # what was learnt of its animals, to be kept for a restart
    error: Exception | None = None  # of the first function that failed; later ones skip this frame


class StepRunner:
    """Runs steps. It holds the state of all streams; one thread at a time may call it."""

    def __init__(self, inbox: Inbox, journaling: bool, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Start without streams.

        Args:
            inbox: counts the settled frames.
            journaling: whether outcomes have the records that must be stored before they are published.
            clock: monotonic ns.
        """
        self.streams: dict[StreamQueue, StreamState] = {}
        self._inbox = inbox
        self._journaling = journaling
        self._clock = clock
        self._command_records: list[Record] = []  # of the command that runs

    def run(self, work: Sequence[Work], cuts: bool = False) -> list[Outcome]:
        """Run one step and return its outcomes, one for each item.

        Args:
            work: at most one item of each stream.
            cuts: between two functions, reject the frames whose step has taken longer than `limits.step_ms`.
        """
        taken_ns = self._clock()
        outcomes: list[Outcome] = []
        steps: list[FrameStep] = []
        measures = False
        for queue, item in work:
            if isinstance(item, Command):
                outcomes.append(self._execute(item))
            elif isinstance(item, Skip):
                outcomes.append(self._skip(queue, item, taken_ns))
            else:
                state = self.streams[queue]
                deadline_ms = state.settings.stream.deadline_ms
                if deadline_ms is not None and taken_ns - item.received_ns > deadline_ms * 1e6:
                    late = Skip(item.frame.head, Status.DROPPED, "deadline", item.received_ns)
                    outcomes.append(self._skip(queue, late, taken_ns))
                else:
                    steps.append(FrameStep(queue, item, state))
                    measures = measures or item.pairs > 0
        if steps:
            prepare(steps)
            encode(steps)
            if self._journaling:
                pack(steps)
            encoded_ns = self._clock()
            if cuts:
                _cut(steps, encoded_ns - taken_ns)
            score(steps)
            scored_ns = self._clock()
            if cuts:
                _cut(steps, scored_ns - taken_ns)
            assign(steps)
            associated_ns = self._clock()
            if measures:
                _measure(steps, encoded_ns - taken_ns, associated_ns - encoded_ns)
            outcomes += [self._finish(step, taken_ns, encoded_ns, scored_ns, associated_ns) for step in steps]
        return outcomes

    def record(self, make: Callable[[], Record]) -> None:
        """Store something before the running command's result is published; made only with a journal."""
        if self._journaling:
            self._command_records.append(make())

    def _execute(self, command: Command) -> CommandResult:
        self._command_records = []
        try:
            return CommandResult(command.done, command.run(), None, tuple(self._command_records))
        except DeviceLostError:
            raise
        except DeviceMemoryError as error:
            return CommandResult(command.done, None, ProtocolError(ErrorCode.DEVICE_OUT_OF_MEMORY, str(error)))
        except Exception as error:
            return CommandResult(command.done, None, error)

    def _finish(
        self, step: FrameStep, taken_ns: int, encoded_ns: int, scored_ns: int, associated_ns: int
    ) -> Settlement:
        """Settle a frame as tracked; as rejected if a function failed."""
        queue, item, state, frame = step.queue, step.item, step.state, step.item.frame
        records: tuple[Record, ...] = ()
        if step.error is None and self._journaling:
            try:
                records = state.stored(self._frame_record(step), frame.seq, step.corrected)
            except DeviceLostError:
                raise
            except Exception as error:
                step.error = error
        if step.error is not None:
            code, reason = _code_and_reason(step.error, frame.head)
            return self._skip(queue, Skip(frame.head, Status.REJECTED, reason, item.received_ns, code), taken_ns)
        queue.active_tracks = len(state.tracker.window.placed)
        settlement = Settlement(
            queue, frame, state.epoch, Status.TRACKED, item.received_ns, taken_ns, encoded_ns, scored_ns, associated_ns,
            None, None, frame.detections, step.instances, step.assignment, records, step.looks,
        )  # fmt: skip
        self._inbox.book(queue, frame.seq, Status.TRACKED, None, None)
        return settlement

    def _frame_record(self, step: FrameStep) -> FrameRecord:
        state = step.state
        assert step.instances is not None
        assert step.assignment is not None
        return frame_record(
            state.name, state.epoch, step.item.frame, step.instances, step.packed, step.assignment,
            state.settings.stream.outputs,
        )  # fmt: skip

    def _skip(self, queue: StreamQueue, skip: Skip, taken_ns: int) -> Settlement:
        """Settle a frame as dropped or rejected."""
        head, epoch = skip.head, self.streams[queue].epoch
        self._inbox.book(queue, head.seq, skip.status, skip.reason, skip.code)
        return Settlement(
            queue, head, epoch, skip.status, skip.received_ns, taken_ns, taken_ns, taken_ns, taken_ns,
            reason=skip.reason, code=skip.code,
            records=(skip_record(head, epoch, skip.status, skip.reason),) if self._journaling else (),
        )  # fmt: skip


def prepare(steps: Sequence[FrameStep]) -> None:
    """Make the instances of each frame, and decode its image if the scorer needs it."""
    for step in steps:
        _attempt(_prepare, step)


def _prepare(step: FrameStep) -> None:
    frame, state = step.item.frame, step.state
    detections, shape = frame.detections, state.frame_shape
    if frame.image is not None:
        if (state.scorer.needs_image or state.identification is not None) and len(detections):
            if state.scorer.decodes_jpeg and state.identification is None and is_jpeg(frame.image):
                step.image = cast(EncodedImage, frame.image)
            else:
                step.image = decode_image(frame.image)
        shape = _checked_shape("image", image_shape(frame.image), shape)
    if detections.masks is not None:
        shape = _checked_shape("masks", detections.masks.shape, shape)
    try:
        step.instances = Instances.of(
            detections, state.settings.dataset, state.skeleton, state.scorer.boxes_from, shape
        )
    except ValueError as error:
        raise ProtocolError(ErrorCode.INVALID_FRAME, str(error)) from None


def _checked_shape(what: str, shape: tuple[int, int] | None, known: tuple[int, int] | None) -> tuple[int, int] | None:
    """Return the size (h, w) of a frame: that of its image or masks, which must be the one that is known already."""
    if shape is not None and known is not None and shape != known:
        raise ProtocolError(
            ErrorCode.INVALID_FRAME,
            f"{what} must have the frame's size, which is {known[1]} × {known[0]} pixels; got {shape[1]} × {shape[0]}",
        )
    return shape or known


def encode(steps: Sequence[FrameStep]) -> None:
    """Compute the features of each frame."""
    _in_batches(steps, _encode, _encode_batch)


def _encode(step: FrameStep) -> None:
    assert step.instances is not None
    try:
        step.features = step.state.scorer.encode(step.image, step.instances)
    except DecodeError:
        assert step.item.frame.image is not None
        step.image = decode_image(step.item.frame.image)
        step.features = step.state.scorer.encode(step.image, step.instances)


def _encode_batch(scorers: list[BatchScorer], steps: list[FrameStep]) -> None:
    instances = [cast(Instances, step.instances) for step in steps]
    results = scorers[0].encode_batch(scorers, [step.image for step in steps], instances)
    for step, features in zip(steps, results, strict=True):
        step.features = features


def pack(steps: Sequence[FrameStep]) -> None:
    """Start to convert the features of each frame for the journal, beside the next functions."""
    for step in steps:
        if step.error is None and step.features is not None:
            _attempt(_pack, step)


def _pack(step: FrameStep) -> None:
    step.packing = step.state.scorer.pack(step.features)


def score(steps: Sequence[FrameStep]) -> None:
    """Compute the logits of each frame against its stream's tracks."""
    for step in steps:
        if step.error is None:
            _attempt(_begin, step)
    _in_batches([step for step in steps if _has_pairs(step)], _score, _score_batch)


def _begin(step: FrameStep) -> None:
    frame, state, instances = step.item.frame, step.state, step.instances
    assert instances is not None
    position = frame.seq - state.first_seq
    step.query = state.tracker.begin(frame.frame_index, frame.t_ns, instances, step.features, position)
    if state.scorer.can_undo:  # the scorer has memory on a device
        state.tracker.reserve(step.query)


def _has_pairs(step: FrameStep) -> bool:
    query = step.query
    return query is not None and len(query.live_slots) > 0 and len(query.rows) > 0


def _score(step: FrameStep) -> None:
    assert step.query is not None
    step.scores = step.state.scorer.score(step.query)


def _score_batch(scorers: list[BatchScorer], steps: list[FrameStep]) -> None:
    results = scorers[0].score_batch(scorers, [cast(Query, step.query) for step in steps])
    for step, scores in zip(steps, results, strict=True):
        step.scores = scores


def assign(steps: Sequence[FrameStep]) -> None:
    """Give the instances of each frame their track ids, and update its stream's tracks."""
    for step in steps:
        if step.error is None and step.packing is not None:
            _attempt(_end_packing, step)
        if step.error is None:
            _attempt(_assign, step)
        elif step.query is not None:  # nothing of a frame that is rejected stays
            step.state.tracker.undo(step.query)


def _end_packing(step: FrameStep) -> None:
    assert step.packing is not None
    step.packed = step.packing()


def _assign(step: FrameStep) -> None:
    assert step.query is not None
    step.assignment = step.state.tracker.finish(step.query, step.scores)
    if step.state.identification is not None:
        _identify(step)


def _identify(step: FrameStep) -> None:
    state, frame = step.state, step.item.frame
    assert state.identification is not None
    assert step.instances is not None
    assert step.assignment is not None
    try:
        step.corrected = state.identification.observe(
            state.tracker,
            frame.frame_index,
            frame.t_ns,
            cast(Image | None, step.image),
            step.instances,
            step.assignment,
            keep=state.keeps_looks,
        )
        if state.keeps_looks:
            step.looks = state.pending_looks(frame.seq)
    except Exception:  # the frame is tracked all the same
        logger.error("stream=%s seq=%d: identities are not learnt any more", frame.stream, frame.seq, exc_info=True)
        state.identification = None


def _attempt(function: Callable[[FrameStep], None], step: FrameStep) -> None:
    try:
        function(step)
    except DeviceLostError:  # ends the process: no later step can succeed in it
        raise
    except Exception as error:
        step.error = error


def _in_batches(
    steps: Sequence[FrameStep],
    alone: Callable[[FrameStep], None],
    together: Callable[[list[BatchScorer], list[FrameStep]], None],
) -> None:
    """Call `together` for the steps of each batch key, and `alone` for every other step.

    If a batch fails, each of its steps is repeated alone, so that the error stays in the step that causes it. If it
    fails for lack of the device's memory, its halves are repeated.
    """
    batches: dict[tuple[type, Hashable], list[FrameStep]] = {}
    for step in steps:
        if step.error is None:
            scorer = step.state.scorer
            if scorer.batch_key is None:
                _attempt(alone, step)
            else:
                batches.setdefault((type(scorer), scorer.batch_key), []).append(step)
    waiting = list(batches.values())
    while waiting:
        batch = waiting.pop()
        if len(batch) > 1:
            try:
                together([cast(BatchScorer, step.state.scorer) for step in batch], batch)
                continue
            except DeviceLostError:
                raise
            except DeviceMemoryError:
                half = len(batch) // 2
                waiting += [batch[half:], batch[:half]]
                continue
            except Exception:
                logger.debug("a batch of %d frames failed; each is repeated alone", len(batch), exc_info=True)
        for step in batch:
            _attempt(alone, step)


def _cut(steps: Sequence[FrameStep], ns: int) -> None:
    """Reject frames whose step has taken `ns` so far, if that is too long and their tracks have not changed yet."""
    for step in steps:
        limit_ms = step.state.limits.step_ms
        if (
            step.error is None
            and limit_ms is not None
            and ns > limit_ms * 1e6
            and not (step.query is not None and step.query.ended)
        ):
            n = len(step.item.frame.detections)
            step.error = ProtocolError(
                ErrorCode.STEP_TOO_LONG,
                f"the step was stopped after {ns / 1e6:.0f} ms, with {n} instances and {step.queue.active_tracks} "
                f"tracks; limits.step_ms allows {limit_ms:g}",
            )


def _measure(steps: Sequence[FrameStep], encode_ns: int, associate_ns: int) -> None:
    """Note the time of a step for the streams' estimates; each one's part is that of its instances and pairs."""
    instances = sum(len(step.item.frame.detections) for step in steps)
    pairs = sum(step.item.pairs for step in steps)
    for step in steps:
        cut = isinstance(step.error, ProtocolError) and step.error.code is ErrorCode.STEP_TOO_LONG
        if step.item.pairs and (step.error is None or cut):
            share_n = len(step.item.frame.detections) / max(instances, 1)
            share = step.item.pairs / pairs
            step.queue.cost.measured(
                len(step.item.frame.detections), step.item.pairs, share_n * encode_ns, share * associate_ns
            )


def _code_and_reason(error: Exception, head: FrameHead) -> tuple[ErrorCode, str]:
    """Return what the client is told of a frame whose step failed; an unexpected error is also logged."""
    if isinstance(error, ProtocolError):
        return error.code, error.message
    if isinstance(error, FrameError):
        return ErrorCode.INVALID_FRAME, str(error)
    if isinstance(error, DeviceMemoryError):
        logger.warning("stream=%s seq=%d: rejected: %s", head.stream, head.seq, error)
        return ErrorCode.DEVICE_OUT_OF_MEMORY, str(error)
    logger.error("stream=%s seq=%d: the step failed", head.stream, head.seq, exc_info=error)
    return ErrorCode.INTERNAL, f"{type(error).__name__}: {error}"
