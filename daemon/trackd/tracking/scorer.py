"""The contract of all scorers: association logits of a frame's instances against the tracks in the window.

Letters: n instances of the query frame, m matched, R references, K pairs, M live tracks,
T distinct frames with the query frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.forced import Forcing
from trackd.tracking.instances import BoxesFrom, Instances
from trackd.tracking.merging import Merged
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage

if TYPE_CHECKING:
    from trackd.config import StreamSettings


NEGLIGIBLE = 0.005  # a scorer may leave out pairs of a lower probability where `Query.complete` is false


@dataclass(slots=True, eq=False)
class Query:
    """One frame and what it is compared with. The tracker fills it before the scorer is called."""

    instances: Instances  # (n)
    features: Any  # of the instances, as `Scorer.encode` returned them
    frame_index: int
    t_ns: int  # capture time, Unix ns
    window: RollingWindow  # observations by slot
    live_slots: Slots  # (M,) ascending
    complete: bool  # the scorer must give a logit for every pair: a rule needs it
    rows: NDArray[np.intp]  # instances that take part in the association, ascending
    every_track: bool = False  # the scorer must not leave out a track: a rule could make it match
    axes: NDArray[np.float32] | None = None  # (n, 2) body axes, if the orientation rule is on
    last_axes: NDArray[np.float32] | None = None  # (S, 2) the tracks' last body axes by slot, with `axes`
    force: bool = False  # few or no more tracks may begin: pairs are accepted below their threshold
    forcing: Forcing | None = None  # with `force`: which of them; None: all
    merged: Merged | None = None  # if tracks are in one box: which
    ended: list[int] = field(default_factory=list)  # ids of the tracks that ended before this frame
    flags: list[str] = field(default_factory=list)  # of this frame, as in `Assignment.flags`
    before: State | None = None  # the tracker's state, if the frame has changed it and can be taken back


@dataclass(slots=True, eq=False)
class Scores:
    """Association logits of one frame against every reference."""

    logits: NDArray[np.float32]  # (n, R), or (K,) with pairs; 0 is as likely as "no match"
    slots: Slots  # (R,) the track of each reference
    frames: NDArray[np.int64]  # (R,) rank of each reference's frame, 0 the oldest, at most T − 2
    n_frames: int  # T
    pairs: NDArray[np.intp] | None = None  # (2, K) row, ascending, and reference of each logit; others cannot match
    caution: float = 0.0  # with `one_each`: by how much the logits are below the log odds of a match over a new object
    one_each: bool = False  # one reference of each track, by ascending slot, all in one frame


@dataclass(slots=True, eq=False)
class Matches:
    """Which instances are which tracks. The tracker adds the new tracks and writes the window, then calls `update`."""

    rows: NDArray[np.intp]  # (m,) instances that were matched
    slots: Slots  # (m,) their tracks, each once
    probabilities: NDArray[np.float32]  # (m − n_new,) 0 to 1
    unmatched: NDArray[np.intp]  # ascending rows without a track
    n_new: int = 0  # the last n_new of the m are new tracks, whose slots hold nothing of theirs yet
    positions: NDArray[np.int64] | None = None  # (m,) ring positions of the observations in the window
    hidden: Slots | None = None  # (h,) tracks that are in the box of another one; None: none
    hidden_rows: NDArray[np.intp] | None = None  # (h,) the instances, each of which another track was matched with
    doubtful: NDArray[np.intp] | None = None  # ascending rows without a track that begin none: `Scorer.doubtful`

    # --- changes after the association; the rows stay ascending up to the new tracks, which come last ---

    def add(self, rows: NDArray[np.intp], slots: Slots, probabilities: NDArray[np.float32]) -> None:
        """Match these (k,) rows, which have no track, with these tracks; before new tracks begin."""
        rows_of_all = np.concatenate([self.rows, rows])
        order = np.argsort(rows_of_all)
        self.rows = rows_of_all[order]
        self.slots = np.concatenate([self.slots, slots])[order]
        self.probabilities = np.concatenate([self.probabilities, probabilities])[order]
        self.unmatched = self.unmatched[~np.isin(self.unmatched, rows)]

    def take(self, chosen: NDArray[np.bool_]) -> tuple[NDArray[np.intp], Slots, NDArray[np.float32]]:
        """Remove the chosen ones of the (m,) matches, and return their rows, tracks and probabilities."""
        taken = self.rows[chosen], self.slots[chosen], self.probabilities[chosen]
        self.rows, self.slots = self.rows[~chosen], self.slots[~chosen]
        self.probabilities = self.probabilities[~chosen]
        return taken

    def free(self, chosen: NDArray[np.bool_]) -> None:
        """Make the rows of the chosen ones of the (m,) matches unmatched ones."""
        rows, _, _ = self.take(chosen)
        self.unmatched = np.sort(np.concatenate([self.unmatched, rows]))

    def begin(self, rows: NDArray[np.intp], slots: Slots) -> None:
        """Add new tracks, which begin with these (k,) rows."""
        self.rows, self.slots = np.concatenate([self.rows, rows]), np.concatenate([self.slots, slots])
        self.n_new += len(rows)


class Scorer(ABC):
    """Scores instances against live tracks and keeps, by slot, the state that it needs for that.

    For each frame the tracker calls `score`, then `end` and `update`, on one thread. `encode` comes before them; it may
    be called again for a frame, or for one that is not tracked, so it must not change what any call reads. All results
    must be a function of the arguments of earlier calls, so that the same input gives the same logits.
    """

    boxes_from: BoxesFrom = "detection"
    needs_image: bool = False
    decodes_jpeg: bool = False  # `encode` takes JPEG files too
    # True: a step runs in Python on small arrays. It takes milliseconds and holds the interpreter, so the IO thread may
    # run it inline.
    is_light: bool = False
    # True: the scorer learns how often objects are new. The tracker then learns whether they divide, `divisions: auto`,
    # and asks which detections are `doubtful`; with `max_tracks` no id goes to a place that its track cannot have
    # reached.
    learns_births: bool = False
    follows_merges: bool = False  # `merge` is called
    # True: `end` and `clear` change nothing that `score` reads, so a frame that cannot be scored can be taken back.
    can_undo: bool = False
    batch_key: Hashable | None = None  # set by a `BatchScorer`

    @property
    def closed(self) -> float:
        """The chance that no object comes or leaves, as far as it is learnt."""
        return 0.0

    def configure(self, settings: StreamSettings) -> None:  # noqa: B027
        """Use other settings from the next frame on. A new window size is passed to `resize`."""

    @abstractmethod
    def encode(self, image: Image | EncodedImage | None, instances: Instances) -> Any:
        """Compute the features of a frame's instances; opaque to the tracker, one row per instance.

        Changes no state. Rows that are not `instances.valid` are never used. A feature that cannot be computed is
        zero, not NaN: a NaN in the window would spoil later frames.

        Args:
            image: the frame, (h, w) or (h, w, c); None if it was sent without one; with `decodes_jpeg` also a file.
            instances: the frame's instances.
        """

    def pack(self, features: Any) -> Callable[[], State | None]:
        """Start to convert the result of `encode` to plain arrays for the journal; None stays None.

        Returns:
            A function that waits for the result; called once, after `score`.
        """
        assert features is None, "a scorer with features packs them"
        return lambda: None

    def unpack(self, packed: State | None) -> Any:
        """Convert the result of `pack` back, so that a journaled frame can be tracked again."""
        return packed

    @abstractmethod
    def score(self, query: Query) -> Scores:
        """Compute the logits of every instance against references of the live tracks.

        Called only if there are instances and live tracks. Changes nothing that a later call depends on: the frame may
        still fail. A row that is not `instances.valid` may hold anything. A NaN in a valid row leaves that row
        unmatched. If `query.complete` is false, a scorer with one reference per track, all in one frame and by
        ascending slot, may leave out pairs, and unless `query.every_track` also tracks, of a probability below
        `NEGLIGIBLE`.
        """

    def merge(  # noqa: B027
        self, query: Query, matches: Matches, merged: Merged, missed: NDArray[np.int64]
    ) -> None:
        """Find the boxes that are those of several tracks, and those that have come apart. With `follows_merges`.

        Called between the association and `update`, in frames in which a track is not matched or is hidden. Changes
        `matches`, where a box is in the row of one of its tracks, and `merged`.

        Args:
            query: as given to `score`.
            matches: the association's.
            merged: which tracks are in one box.
            missed: (S,) frames in a row without the track.
        """

    def jumps(self, slots: Slots, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return (k,) how much likelier a jump is than a track's usual movement, at least 1, for (k,) slots and rows.

        Of the frame that was scored last, before `update`. A row of −1: there is none, 1.
        """
        return np.ones(len(slots))

    def doubtful(self, query: Query, rows: NDArray[np.intp]) -> NDArray[np.bool_] | None:
        """Return which of these unmatched rows are probably no objects, so that they begin no track; None: none is.

        Called for a scorer that `learns_births`, at most once for a frame, after `score` and before `update`.

        Args:
            query: as given to `score`.
            rows: (r,) ascending.
        """
        return None

    def reserve(self, tracks: int, observations: int) -> None:  # noqa: B027
        """Allocate what the next `update` needs, so that it cannot fail for lack of memory.

        Args:
            tracks: at most so many tracks are alive after the frame.
            observations: at most so many are added.
        """

    @abstractmethod
    def update(self, query: Query, matches: Matches) -> None:
        """Add this frame's observations. Called for every frame, also if m is 0.

        Args:
            query: as given to `score`.
            matches: the matched and the new tracks, with their ring positions.
        """

    @abstractmethod
    def end(self, slots: Slots) -> None:
        """Delete the state of the tracks in these slots. New tracks may get the slots at once."""

    @abstractmethod
    def clear(self) -> None:
        """Delete the state of all tracks. Statistics of the stream may stay."""

    def resize(self, source: NDArray[np.int64]) -> None:  # noqa: B027
        """Keep another number of observations from now on.

        Args:
            source: (S, W) as `RollingWindow.resize` returns it.
        """

    @abstractmethod
    def snapshot(self, slots: Slots) -> State:
        """Return all that later logits depend on, as plain arrays and scalars, for the tracks in these slots."""

    @abstractmethod
    def restore(self, state: State, slots: Slots) -> None:
        """Restore the state that `snapshot` returned, for the same slots."""


class BatchScorer(Scorer):
    """A scorer that computes the frames of several streams in one pass.

    Scorers of one class with equal `batch_key` may be passed to the two batch methods together. A stream's result is
    the same to the last bit, alone or in any batch.
    """

    @classmethod
    @abstractmethod
    def encode_batch(
        cls, scorers: Sequence[Any], images: Sequence[Image | EncodedImage | None], instances: Sequence[Instances]
    ) -> list[Any]:
        """Return the result of `encode` for each; three sequences of one length."""

    @classmethod
    @abstractmethod
    def score_batch(cls, scorers: Sequence[Any], queries: Sequence[Query]) -> list[Scores]:
        """Return the result of `score` for each; two sequences of one length."""
