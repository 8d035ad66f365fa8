"""The frames of one step, on their way through it: features and ids of all streams together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.models.errors import FrameError
from trackd.tracking.scorer import EncodeRequest, Scorer, ask_together
from trackd.tracking.step import step_together
from trackd.tracking.tracker import Assignment
from trackd_client.protocol import ErrorCode, ProtocolError


@dataclass(slots=True, eq=False)
class Pending:
    """One stream's frame, and what has become of it so far; what fails is its own."""

    queue: StreamQueue
    item: QueuedFrame
    state: StreamState
    encoding: EncodeRequest
    features: Any = None
    assignment: Assignment | None = None
    error: Exception | None = None


def encode(pending: Sequence[Pending]) -> None:
    """Make the features of all frames: one pass for all that share a model."""

    def ask(scorers: type[Scorer], group: list[Pending]) -> list[Any]:
        return scorers.encode_batch([one.encoding for one in group])

    for one, found in zip(pending, ask_together(pending, lambda one: one.encoding.scorer, ask), strict=True):
        if isinstance(found, FrameError):
            one.error = ProtocolError(ErrorCode.INVALID_FRAME, str(found))
        elif isinstance(found, Exception):
            one.error = found
        else:
            one.features = found


def associate(pending: Sequence[Pending]) -> None:
    """Give the instances of all frames their ids."""
    sound = [one for one in pending if one.error is None]
    steps = [one.state.step(one.item.frame, one.encoding.instances, one.features) for one in sound]
    for one, result in zip(sound, step_together(steps), strict=True):
        if isinstance(result, Exception):
            one.error = result
        else:
            one.assignment = result
