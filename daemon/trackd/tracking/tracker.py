"""One stream's tracker: a frame's instances in, track ids out.

Letters: n instances, M live tracks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.assignment import Assignment as Assignment
from trackd.tracking.association import associate, associate_left, change_scores
from trackd.tracking.candidates import Candidates
from trackd.tracking.correction import Applied, Correction
from trackd.tracking.corrections import Corrections
from trackd.tracking.dividing import Dividing
from trackd.tracking.division_rate import DivisionRate
from trackd.tracking.forced import Forcing
from trackd.tracking.instances import Instances
from trackd.tracking.lifecycle import Lifecycle, choose_new_tracks
from trackd.tracking.live_tracks import LiveTracks
from trackd.tracking.merging import Merged
from trackd.tracking.places import Places
from trackd.tracking.rules import orientation
from trackd.tracking.rules.rules import active_rules, need_every_pair
from trackd.tracking.scorer import NEGLIGIBLE, Matches, Query, Scorer, Scores
from trackd.tracking.weighing import MAX_PAIRS
from trackd.tracking.window import RollingWindow, Slots, State

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


NO_SLOTS: Slots = np.empty(0, np.intp)
LOW_THRESHOLD = 0.01  # `overlap_thresh` as it is by default
CLOSED = 0.9  # chance that no object comes or leaves from which on an unmatched detection is a missing track


class Tracker:
    """Gives the instances of a stream lasting track ids, frame by frame.

    Uses no sockets, files, clocks or metrics: the same frames and configuration give the same ids. Not thread-safe;
    one thread at a time may call it.
    """

    def __init__(
        self,
        config: TrackerConfig,
        scorer: Scorer,
        max_active_tracks: int = 4096,
        clip_length: int | None = None,
        first_id: int = 0,
    ) -> None:
        """Start without tracks.

        Args:
            config: the `tracker` section.
            scorer: owned by this tracker from now on.
            max_active_tracks: `limits.active_tracks`; bounds memory if no gap ends tracks.
            clip_length: frames per clip, for `persistent_tracking: false`; None: one endless clip.
            first_id: the id of the first track; at least 0.
        """
        self.scorer = scorer
        self.clip_length = clip_length
        self.window = RollingWindow(config.window_size, max_active_tracks)
        self.lifecycle = Lifecycle(self.window, first_id)
        self.dividing = Dividing(self.window, self.lifecycle, scorer)
        self.merged = Merged()
        self.places = Places()
        self.candidates = Candidates(self.window, self.lifecycle)
        self._clip = 0
        self.corrections: Corrections | None = None  # from the first correction on
        self._use(config)

    def _use(self, config: TrackerConfig) -> None:
        self.config = config
        self._rules = active_rules(config)
        self._takes_unlikely_pairs = config.overlap_thresh < NEGLIGIBLE
        self._needs_every_pair = need_every_pair(self._rules)
        self.dividing.configure(config)
        # Whoever has raised the threshold, or limits pairs by a rule, wants no pair that these exclude.
        low = config.overlap_thresh <= LOW_THRESHOLD and not config.mult_thresh
        self._completes = low and not change_scores(self._rules)
        self._ends_gaps = config.max_gap is not None or config.max_gap_s is not None
        self._has_tentative = config.min_hits > 1
        self._has_places = config.max_tracks is not None and self.scorer.learns_births

    @property
    def next_id(self) -> int:
        """The id of the next new track."""
        return self.lifecycle.next_id

    def step(
        self, frame_index: int, t_ns: int, instances: Instances, features: Any = None, position: int = 0
    ) -> Assignment:
        """Assign one frame's instances to tracks; a frame without instances ages the tracks.

        Args:
            frame_index: the source's own frame number; rises.
            t_ns: capture time, Unix ns.
            instances: the frame's instances.
            features: the result of the scorer's `encode` for them.
            position: the number of the frame in the stream since its start, from 0; selects the clip.
        """
        query = self.begin(frame_index, t_ns, instances, features, position)
        scores = self.scorer.score(query) if len(query.live_slots) and len(query.rows) else None
        return self.finish(query, scores)

    # --- the two parts of a step; between them the scorer computes `Scores`, for one tracker or for several ---

    def begin(self, frame_index: int, t_ns: int, instances: Instances, features: Any, position: int) -> Query:
        """End the tracks that are over before this frame, and select the instances that take part."""
        config = self.config
        ended: list[int] = []
        before: State | None = None
        if self.corrections is not None and self.corrections.ending:
            before = self._before(before)
            self.merged.release(self.corrections.take_ending())  # `amend` states them
        if self.clip_length and position // self.clip_length != self._clip:
            self._clip = position // self.clip_length
            if not config.persistent_tracking:
                before = self._before(before)
                self.merged.release(self.window.live)
                ended = self.lifecycle.end(self.window.live)
                self.window.clear()  # of the retired tracks too
                self.scorer.clear()
        if self._ends_gaps:
            over = self.lifecycle.missing_before(frame_index, t_ns, config.max_gap, config.max_gap_s)
            if len(over):
                before = self._before(before)
                ended += self._end(over)
        live = self.window.live
        rows = np.arange(len(instances.valid)) if instances.all_valid else np.flatnonzero(instances.valid)
        force, forcing = False, None
        if config.max_tracks is not None:
            if self._has_places:
                forcing = Forcing(self.lifecycle.extents, self.lifecycle.missed)
                force = self.places.limit(forcing, len(rows), len(self.window.placed), config.max_tracks)
            else:
                force = len(live) >= config.max_tracks
        few_pairs = len(live) * len(instances.valid) <= MAX_PAIRS
        complete = (
            force
            or len(self.window.candidates) > 0
            or self._takes_unlikely_pairs
            or (self._needs_every_pair and few_pairs)
        )
        query = Query(  # positional, in the fields' order: keyword arguments take twice as long, for every frame
            instances, features, frame_index, t_ns, self.window, live, complete,
            rows, self._needs_every_pair, None, None, force, forcing, None, ended, [], before,
        )  # fmt: skip
        if self.merged.count:
            query.merged = self.merged
        if not instances.all_valid and instances.spoiled.any():
            query.flags.append("invalid_detection")
        if config.max_angle_diff > 0:
            query.axes, query.last_axes = orientation.axes_of(instances, config), self.lifecycle.axes
        return query

    def _before(self, known: State | None) -> State | None:
        """Return the state that `undo` restores, unless it is known; None if the scorer's would be lost."""
        if known is not None or not self.scorer.can_undo:
            return known
        state: State = {"window": self.window.snapshot(), "lifecycle": self.lifecycle.snapshot()}
        if self.corrections is not None:
            state["corrections"] = self.corrections.snapshot()
        return state

    def undo(self, query: Query) -> None:
        """Take `begin` back: the frame is rejected. With a scorer that cannot be undone the ended tracks stay ended."""
        if query.before is None:
            return
        self.window.restore(query.before["window"])
        self.lifecycle.restore(query.before["lifecycle"])
        if self.corrections is not None:
            self.corrections.restore(query.before["corrections"])

    def reserve(self, query: Query) -> None:
        """Let the scorer allocate what this frame may need, while the frame can still be taken back."""
        live, most = len(query.live_slots), self.window.max_slots
        if self.config.max_tracks is not None:
            most = max(live, min(most, self.config.max_tracks))
        self.scorer.reserve(min(live + len(query.rows), most), len(query.rows))

    def finish(self, query: Query, scores: Scores | None) -> Assignment:
        """Associate, and update tracks, window and scorer.

        Args:
            query: the result of `begin`.
            scores: the scorer's result for it; None if there are no live tracks or no instances that take part.
        """
        instances, axes, frame_index, t_ns = query.instances, query.axes, query.frame_index, query.t_ns
        config, n = self.config, len(query.instances.valid)
        matches = associate(query, scores, config, self._rules)
        ended, flags = query.ended, query.flags
        aside = self.candidates.set_aside(query, matches) if len(self.window.candidates) else None
        if config.max_tracks is not None:
            if self._has_places:
                self.places.count(len(query.rows), config.max_tracks)
        elif (
            self.scorer.closed > CLOSED
            and self._completes
            and len(matches.unmatched)
            and len(query.rows) <= len(query.live_slots)
        ):
            associate_left(query, matches, Forcing(self.lifecycle.extents, self.lifecycle.missed))
        parents: dict[int, int] = {}
        placed_ids: list[int] = []  # of candidates that have a place from this frame on
        together = NO_SLOTS  # tracks that were in one box with others, in the frame before or now
        if (
            self.scorer.follows_merges
            and scores is not None
            and (self.merged.count or len(matches.rows) < len(query.live_slots))
        ):
            hidden = self.merged.hidden if self.merged.count else NO_SLOTS
            together = self.merged.members()[0] if self.merged.count else NO_SLOTS
            self.scorer.merge(query, matches, self.merged, self.lifecycle.missed)
            if len(hidden):
                self.dividing.rate.count_lost(hidden, self.merged, matches)
            if len(together) or self.merged.count:
                together = np.union1d(together, self.merged.members()[0])
        if self.dividing.is_on and (len(matches.unmatched) or len(matches.rows) < len(query.live_slots)):
            parents, divided = self.dividing.divide(matches, instances, together)
            ended += self._end(divided)
        if aside is not None:
            over, placed_ids = self.candidates.place(aside, query, matches, scores, config.max_tracks, together)
            self._end(over)
        slots, rows = matches.slots, matches.rows
        all_matched = len(rows) == n  # then `rows` is in the order of the instances
        extents = instances.extents if all_matched else instances.extents[rows]
        seen, seen_axes = slots, None if axes is None else axes[rows]
        if matches.hidden is not None and matches.hidden_rows is not None:
            seen, seen_rows = np.concatenate([slots, matches.hidden]), np.concatenate([rows, matches.hidden_rows])
            extents = instances.extents[seen_rows]
            if seen_axes is not None:  # the pose of the box is not theirs
                seen_axes = np.concatenate([seen_axes, self.lifecycle.axes[matches.hidden]])
        sighting = self.lifecycle.see(seen, extents, seen_axes, frame_index, t_ns)
        if self._has_places or aside is not None:
            self.candidates.see(seen)
            if aside is not None:
                self._end(self.candidates.over())
        if self._ends_gaps:
            ended += self._end(self.lifecycle.missing_after(frame_index, t_ns, config.max_gap, config.max_gap_s))
        if self._has_tentative:
            ended += self._end(self.lifecycle.missing_tentative(config.min_hits))
        new_ids: list[int] = []
        new_rows = matches.unmatched
        if len(new_rows) and self.scorer.learns_births:
            new_rows = self._leave_doubtful(query, matches, parents)
        if len(new_rows):
            new_rows, evicted = self._select_new_tracks(new_rows, instances.scores)
            if evicted:
                ended += evicted
                flags.append("evicted")
        new_slots = NO_SLOTS
        if len(new_rows):
            if self.corrections is not None:
                self.corrections.retired.make_room(len(new_rows))
            new_slots = self.lifecycle.begin(
                instances.extents[new_rows], None if axes is None else axes[new_rows], frame_index, t_ns
            )
            matches.begin(new_rows, new_slots)
            new_ids = self.window.ids[new_slots].tolist()
        if self._has_places and len(matches.unmatched):
            self._begin_candidates(query, matches, new_slots, new_rows)
        boxes = instances.boxes if all_matched else instances.boxes[matches.rows]
        matches.positions = self.window.append(matches.slots, boxes, frame_index)
        self.scorer.update(query, matches)
        if all_matched:
            track_ids, track_scores = self.window.ids[slots], matches.probabilities
        else:
            track_ids = np.full(n, -1, np.int32)
            track_ids[matches.rows] = self.window.ids[matches.slots]
            track_scores = np.full(n, np.nan, np.float32)
            track_scores[rows] = matches.probabilities
        if placed_ids or len(self.window.candidates):
            track_ids = np.maximum(track_ids, np.int32(-1))
            track_scores[np.isin(track_ids, [-1, *placed_ids])] = np.nan
        if self._has_places and (aside is not None or not all_matched):
            self._flag_out_of_reach(query, track_ids)
        lost = sighting.lost
        if ended and lost:
            gone = set(ended)
            lost = tuple(track for track in lost if track not in gone)
        assignment = Assignment(  # positional, as `Query`
            track_ids, track_scores, tuple(new_ids + placed_ids), lost, sighting.found, tuple(ended), tuple(flags),
            tuple([parents.get(row, -1) for row in new_rows.tolist()] + [-1] * len(placed_ids)) if parents else (),
            (), (), self._tentative_ids(matches.slots) if self._has_tentative else (), (),
            () if matches.hidden is None else tuple(self.window.ids[matches.hidden].tolist()),
            () if matches.hidden_rows is None else tuple(matches.hidden_rows.tolist()),
        )  # fmt: skip
        if self.corrections is not None:
            if len(self.window.retired):
                begun = new_slots[~np.isin(new_rows, list(parents))] if parents else new_slots
                self.corrections.retired.follow(begun, frame_index, t_ns, config)
            self.corrections.amend(assignment)
        return assignment

    def configure(self, config: TrackerConfig) -> None:
        """Use another configuration from the next frame on; all tracks keep their ids."""
        if config.window_size != self.window.window_size:
            self.scorer.resize(self.window.resized(config.window_size))  # it may fail for lack of memory
            self.window.resize(config.window_size)
        if config.max_tracks != self.config.max_tracks:
            self.places = Places()
            self.candidates.forget()
        self._use(config)

    def correct(self, correction: Correction) -> Applied:
        """Apply a person's correction from the next frame on.

        Raises:
            CorrectionError: it is not possible; nothing has changed.
        """
        if self.corrections is None:
            self.corrections = Corrections(self.window, self.lifecycle, self._forget)
        return self.corrections.apply(correction, self.config.max_tracks)

    def live(self) -> LiveTracks:
        """The live tracks, active and lost."""
        life, slots, corrections = self.lifecycle, self.window.placed, self.corrections
        slots = slots[np.argsort(self.window.ids[slots])]
        names: dict[int, str] = {}
        if corrections is not None:
            slots = slots[~np.isin(self.window.ids[slots], corrections.ending)]
            names = corrections.names
        return LiveTracks(
            ids=self.window.ids[slots],
            active=~life.lost[slots],
            merged=(self.merged.hosts_of(slots) >= 0) & ~life.lost[slots],
            tentative=life.is_tentative(slots, self.config.min_hits),
            boxes=life.extents[slots],
            frame_index=life.last_index[slots],
            first_frame_index=life.first_index[slots],
            names=tuple(map(names.get, self.window.ids[slots].tolist())),
        )

    def snapshot(self) -> State:
        """Return all that later frames depend on, as nested maps of plain arrays and scalars."""
        state = {
            "clip": self._clip,
            "window": self.window.snapshot(),
            "lifecycle": self.lifecycle.snapshot(),
            "scorer": self.scorer.snapshot(self.window.occupied),
        }
        if self.places.full:
            state["places"] = self.places.snapshot()
        if self._has_places or len(self.window.candidates):
            state["candidates"] = self.candidates.snapshot()
        if self.merged.count:
            state["merged"] = self.merged.snapshot()
        if self.dividing.rate.births or self.dividing.rate.merges:
            state["divisions"] = self.dividing.rate.snapshot()
        if self.corrections is not None:
            state["corrections"] = self.corrections.snapshot()
        return state

    def restore(self, state: State) -> None:
        """Restore the state that `snapshot` returned; with the same kind of scorer, the ids continue."""
        self._clip = int(state["clip"])
        self.window.restore(state["window"])
        self.lifecycle.restore(state["lifecycle"])
        self.scorer.restore(state["scorer"], self.window.occupied)
        self.places = Places()
        if "places" in state:  # not in snapshots of earlier versions
            self.places.restore(state["places"])
        self.candidates.restore(state.get("candidates"))  # not in snapshots of earlier versions
        self.merged = Merged()
        if "merged" in state:  # not in snapshots of earlier versions
            self.merged.restore(state["merged"])
        self.dividing.rate = DivisionRate()
        if "divisions" in state:  # not in snapshots of earlier versions
            self.dividing.rate.restore(state["divisions"])
        self.corrections = None
        if "corrections" in state:  # not in snapshots of earlier versions
            self.corrections = Corrections(self.window, self.lifecycle, self._forget)
            self.corrections.restore(state["corrections"])
        if self.window.window_size != self.config.window_size:
            self.configure(self.config)

    def check_integrity(self) -> None:
        """Check the invariants.

        Raises:
            RuntimeError: names the invariant that does not hold.
        """
        self.window.check_integrity()
        self.merged.check_integrity(self.window.live)
        if len(self.window.live) and int(self.window.ids[self.window.live].max()) >= self.next_id:
            raise RuntimeError("tracker: a live track has an id that was never given")
        if self.corrections is not None:
            self.corrections.check_integrity()

    def _begin_candidates(self, query: Query, matches: Matches, new_slots: Slots, new_rows: NDArray[np.intp]) -> None:
        """Let the rows that have no place begin candidates, after the tracks that begin in this frame."""
        left = np.setdiff1d(matches.unmatched, new_rows)
        if not len(left):
            self.candidates.begin(new_slots)
            return
        assert self.config.max_tracks is not None
        if matches.doubtful is not None:
            left = np.setdiff1d(left, matches.doubtful)
        left = left[: self.candidates.room(self.config.max_tracks)]
        axes = None if query.axes is None else query.axes[left]
        slots = self.lifecycle.begin(query.instances.extents[left], axes, query.frame_index, query.t_ns, placed=False)
        matches.begin(left, slots)
        self.candidates.begin(np.concatenate([new_slots, slots]))

    def _flag_out_of_reach(self, query: Query, track_ids: NDArray[np.int32]) -> None:
        """Flag a frame in which a track is missing, and a detection has none and no place."""
        placed = self.window.placed
        assert self.config.max_tracks is not None
        if (
            len(placed) >= self.config.max_tracks
            and (track_ids[query.rows] < 0).any()
            and (self.lifecycle.missed[placed] > 0).any()
        ):
            query.flags.append("out_of_reach")

    def _leave_doubtful(self, query: Query, matches: Matches, parents: dict[int, int]) -> NDArray[np.intp]:
        """Return the unmatched rows that may begin a track, and note and flag the others."""
        unmatched = matches.unmatched
        doubtful = self.scorer.doubtful(query, unmatched)
        if doubtful is None:
            return unmatched
        if parents:
            doubtful &= ~np.isin(unmatched, list(parents))
            if not doubtful.any():
                return unmatched
        matches.doubtful = unmatched[doubtful]
        query.flags.append("low_score")
        return np.asarray(unmatched[~doubtful])

    def _select_new_tracks(
        self, unmatched: NDArray[np.intp], scores: NDArray[np.float32]
    ) -> tuple[NDArray[np.intp], list[int]]:
        """Select the unmatched rows that begin a track; returns also the ids of the tracks evicted for them."""
        life, live = self.lifecycle, self.window.placed
        wanted = len(unmatched)
        evicted: list[int] = []
        if self.config.max_tracks is not None:
            places = self.config.max_tracks - len(live)
            if wanted > places and self._has_tentative:
                tentative = live[life.is_tentative(live, self.config.min_hits)]
                evicted = self._end(life.longest_missing(wanted - places, tentative))
                live = self.window.placed
            wanted = min(wanted, places + len(evicted))
        room = self.window.max_slots - len(self.window.live)
        if wanted > room:
            evicted += self._end(life.longest_missing(wanted - room, live))
            wanted = self.window.max_slots - len(self.window.live)
        return choose_new_tracks(unmatched, scores, wanted), evicted

    def _tentative_ids(self, slots: Slots) -> tuple[int, ...]:
        """Return the ids of those of these tracks that are tentative, ascending."""
        tentative = self.lifecycle.is_tentative(slots, self.config.min_hits)
        return tuple(sorted(track for track in self.window.ids[slots[tentative]].tolist() if track >= 0))

    def _forget(self, slots: Slots) -> None:
        """Delete the state of retired tracks."""
        self.scorer.end(slots)
        self.window.release(slots)

    def _end(self, slots: Slots) -> list[int]:
        if not len(slots):
            return []
        self.scorer.end(slots)
        if self.merged.count:
            self.merged.release(slots)
        return self.lifecycle.end(slots)
