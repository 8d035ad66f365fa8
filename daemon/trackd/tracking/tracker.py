"""One stream's tracker: a frame's instances in, track ids out.

Letters: n instances, M live tracks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.tracking import division
from trackd.tracking.instances import Instances
from trackd.tracking.lifecycle import Lifecycle, choose_new_tracks
from trackd.tracking.pairing import Look, Pairing
from trackd.tracking.rules import rules
from trackd.tracking.scorer import Scorer
from trackd.tracking.step import Step, step_together
from trackd.tracking.window import RollingWindow, Slots, State

if TYPE_CHECKING:
    from trackd.config import TrackerConfig


@dataclass(slots=True, eq=False)
class Assignment:
    """What became of one frame's instances and of the tracks."""

    track_ids: NDArray[np.int32]  # (n,) −1: not assigned
    track_scores: NDArray[np.float32]  # (n,) 0 to 1, NaN where new or not assigned
    new_tracks: tuple[int, ...] = ()
    lost_tracks: tuple[int, ...] = ()  # missing from this frame on
    found_tracks: tuple[int, ...] = ()  # back after a gap
    ended_tracks: tuple[int, ...] = ()  # gone for good
    flags: tuple[str, ...] = ()  # of low_confidence, forced, invalid_detection, evicted
    parents: tuple[int, ...] = ()  # of new_tracks, by place: the track that divided, −1 for none; empty where none did


@dataclass(frozen=True, slots=True, eq=False)
class LiveTracks:
    """The live tracks by ascending id."""

    ids: NDArray[np.int32]  # (M,)
    active: NDArray[np.bool_]  # (M,) seen in the latest frame; else lost
    boxes: NDArray[np.float32]  # (M, 4) x1 y1 x2 y2, the last published
    frame_index: NDArray[np.int64]  # (M,) of the last sighting

    @property
    def states(self) -> list[str]:
        """Each track's state: "active" or "lost"."""
        return ["active" if active else "lost" for active in self.active.tolist()]


