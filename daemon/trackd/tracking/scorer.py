"""What turns instances and the window into association logits: the contract of all scorers.

Letters: n instances of the query frame, m of them assigned or born, R references, K pairs,
T distinct frames with the query.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.instances import BoxesFrom, Instances
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image

if TYPE_CHECKING:
    from trackd.config import StreamSettings


NEGLIGIBLE = 0.005  # a pair of a lower probability may be left out where not every pair is wanted


@dataclass(slots=True, eq=False)
class Scores:
    """Association logits of one frame against every reference."""

    logits: NDArray[np.float32]  # (n, R), or (K,) with pairs; 0 is as likely as "no match"
    slots: Slots  # (R,) the track of each reference
    frames: NDArray[np.int64]  # (R,) rank of each reference's frame, 0 the oldest, at most T − 2
    n_frames: int  # T
    pairs: NDArray[np.intp] | None = None  # (2, K) row, ascending, and reference of each logit; others cannot match
    one_each: bool = False  # one reference of each track, by ascending slot, all in one frame


@dataclass(slots=True, eq=False)
class EncodeRequest:
    """What `Scorer.encode` takes, for one of several scorers."""

    scorer: Scorer
    image: Image | None
    instances: Instances


@dataclass(slots=True, eq=False)
class ScoreRequest:
    """What `Scorer.score` takes, for one of several scorers."""

    scorer: Scorer
    instances: Instances
    features: Any
    frame_index: int
    t_ns: int
    window: RollingWindow
    live_slots: Slots
    complete: bool


Item = TypeVar("Item")
Result = TypeVar("Result")


def ask_together(
    items: Sequence[Item],
    scorer_of: Callable[[Item], Scorer],
    ask: Callable[[type[Scorer], list[Item]], Sequence[Result]],
) -> list[Result | Exception]:
    """What scorers answer to something that changes nothing: together where they can, in the order of the items.

    Where one makes a group fail, each of it is asked again alone: so it shows whose fault it is.

    Args:
        items: one for each scorer.
        scorer_of: an item's scorer.
        ask: calls a `…_batch` method of a class with items of one key.
    """
    if len(items) == 1:
        return [_ask_alone(type(scorer_of(items[0])), items[0], ask)]
    groups: dict[tuple[type[Scorer], Hashable], list[int]] = {}
    for place, item in enumerate(items):
        scorer = scorer_of(item)
        key = scorer.batch_key
        groups.setdefault((type(scorer), id(scorer) if key is None else key), []).append(place)
    answers: dict[int, Result | Exception] = {}
    for (scorers, _), places in groups.items():
        try:
            answers.update(zip(places, ask(scorers, [items[place] for place in places]), strict=True))
        except Exception as error:
            for place in places:
                answers[place] = error if len(places) == 1 else _ask_alone(scorers, items[place], ask)
    return [answers[place] for place in range(len(items))]


def _ask_alone(
    scorers: type[Scorer], item: Item, ask: Callable[[type[Scorer], list[Item]], Sequence[Result]]
) -> Result | Exception:
    try:
        return ask(scorers, [item])[0]
    except Exception as error:
        return error


class Scorer(ABC):
    """Scores instances against live tracks and keeps, by slot, what it needs for that.

    The tracker calls `score` and then `update` and `end`, once per frame, on one thread. `encode` may be called on
    other frames before; it must not touch what `score` reads. Everything must be a function of what came in, so
    that the same input gives the same logits.
    """

    boxes_from: BoxesFrom = "detection"
    needs_image: bool = False
    is_light: bool = False  # works in Python and on small arrays: milliseconds, in which nothing else can run

    @property
    def batch_key(self) -> Hashable | None:
        """Scorers of one class and one key may be called together by the `…_batch` methods; None: each alone."""
        return None

    @classmethod
    def encode_batch(cls, requests: Sequence[EncodeRequest]) -> list[Any]:
        """What `encode` gives for each, of scorers of one key."""
        return [each.scorer.encode(each.image, each.instances) for each in requests]

    @classmethod
    def score_batch(cls, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """What `score` gives for each, of different scorers of one key: the same, whoever else is in the batch."""
        return [
            each.scorer.score(
                each.instances, each.features, each.frame_index, each.t_ns, each.window, each.live_slots, each.complete
            )
            for each in requests
        ]

    def configure(self, settings: StreamSettings) -> None:  # noqa: B027
        """Go on with other settings from the next frame; the window's size comes by `resize`."""

    @abstractmethod
    def encode(self, image: Image | None, instances: Instances) -> Any:
        """Features of a frame's instances; opaque to the tracker, one row per instance.

        Changes nothing. Rows that are not `instances.valid` are never used. A feature that cannot be computed is
        zero, not NaN: a NaN that gets into the window would spoil later frames.

        Args:
            image: the frame, (h, w) or (h, w, c); None where it came without.
            instances: its instances.
        """

    def pack(self, features: Any) -> State | None:
        """What `encode` gave, as plain arrays to be stored; None where it was None."""
        assert features is None, "a scorer with features packs them"
        return None

    def unpack(self, packed: State | None) -> Any:
        """What `pack` was given, so that a stored frame can be tracked again."""
        return packed

    @abstractmethod
    def score(
        self,
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        window: RollingWindow,
        live_slots: Slots,
        complete: bool,
    ) -> Scores:
        """Logits of every instance against references of the live tracks.

        Called only when there are instances and live tracks. Changes nothing that a later call depends on, since
        the frame may still be given up. A row that is not `instances.valid` may hold anything. A NaN in a valid
        row leaves that row unassigned.

        Args:
            instances: (n) instances of the query frame.
            features: what `encode` gave for them.
            frame_index: the query frame's number.
            t_ns: its capture time, Unix ns.
            window: observations by slot.
            live_slots: ascending; the columns of all that follows.
            complete: every pair is wanted, since a rule of the configuration needs them. Otherwise a scorer with
                one reference per track, all in one frame and by ascending slot, may leave out pairs and tracks of a
                probability below `NEGLIGIBLE`.
        """

    @abstractmethod
    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        n_new: int,
    ) -> None:
        """Take in this frame's observations. Called for every frame, also when m is 0.

        Args:
            slots: (m,) the tracks that were seen, each once.
            rows: (m,) their rows in `instances`.
            positions: (m,) the window's ring positions that the observations went to.
            instances: as given to `score`.
            features: as given to `score`.
            frame_index: the frame's number.
            t_ns: its capture time.
            n_new: so many of them, the last ones, begin with this observation; their slots hold nothing yet.
        """

    @abstractmethod
    def end(self, slots: Slots) -> None:
        """Forget the tracks in these slots; the slots may be given to new tracks at once."""

    @abstractmethod
    def clear(self) -> None:
        """Forget all tracks; what was learnt about the stream may stay."""

    def resize(self, source: NDArray[np.int64]) -> None:  # noqa: B027
        """The window keeps another number of observations from now on.

        Args:
            source: (S, W) as `RollingWindow.resize` returns it.
        """

    @abstractmethod
    def snapshot(self, slots: Slots) -> State:
        """All that later logits depend on, as plain arrays and scalars, for the tracks in these slots."""

    @abstractmethod
    def restore(self, state: State, slots: Slots) -> None:
        """Become what `snapshot` saw, for the same slots."""
