"""Scores of track ids against a ground truth: id switches and MOTA (CLEAR), and IDF1.

CLEAR: Bernardin and Stiefelhagen 2008. IDF1: Ristani et al. 2016. Both as TrackEval computes them.
Letters: g ground-truth instances of a frame, n detections.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from trackd.outputs.records import Floats
from trackd_client.detections import IntArray
from trackd_client.recordings.motchallenge import iou

MIN_IOU = 0.5
# A pair that was matched in the previous frame stays matched, however large another overlap is.
CONTINUITY_BONUS = 1000.0


@dataclass(frozen=True, slots=True)
class IdentityScore:
    """The measures; NaN where there is no ground truth."""

    idf1: float  # 0 to 1
    mota: float  # at most 1, may be negative
    id_switches: int
    n_frames: int
    n_gt: int  # ground-truth identities
    n_tracks: int  # track ids


class IdentityScoring:
    """Counts frame by frame; memory grows with the number of pairs of ids, not with the number of frames."""

    def __init__(self) -> None:
        self._n_frames = 0
        self._gt: Counter[int] = Counter()  # instances of each identity
        self._tracks: Counter[int] = Counter()
        self._together: Counter[tuple[int, int]] = Counter()  # frames in which the two can be matched
        self._last: dict[int, int] = {}  # an identity's track when it was last matched
        self._matched_before: dict[int, int] = {}  # the pairs of the last frame that was matched
        self._n_matched = 0
        self._n_switches = 0

    def add_detections(self, gt_ids: IntArray, track_ids: IntArray) -> None:
        """Add a frame whose detections are the ground truth's instances: both (n,), -1 for none.

        A detection without a track is missed; one with a track and no identity is false.
        """
        self._count(gt_ids[gt_ids >= 0], track_ids[track_ids >= 0])
        both = (gt_ids >= 0) & (track_ids >= 0)
        pairs = list(zip(gt_ids[both].tolist(), track_ids[both].tolist(), strict=True))
        self._together.update(pairs)
        self._match(pairs)

    def add_boxes(self, gt_ids: IntArray, gt_boxes: Floats, track_ids: IntArray, track_boxes: Floats) -> None:
        """Add a frame of boxes (g, 4) and (n, 4), x1 y1 x2 y2, matched where their IoU is 0.5 or more.

        Rows with the id -1 do not count.
        """
        gt_boxes, gt_ids = gt_boxes[gt_ids >= 0], gt_ids[gt_ids >= 0]
        track_boxes, track_ids = track_boxes[track_ids >= 0], track_ids[track_ids >= 0]
        self._count(gt_ids, track_ids)
        if not len(gt_ids) or not len(track_ids):
            return
        overlap = iou(gt_boxes, track_boxes)  # (g, n)
        near = overlap >= MIN_IOU - np.finfo(float).eps
        self._together.update((int(gt_ids[row]), int(track_ids[column])) for row, column in np.argwhere(near))
        before = np.array([self._matched_before.get(int(i), -1) for i in gt_ids])
        value = np.where(near, overlap + CONTINUITY_BONUS * (before[:, None] == track_ids), 0.0)
        rows, columns = linear_sum_assignment(value, maximize=True)
        kept = value[rows, columns] > 0
        self._match(list(zip(gt_ids[rows[kept]].tolist(), track_ids[columns[kept]].tolist(), strict=True)))

    def score(self) -> IdentityScore:
        """Compute the measures over all frames so far."""
        n_gt, n_tracked = self._gt.total(), self._tracks.total()
        n_false = n_tracked - self._n_matched
        n_missed = n_gt - self._n_matched
        errors = n_missed + n_false + self._n_switches
        return IdentityScore(
            idf1=2 * self._identity_matches() / (n_gt + n_tracked) if n_gt else math.nan,
            mota=1 - errors / n_gt if n_gt else math.nan,
            id_switches=self._n_switches,
            n_frames=self._n_frames,
            n_gt=len(self._gt),
            n_tracks=len(self._tracks),
        )

    def _count(self, gt_ids: IntArray, track_ids: IntArray) -> None:
        self._n_frames += 1
        self._gt.update(gt_ids.tolist())
        self._tracks.update(track_ids.tolist())

    def _match(self, pairs: list[tuple[int, int]]) -> None:
        """Count a frame's matched pairs. A switch is a track other than the identity's last one, at any distance."""
        self._n_matched += len(pairs)
        self._n_switches += sum(self._last.get(gt, track) != track for gt, track in pairs)
        self._matched_before = dict(pairs)
        self._last.update(pairs)

    def _identity_matches(self) -> int:
        """Count the matches of the best one-to-one assignment of tracks to identities (IDTP).

        An identity without a track costs nothing here, so the maximum of matches is also the paper's minimum of
        false positives and false negatives.
        """
        gt = {identity: row for row, identity in enumerate(self._gt)}
        tracks = {identity: column for column, identity in enumerate(self._tracks)}
        together = np.zeros((len(gt), len(tracks)), np.int64)
        for (identity, track), count in self._together.items():
            together[gt[identity], tracks[track]] = count
        best: NDArray[np.int64] = together[linear_sum_assignment(together, maximize=True)]
        return int(best.sum())
