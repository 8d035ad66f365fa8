"""HOTA, DetA, AssA, IDF1, MOTA and id switches, by TrackEval's own classes.

HOTA: Luiten et al. 2021. MOTA: Bernardin and Stiefelhagen 2008. IDF1: Ristani et al. 2016.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence as Many
from dataclasses import dataclass
from typing import Any

import numpy as np

from trackd.evaluation.sequence import Sequence
from trackd_client.detections import IntArray


@dataclass(frozen=True, slots=True)
class TrackingScore:
    """Scores from 0 to 1, MOTA at most 1; HOTA, DetA and AssA are means over the localisation thresholds."""

    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    id_switches: int
    fragmentations: int
    false_positives: int
    false_negatives: int
    n_gt_detections: int
    n_gt: int  # identities
    n_tracks: int


def tracking_scores(sequences: Many[Sequence]) -> tuple[list[TrackingScore], TrackingScore]:
    """Each recording's score, and that of all together, by their added counts (not by the mean of the scores).

    Args:
        sequences: at least one, each with a ground truth.
    """
    from trackeval.metrics import CLEAR, HOTA, Identity  # of the extra trackd[eval]

    with contextlib.redirect_stdout(io.StringIO()):  # TrackEval prints its configuration
        quiet = {"PRINT_CONFIG": False}
        metrics = {"HOTA": HOTA(), "CLEAR": CLEAR(quiet), "Identity": Identity(quiet)}
        data = [_data(sequence) for sequence in sequences]
        each = [{name: metric.eval_sequence(one) for name, metric in metrics.items()} for one in data]
        total = {
            name: metric.combine_sequences({str(i): results[name] for i, results in enumerate(each)})
            for name, metric in metrics.items()
        }
    scores = [
        _score(results, one["num_gt_ids"], one["num_tracker_ids"]) for results, one in zip(each, data, strict=True)
    ]
    return scores, _score(total, sum(score.n_gt for score in scores), sum(score.n_tracks for score in scores))


def _data(sequence: Sequence) -> dict[str, Any]:
    """The input of TrackEval's metrics: for each frame ids from 0 without gaps, and a table of similarities."""
    gt_ids, n_gt = _from_zero([frame.gt_ids for frame in sequence.frames])
    track_ids, n_tracks = _from_zero([frame.track_ids for frame in sequence.frames])
    return {
        "gt_ids": gt_ids,
        "tracker_ids": track_ids,
        "similarity_scores": [frame.similarity for frame in sequence.frames],
        "num_timesteps": len(sequence.frames),
        "num_gt_ids": n_gt,
        "num_tracker_ids": n_tracks,
        "num_gt_dets": sum(map(len, gt_ids)),
        "num_tracker_dets": sum(map(len, track_ids)),
    }


def _from_zero(ids: list[IntArray]) -> tuple[list[IntArray], int]:
    known = np.unique(np.concatenate(ids)) if ids else np.empty(0, np.int64)
    return [np.searchsorted(known, values) for values in ids], len(known)


def _score(results: dict[str, dict[str, Any]], n_gt: int, n_tracks: int) -> TrackingScore:
    hota, clear, identity = results["HOTA"], results["CLEAR"], results["Identity"]
    return TrackingScore(
        hota=float(np.mean(hota["HOTA"])),
        deta=float(np.mean(hota["DetA"])),
        assa=float(np.mean(hota["AssA"])),
        idf1=float(identity["IDF1"]),
        mota=float(clear["MOTA"]),
        id_switches=int(clear["IDSW"]),
        fragmentations=int(clear["Frag"]),
        false_positives=int(clear["CLR_FP"]),
        false_negatives=int(clear["CLR_FN"]),
        n_gt_detections=int(clear["CLR_TP"] + clear["CLR_FN"]),
        n_gt=n_gt,
        n_tracks=n_tracks,
    )