class Tracker:
    """Gives the instances of a stream lasting identities, frame by frame.

    Knows nothing of sockets, files, clocks or metrics: the same frames and configuration give the same ids. Not
    thread-safe; one thread owns it.
    """

    def __init__(
        self, config: TrackerConfig, scorer: Scorer, max_active_tracks: int = 4096, clip_length: int | None = None
    ) -> None:
        """Begin with no track.

        Args:
            config: the `tracker` section.
            scorer: owned by this tracker from now on.
            max_active_tracks: `limits.active_tracks`; bounds memory where no gap ends tracks.
            clip_length: frames per clip, for `persistent_tracking: false`; None: one endless clip.
        """
        self.config = config
        self.scorer = scorer
        self.clip_length = clip_length
        self.window = RollingWindow(config.window_size, max_active_tracks)
        self.lifecycle = Lifecycle(self.window)
        self._clip = 0

    @property
    def next_id(self) -> int:
        """The id that the next new track gets."""
        return self.lifecycle.next_id

    def step(
        self, frame_index: int, t_ns: int, instances: Instances, features: Any = None, position: int = 0
    ) -> Assignment:
        """Assign one frame's instances to tracks; a frame without instances ages them.

        Args:
            frame_index: the source's own frame number; rises.
            t_ns: capture time, Unix ns.
            instances: the frame's instances.
            features: what the scorer's `encode` gave for them.
            position: the number of the frame in the stream since its start, from 0; decides the clip.
        """
        (result,) = step_together([Step(self, frame_index, t_ns, instances, features, position)])
        if isinstance(result, Exception):
            raise result
        return result

    # --- the parts of a step, in their order; between them the scorer is asked, for this tracker or for many ---

    def begin(self, frame_index: int, t_ns: int, instances: Instances, features: Any, position: int) -> Look:
        """End what is over before this frame, and see who takes part."""
        ended = self._end_before(frame_index, t_ns, position)
        if instances.all_valid:
            rows, flags = np.arange(len(instances)), []
        else:
            rows = np.flatnonzero(instances.valid)
            flags = ["invalid_detection"] if instances.spoiled.any() else []
        config, live = self.config, self.window.live
        force = config.max_tracks is not None and len(live) >= config.max_tracks
        return Look(
            frame_index, t_ns, instances, features, rules.axes_of(instances, config), live, rows, ended, flags, force,
            complete=force or rules.need_every_pair(config),
        )  # fmt: skip

    def finish(self, look: Look, pairing: Pairing) -> Assignment:
        """Bring tracks, window and scorer up to date; what became of the frame."""
        instances, axes, frame_index, t_ns = look.instances, look.axes, look.frame_index, look.t_ns
        ended, flags = look.ended, pairing.flags
        parents: dict[int, int] = {}
        if self.config.divisions:
            parents, divided = self._divide(pairing, instances.extents)
            ended += divided
        slots, rows = pairing.slots, pairing.rows
        everyone = len(rows) == len(instances)  # then the rows are in the order of the instances
        extents = instances.extents if everyone else instances.extents[rows]
        sighting = self.lifecycle.see(slots, extents, None if axes is None else axes[rows], frame_index, t_ns)
        ended += self._end(self.lifecycle.missing_after(frame_index, t_ns, self.config.max_gap, self.config.max_gap_s))
        unmatched, evicted = self._admit(pairing.unmatched, instances.scores)
        if evicted:
            ended += evicted
            flags.append("evicted")
        new_ids: list[int] = []
        if len(unmatched):
            born = self.lifecycle.begin(
                instances.extents[unmatched], None if axes is None else axes[unmatched], frame_index, t_ns
            )
            slots, rows = np.concatenate([slots, born]), np.concatenate([rows, unmatched])
            new_ids = self.window.ids[born].tolist()
        positions = self.window.append(slots, instances.boxes if everyone else instances.boxes[rows], frame_index)
        self.scorer.update(slots, rows, positions, instances, look.features, frame_index, t_ns, len(new_ids))
        if everyone:
            track_ids, track_scores = self.window.ids[slots], pairing.probabilities
        else:
            track_ids = np.full(len(instances), -1, np.int32)
            track_ids[rows] = self.window.ids[slots]
            track_scores = np.full(len(instances), np.nan, np.float32)
            track_scores[pairing.rows] = pairing.probabilities
        lost = sighting.lost
        if ended and lost:
            lost = tuple(track for track in lost if track not in ended)
        return Assignment(
            track_ids,
            track_scores,
            new_tracks=tuple(new_ids),
            lost_tracks=lost,
            found_tracks=sighting.found,
            ended_tracks=tuple(ended),
            flags=tuple(flags),
            parents=tuple(parents.get(row, -1) for row in unmatched.tolist()) if parents else (),
        )

    def configure(self, config: TrackerConfig) -> None:
        """Go on with another configuration from the next frame; all tracks keep their ids."""
        if config.window_size != self.window.window_size:
            self.scorer.resize(self.window.resize(config.window_size))
        self.config = config

    def live(self) -> LiveTracks:
        """The live tracks, active and lost."""
        life, slots = self.lifecycle, self.window.live
        slots = slots[np.argsort(self.window.ids[slots])]
        return LiveTracks(
            ids=self.window.ids[slots],
            active=~life.lost[slots],
            boxes=life.extents[slots],
            frame_index=life.last_index[slots],
        )

    def snapshot(self) -> State:
        """All that later frames depend on, as nested maps of plain arrays and scalars."""
        return {
            "clip": self._clip,
            "window": self.window.snapshot(),
            "lifecycle": self.lifecycle.snapshot(),
            "scorer": self.scorer.snapshot(self.window.live),
        }

    def restore(self, state: State) -> None:
        """Become what `snapshot` saw; made with the same scorer, this tracker goes on with the same ids."""
        self._clip = int(state["clip"])
        self.window.restore(state["window"])
        self.lifecycle.restore(state["lifecycle"])
        self.scorer.restore(state["scorer"], self.window.live)
        if self.window.window_size != self.config.window_size:
            self.configure(self.config)

    def check_integrity(self) -> None:
        """Check what must always hold.

        Raises:
            RuntimeError: names what does not.
        """
        self.window.check_integrity()
        if len(self.window.live) and int(self.window.ids[self.window.live].max()) >= self.next_id:
            raise RuntimeError("tracker: a live track has an id that was never given")

    def _end_before(self, frame_index: int, t_ns: int, position: int) -> list[int]:
        """End what a clip border or dropped frames end before this frame is looked at; ids."""
        ended = []
        clip = position // self.clip_length if self.clip_length else 0
        if clip != self._clip:
            self._clip = clip
            if not self.config.persistent_tracking:
                ended = self.lifecycle.end(self.window.live)
                self.scorer.clear()
        config = self.config
        overdue = self.lifecycle.missing_before(frame_index, t_ns, config.max_gap, config.max_gap_s)
        return ended + self._end(overdue)

    def _divide(self, pairing: Pairing, extents: NDArray[np.float32]) -> tuple[dict[int, int], list[int]]:
        """End the tracks that have divided, and make unmatched of their children.

        Returns:
            The parent's id by the child's row, and the ids that ended.
        """
        live = self.window.live
        limit = self.window.max_slots if self.config.max_tracks is None else self.config.max_tracks
        candidates = live[~self.lifecycle.lost[live]]
        row_of = np.full(self.window.capacity, -1, np.intp)
        row_of[pairing.slots] = pairing.rows
        found = division.find_divisions(
            self.lifecycle.extents[candidates], row_of[candidates], pairing.unmatched, extents
        )[: max(limit - len(live), 0)]  # each takes one place more
        if not found:
            return {}, []
        slots = candidates[[each.parent for each in found]]
        parents = {
            row: int(track_id)
            for each, track_id in zip(found, self.window.ids[slots], strict=True)
            for row in each.children
        }
        freed = np.isin(pairing.slots, slots)
        pairing.unmatched = np.sort(np.concatenate([pairing.unmatched, pairing.rows[freed]]))
        pairing.rows, pairing.slots = pairing.rows[~freed], pairing.slots[~freed]
        pairing.probabilities = pairing.probabilities[~freed]
        return parents, self._end(np.sort(slots))

    def _admit(self, unmatched: NDArray[np.intp], scores: NDArray[np.float32]) -> tuple[NDArray[np.intp], list[int]]:
        """Who of the unmatched begins a track, and the ids of the tracks that are evicted for them."""
        if not len(unmatched):
            return unmatched, []
        n_live = len(self.window.live)
        wanted = len(unmatched)
        if self.config.max_tracks is not None:
            wanted = min(wanted, self.config.max_tracks - n_live)
        room = self.window.max_slots - n_live
        evicted: list[int] = []
        if wanted > room:
            evicted = self._end(self.lifecycle.longest_missing(wanted - room))
            wanted = room + len(evicted)
        return choose_new_tracks(unmatched, scores, wanted), evicted

    def _end(self, slots: Slots) -> list[int]:
        if not len(slots):
            return []
        self.scorer.end(slots)
        return self.lifecycle.end(slots)
