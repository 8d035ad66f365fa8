"""The Cell Tracking Challenge's measures, by py-ctcmetrics: TRA, DET, LNK, and the scores of divisions.

TRA, DET, LNK: Matula et al. 2015. Divisions (BC): Ulman et al. 2017.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Mapping
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackd.evaluation.sequence import Sequence
from trackd.outputs.formats.tracklets import Tracklets
from trackd_client.detections import IntArray

MIN_SIMILARITY = 0.5
# A division counts as found where it is at most this many frames early or late.
TOLERANCE_FRAMES = 1
# AOGM's costs of a missing cell and of a missing link.
_COST_OF_CELL, _COST_OF_LINK = 10.0, 1.5


@dataclass(frozen=True, slots=True)
class DivisionScore:
    """Divisions: a track with two or more children."""

    found: int
    false: int
    missed: int

    @property
    def precision(self) -> float | None:
        """The fraction of the result's divisions that are true; None where the result has none."""
        in_result = self.found + self.false
        return self.found / in_result if in_result else None

    @property
    def recall(self) -> float | None:
        """The fraction of the true divisions that were found; None where the truth has none."""
        in_truth = self.found + self.missed
        return self.found / in_truth if in_truth else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None where neither the truth nor the result has a division."""
        total = 2 * self.found + self.false + self.missed
        return 2 * self.found / total if total else None


@dataclass(frozen=True, slots=True)
class CellScore:
    """The measures, 0 to 1."""

    tra: float
    det: float
    lnk: float
    cost: float  # AOGM: of the edits that turn the result into the truth
    cost_of_nothing: float  # AOGM of an empty result
    divisions: DivisionScore


def cell_score(sequence: Sequence) -> CellScore:
    """Compute the measures of a recording whose identities are cells.

    Args:
        sequence: a recording with a ground truth.
    """
    from ctc_metrics.scripts.evaluate import calculate_metrics  # of the extra trackd[eval]

    truth, truth_labels = _labelled((frame.gt_ids for frame in sequence.frames), sequence.gt_parents)
    result, result_labels = _labelled((frame.track_ids for frame in sequence.frames), sequence.track_parents)
    if not len(result):
        n_links = sum(map(len, truth_labels)) - int((truth[:, 3] == 0).sum())
        nothing = _COST_OF_CELL * sum(map(len, truth_labels)) + _COST_OF_LINK * n_links
        n_divisions = int((np.unique(truth[truth[:, 3] > 0, 3], return_counts=True)[1] > 1).sum())
        return CellScore(0.0, 0.0, 0.0, nothing, nothing, DivisionScore(0, 0, n_divisions))
    mapped: list[tuple[list[int], list[int]]] = []
    for frame, gt, found in zip(sequence.frames, truth_labels, result_labels, strict=True):
        # A true instance is matched to at most one result; a result may be matched to several true instances.
        best = frame.similarity.argmax(axis=1) if len(found) else np.empty(0, np.intp)
        near = [i for i, j in enumerate(best) if frame.similarity[i, j] >= MIN_SIMILARITY]
        mapped.append(([gt[i] for i in near], [found[best[i]] for i in near]))
    matches = {
        # py-ctcmetrics needs sorted labels, as it gets them from an image.
        "labels_ref": [sorted(labels) for labels in truth_labels],
        "labels_comp": [sorted(labels) for labels in result_labels],
        "mapped_ref": [pair[0] for pair in mapped],
        "mapped_comp": [pair[1] for pair in mapped],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        values = calculate_metrics(result, truth, matches, {}, ["TRA", "DET", "LNK", "BC"], True)
    i = TOLERANCE_FRAMES
    return CellScore(
        tra=float(values["TRA"]),
        det=float(values["DET"]),
        lnk=float(values["LNK"]),
        cost=float(values["AOGM"]),
        cost_of_nothing=float(values["AOGM_0"]),
        divisions=DivisionScore(values[f"tp_div({i})"], values[f"fp_div({i})"], values[f"fn_div({i})"]),
    )


def pooled(scores: Many[CellScore]) -> CellScore | None:
    """All recordings as one: costs and divisions added, and TRA, DET and LNK as means weighted by `cost_of_nothing`."""
    if not scores:
        return None
    weights = [score.cost_of_nothing for score in scores]
    total = sum(weights)

    def mean(name: str) -> float:
        return float(sum(getattr(score, name) * weight for score, weight in zip(scores, weights, strict=True)) / total)

    return CellScore(
        tra=mean("tra"),
        det=mean("det"),
        lnk=mean("lnk"),
        cost=sum(score.cost for score in scores),
        cost_of_nothing=total,
        divisions=DivisionScore(
            *(sum(getattr(score.divisions, name) for score in scores) for name in ("found", "false", "missed"))
        ),
    )


def _labelled(frames: Iterable[IntArray], parents: Mapping[int, int]) -> tuple[np.ndarray[Any, Any], list[list[int]]]:
    """Rows L B E P (r, 4), and each frame's labels in the order of its ids; frames count from 0."""
    ids = list(frames)
    tracklets = Tracklets.of(list(enumerate(ids)), parents)
    labels = [[here[i] for i in frame.tolist()] for frame, here in zip(ids, tracklets.labels, strict=True)]
    return np.array(tracklets.rows, int).reshape(-1, 4), labels
