"""How often a birth of a stream is a division, learnt while it runs, and which possible divisions are likely.

Where `tracker.divisions` is "auto", a stream of cells must show that they divide. Each birth after the first frame is
one of three kinds: part of a possible division whose children together are about as large as their parent, part of
another possible division, or neither. An object that appears beside a track leaves the track its size, so the first
kind is rare where nothing divides. The share of divisions among the births is estimated by expectation-maximization.
And a track that continues moves as before, while one that divides becomes a child beside its place: a jump that its
movements do not explain is evidence for a division, also of objects that have no size, such as points. It is never the
only evidence: two animals that were one box from the start come apart with a jump too.

Two objects that are seen as one, and later as two, look like a division. The opposite, two tracks that become one
instance of their common size, is looked for in the same way, and for each of them one division is not believed. Pairs
that are known to be in one box (merging.py) come apart with their ids, and do not count.

Letters: n instances, S slots, M tracks that may divide.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.division import (
    MAX_DISTANCE,
    MAX_OFF_CENTRE,
    MAX_SIZE,
    MIN_LIKENESS,
    MIN_SIZE,
    Division,
    areas,
)
from trackd.tracking.division_signs import find_signs
from trackd.tracking.merging import Merged
from trackd.tracking.scorer import Matches
from trackd.tracking.window import Slots, State

MAX_COMMON_SIZE = 1.4  # of both children over the parent's, in a division of the first kind
# The probabilities of the three kinds among divisions and among other births: measured on both CTC training sets (also
# with 5 % missed), and on MOT17, TUD, fish, receptors and the scene generator.
OF_DIVISIONS = (0.65, 0.30, 0.05)
OF_OTHERS = (0.02, 0.13, 0.85)
PRIOR, PRIOR_BIRTHS = 0.02, 5.0  # the share of divisions among births before any evidence, and its weight
MEMORY = 1000.0  # births
LEAST_EVIDENCE = 0.1  # expected number of divisions before the one that is believed first
MAX_MERGES = 16.0
RARE = 0.01  # a share below which only divisions of the first kind are looked for: no other can be likely
_SHAPE = [MAX_DISTANCE, MAX_OFF_CENTRE, MIN_SIZE, MAX_SIZE, MIN_LIKENESS, MAX_COMMON_SIZE]
_LIMITS, _LIMITS_IF_RARE = np.array([*_SHAPE, np.inf]), np.array([*_SHAPE, MAX_COMMON_SIZE])


class DivisionRate:
    """The evidence of a stream for divisions."""

    def __init__(self) -> None:
        self.births = 0.0  # after the first frame
        self.divisions = 0.0  # expected number of them that are part of a division
        self.merges = 0.0  # pairs of tracks that became one instance, and have not come apart

    @property
    def share(self) -> float:
        """The share of births that are part of a division, 0 to 1."""
        return (self.divisions + PRIOR * PRIOR_BIRTHS) / (self.births + PRIOR_BIRTHS)

    def count_lost(self, hidden: Slots, merged: Merged, matches: Matches) -> None:
        """Count the tracks that were in a box with others and are lost now: their box may still come apart.

        Args:
            hidden: slots of the hidden tracks before this frame.
            merged: those of now.
            matches: of the frame.
        """
        lost = hidden[(merged.hosts_of(hidden) < 0) & ~np.isin(hidden, matches.slots)]
        self.merges = min(self.merges + len(lost), MAX_MERGES)

    def may_divide(
        self,
        live: Slots,
        missed: NDArray[np.int64],
        boxes: NDArray[np.float32],
        matches: Matches,
        extents: NDArray[np.float32],
    ) -> bool:
        """Return whether a frame may hold a division, and count merges. If it holds none, learn from its births.

        Args:
            live: (M,) slots.
            missed: (S,) frames in a row without the track.
            boxes: (S, 4) the tracks' boxes in the previous frame.
            matches: of the frame.
            extents: (n, 4) the instances' boxes.
        """
        slots, rows, unmatched = matches.slots, matches.rows, matches.unmatched
        if (
            matches.hidden is not None and matches.hidden_rows is not None
        ):  # they come apart as the tracks that they are
            slots, rows = np.concatenate([slots, matches.hidden]), np.concatenate([rows, matches.hidden_rows])
        given, limits = np.ascontiguousarray(extents, np.float32), _LIMITS_IF_RARE if self.share < RARE else _LIMITS
        possible, merges = find_signs(live, missed, boxes, slots, rows, unmatched, given, limits)
        self.merges = min(self.merges + merges, MAX_MERGES)
        if not possible and len(live) and len(unmatched):
            self._count(len(unmatched), len(unmatched) * _posterior(self.share, 2))
        return bool(possible)

    def likely(
        self,
        found: Sequence[Division],
        parents: NDArray[np.float32],
        extents: NDArray[np.float32],
        n_births: int,
        jumps: NDArray[np.float64],
    ) -> list[Division]:
        """Select the possible divisions of a frame that are likelier than other births, and learn from all births.

        Args:
            found: the possible divisions.
            parents: (M, 4) boxes of the tracks of the previous frame.
            extents: (n, 4) the instances' boxes.
            n_births: number of instances without a track.
            jumps: of each, how much likelier its track's own movement is as a jump; 1: nothing is known of it.
        """
        share, kept, expected, n_others = self.share, [], 0.0, n_births
        conserved = keep_their_size(found, parents, extents)
        for one, is_conserved, jump in zip(found, conserved, jumps.tolist(), strict=True):
            n_others -= 1
            if is_conserved and self.merges >= 1:
                self.merges -= 1
                continue
            probability = _posterior(share, 0 if is_conserved else 1, jump)
            expected += probability
            if probability > 0.5 and self.divisions >= LEAST_EVIDENCE:
                kept.append(one)
        self._count(n_births, expected + max(n_others, 0) * _posterior(share, 2))
        return kept

    def _count(self, births: float, divisions: float) -> None:
        self.births += births
        self.divisions += divisions
        if self.births > MEMORY:
            self.divisions *= MEMORY / self.births
            self.births = MEMORY

    def snapshot(self) -> State:
        return {"births": self.births, "divisions": self.divisions, "merges": self.merges}

    def restore(self, state: State) -> None:
        self.births, self.divisions = float(state["births"]), float(state["divisions"])
        self.merges = float(state["merges"])


def keep_their_size(
    found: Sequence[Division], parents: NDArray[np.float32], extents: NDArray[np.float32]
) -> list[bool]:
    """Return for each possible division whether its children together are at most 1.4 times as large as the parent."""
    if not found:
        return []
    children = areas(extents[[each.children for each in found]].reshape(-1, 4)).reshape(-1, 2).sum(axis=1)
    common: list[bool] = (children <= MAX_COMMON_SIZE * areas(parents[[each.parent for each in found]])).tolist()
    return common


def _posterior(share: float, kind: int, jump: float = 1.0) -> float:
    """The probability that a birth of a kind is part of a division; `jump` is a likelihood ratio for it."""
    division, other = share * OF_DIVISIONS[kind] * jump, (1 - share) * OF_OTHERS[kind]
    return division / (division + other)
