"""The frames of one step, on their way through it: features and ids of all streams together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.stream import StreamState
from trackd.models.errors import FrameError
from trackd.tracking.scorer import EncodeRequest, Scorer, by_batch
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
    for group in by_batch(pending, _scorer):
        _encode_group(group)


def _scorer(one: Pending) -> Scorer:
    return one.encoding.scorer


def _encode_group(group: Sequence[Pending]) -> None:
    try:
        features = type(group[0].encoding.scorer).encode_batch([one.encoding for one in group])
    except Exception as error:
        if len(group) > 1:  # encoding changes nothing: whose fault it is shows when each is asked alone
            for one in group:
                _encode_group([one])
        elif isinstance(error, FrameError):
            group[0].error = ProtocolError(ErrorCode.INVALID_FRAME, str(error))
        else:
            group[0].error = error
        return
    for one, its_features in zip(group, features, strict=True):
        one.features = its_features


def associate(pending: Sequence[Pending]) -> None:
    """Give the instances of all frames their ids."""
    sound = [one for one in pending if one.error is None]
    steps = [one.state.step(one.item.frame, one.encoding.instances, one.features) for one in sound]
    for one, result in zip(sound, step_together(steps), strict=True):
        if isinstance(result, Exception):
            one.error = result
        else:
            one.assignment = result
