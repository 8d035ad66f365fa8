"""One step of several trackers at once: what their scorers can do together is done together.

The trackers are of different streams, and each gets what it would get alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trackd.tracking.instances import Instances
from trackd.tracking.pairing import Look, pair
from trackd.tracking.scorer import Scorer, ScoreRequest, Scores, ask_together

if TYPE_CHECKING:
    from trackd.tracking.tracker import Assignment, Tracker


@dataclass(slots=True, eq=False)
class Step:
    """What `Tracker.step` takes, for one of several trackers."""

    tracker: Tracker
    frame_index: int
    t_ns: int
    instances: Instances
    features: Any
    position: int


@dataclass(slots=True, eq=False)
class _Running:
    tracker: Tracker
    look: Look
    scores: Scores | None = None
    result: Assignment | None = None
    error: Exception | None = None


def step_together(steps: Sequence[Step]) -> list[Assignment | Exception]:
    """Assign the instances of one frame of each tracker; an error is its own tracker's."""
    begun = [_begin(step) for step in steps]
    running = [one for one in begun if isinstance(one, _Running)]
    _score([one for one in running if one.look.needs_scores])
    for one in running:
        if one.error is None:
            _settle(one)
    return [_result(one) if isinstance(one, _Running) else one for one in begun]


def _begin(step: Step) -> _Running | Exception:
    try:
        look = step.tracker.begin(step.frame_index, step.t_ns, step.instances, step.features, step.position)
    except Exception as error:
        return error
    return _Running(step.tracker, look)


def _settle(one: _Running) -> None:
    try:
        tracker = one.tracker
        paired = pair(one.look, one.scores, tracker.config, tracker.window, tracker.lifecycle.axes)
        one.result = tracker.finish(one.look, paired)
    except Exception as error:
        one.error = error


def _result(one: _Running) -> Assignment | Exception:
    return one.error or one.result or RuntimeError("a step gave neither ids nor an error")


def _scorer(one: _Running) -> Scorer:
    return one.tracker.scorer


def _score(running: Sequence[_Running]) -> None:
    def ask(scorers: type[Scorer], group: list[_Running]) -> list[Scores]:
        return scorers.score_batch([_request(one) for one in group])

    for one, found in zip(running, ask_together(running, _scorer, ask), strict=True):
        if isinstance(found, Exception):
            one.error = found
        else:
            one.scores = found


def _request(one: _Running) -> ScoreRequest:
    look = one.look
    return ScoreRequest(
        one.tracker.scorer, look.instances, look.features, look.frame_index, look.t_ns, one.tracker.window, look.live,
        look.complete,
    )  # fmt: skip
