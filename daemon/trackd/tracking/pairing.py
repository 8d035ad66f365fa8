"""Which of a frame's instances are which tracks: from the scorer's logits to the best assignment.

Letters: n instances, m of them matched, R references, K near pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.tracking import assignment, association, confidence, sparse
from trackd.tracking.assignment import Matches
from trackd.tracking.instances import Instances
from trackd.tracking.rules import rules
from trackd.tracking.rules.rules import Axes
from trackd.tracking.scorer import Scores
from trackd.tracking.window import RollingWindow, Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

NO_ROWS = np.empty(0, np.intp)
NO_SCORES = np.empty(0, np.float32)


@dataclass(slots=True, eq=False)
class Look:
    """A frame on its way through a step: what is known of it before it is scored."""

    frame_index: int
    t_ns: int
    instances: Instances
    features: Any
    axes: Axes
    live: Slots
    rows: NDArray[np.intp]  # the instances that take part
    ended: list[int]
    flags: list[str]
    force: bool  # every pair is accepted, since no more tracks may begin
    complete: bool  # every pair is wanted

    @property
    def needs_scores(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.live) > 0 and len(self.rows) > 0


@dataclass(slots=True, eq=False)
class Pairing:
    """Which instances are which tracks."""

    rows: NDArray[np.intp]  # (m,) instances that were matched
    slots: Slots  # (m,) their tracks
    probabilities: NDArray[np.float32]  # (m,)
    unmatched: NDArray[np.intp]  # rows without a track
    flags: list[str]


def pair(
    look: Look, scores: Scores | None, config: TrackerConfig, window: RollingWindow, last_axes: NDArray[np.float32]
) -> Pairing:
    """Pair instances with tracks.

    Args:
        look: the frame.
        scores: what the scorer gave for it; None: there was nothing to compare.
        config: the `tracker` section.
        window: the tracks' observations.
        last_axes: (S, 2) the tracks' last body axes by slot.
    """
    if scores is None:
        return Pairing(NO_ROWS, look.live[:0], NO_SCORES, look.rows, look.flags)
    if scores.pairs is not None:
        return _pair_near(look, scores, scores.pairs, config, window)
    return _pair_all(look, scores, config, window, last_axes)


def match(
    table: NDArray[np.float32], columns: Slots, look: Look, config: TrackerConfig, window: RollingWindow
) -> Matches:
    """The best assignment of a table (n, columns) of scores; adds what is remarkable to the frame's flags."""
    matches = assignment.assign(table, _thresholds(columns, config, window), look.force)
    if matches.forced:
        look.flags.append("forced")
    if confidence.is_low(table, config.temperature, config.confidence_threshold):
        look.flags.append("low_confidence")
    return matches


def pairing(look: Look, columns: Slots, matches: Matches, probabilities: NDArray[np.float32]) -> Pairing:
    """What matches among the rows of a frame and columns mean."""
    rows = look.rows
    if len(matches.rows) == len(rows):
        unmatched = NO_ROWS
    else:
        free = np.ones(len(rows), bool)
        free[matches.rows] = False
        unmatched = rows[free]
    return Pairing(rows[matches.rows], columns[matches.columns], probabilities, unmatched, look.flags)


def _pair_all(
    look: Look, scores: Scores, config: TrackerConfig, window: RollingWindow, last_axes: NDArray[np.float32]
) -> Pairing:
    """From logits against every reference."""
    live = look.live
    all_tracks = look.complete or scores.n_frames > 2 or len(scores.slots) == len(live)
    columns = live if all_tracks else scores.slots  # a track that was left out scores 0
    logits, broken = association.usable_logits(
        scores.logits if len(look.rows) == len(look.instances) else scores.logits[look.rows]
    )
    if broken is not None:
        look.rows, logits, look.flags = look.rows[~broken], logits[~broken], ["invalid_detection"]
    if not len(columns) or not len(look.rows):
        return Pairing(NO_ROWS, live[:0], NO_SCORES, look.rows, look.flags)
    table = association.track_scores(logits, scores, columns, config.decay_time)
    table = rules.apply_rules(table, config, look.instances, look.axes, look.rows, window, last_axes)
    matches = match(table, columns, look, config, window)
    probabilities = confidence.pair_probabilities(table, matches, config.temperature, len(live) - len(columns))
    return pairing(look, columns, matches, probabilities)


def _pair_near(
    look: Look, scores: Scores, pairs: NDArray[np.intp], config: TrackerConfig, window: RollingWindow
) -> Pairing:
    """As `_pair_all`, from near pairs; all rows here are rows of the instances."""
    logits, instances, rows, flags = scores.logits, look.instances, look.rows, look.flags
    usable = instances.valid
    if np.isnan(logits).any():
        usable = usable.copy()
        usable[pairs[0, np.isnan(logits)]] = False
        rows, flags = np.flatnonzero(usable), ["invalid_detection"]
    if len(rows) < len(instances):
        kept = usable[pairs[0]]
        pairs, logits = pairs[:, kept], logits[kept]
    at, references = pairs
    table = sparse.softmax(at, logits)
    matches = sparse.assign_pairs(table, at, references, _thresholds(scores.slots, config, window), len(instances))
    probabilities = sparse.pair_probabilities(table, at, references, matches, len(look.live), config.temperature)
    free = np.zeros(len(instances), bool)
    free[rows] = True
    free[matches.rows] = False
    return Pairing(matches.rows, scores.slots[matches.columns], probabilities, free.nonzero()[0], flags)


def _thresholds(slots: Slots, config: TrackerConfig, window: RollingWindow) -> NDArray[np.float64]:
    counts = window.counts(slots) if config.mult_thresh else slots
    return assignment.thresholds(config.overlap_thresh, config.mult_thresh, counts)
