import math

import numpy as np
import pytest
from trackeval.metrics import CLEAR, Identity

from trackd.evaluation import IdentityScoring
from trackd_client.recordings.motchallenge import iou


def scored(*frames):
    scoring = IdentityScoring()
    for gt_ids, track_ids in frames:
        scoring.add_detections(np.array(gt_ids), np.array(track_ids))
    return scoring.score()


def test_perfect_tracks_score_one():
    score = scored(([1, 2], [9, 4]), ([2, 1], [4, 9]))
    assert (score.idf1, score.mota, score.id_switches) == (1, 1, 0)
    assert (score.n_frames, score.n_gt, score.n_tracks) == (2, 2, 2)


def test_a_swap_is_two_switches():
    score = scored(([1, 2], [1, 2]), ([1, 2], [2, 1]))
    assert score.id_switches == 2
    assert score.mota == pytest.approx(1 - 2 / 4)
    assert score.idf1 == pytest.approx(0.5)


def test_a_new_id_after_a_gap_is_a_switch_and_the_same_id_is_none():
    assert scored(([1], [5]), ([], []), ([1], [6])).id_switches == 1
    assert scored(([1], [5]), ([1], [-1]), ([1], [5])).id_switches == 0


def test_a_missed_detection_and_a_false_one_cost_the_same():
    missed, false = scored(([1, 2], [1, -1])), scored(([1, 2, -1], [1, 2, 3]))
    assert missed.mota == pytest.approx(0.5)
    assert false.mota == pytest.approx(0.5)
    assert missed.idf1 == pytest.approx(2 / 3)
    assert false.idf1 == pytest.approx(4 / 5)


def test_without_ground_truth_there_is_no_score():
    score = scored(([-1, -1], [0, 1]))
    assert math.isnan(score.idf1)
    assert math.isnan(score.mota)
    assert score.n_tracks == 2


def test_boxes_that_overlap_by_less_than_a_half_do_not_match():
    scoring = IdentityScoring()
    gt = np.array([[0, 0, 10, 10]], float)
    scoring.add_boxes(np.array([1]), gt, np.array([1]), gt + np.array([6, 0, 6, 0]))
    assert scoring.score().mota == -1
    scoring.add_boxes(np.array([1]), gt, np.array([1]), gt + np.array([3, 0, 3, 0]))
    assert scoring.score().mota == pytest.approx(1 - 2 / 2)


def reference(gt, tracks, similarity):
    """IDF1, MOTA and switches by TrackEval; ids must be small whole numbers."""
    gt_names = {name: i for i, name in enumerate(sorted({int(i) for ids in gt for i in ids}))}
    names = {name: i for i, name in enumerate(sorted({int(i) for ids in tracks for i in ids}))}
    data = {
        "gt_ids": [np.array([gt_names[int(i)] for i in ids], int) for ids in gt],
        "tracker_ids": [np.array([names[int(i)] for i in ids], int) for ids in tracks],
        "similarity_scores": similarity,
        "num_timesteps": len(gt),
        "num_gt_ids": len(gt_names),
        "num_tracker_ids": len(names),
        "num_gt_dets": sum(map(len, gt)),
        "num_tracker_dets": sum(map(len, tracks)),
    }
    clear = CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    identity = Identity({"PRINT_CONFIG": False}).eval_sequence(data)
    return identity["IDF1"], clear["MOTA"], clear["IDSW"]


@pytest.mark.parametrize("seed", range(12))
def test_scores_of_detections_equal_trackevals(seed):
    generator = np.random.default_rng(seed)
    scoring, gt, tracks, similarity = IdentityScoring(), [], [], []
    for _ in range(60):
        n = generator.integers(0, 7)
        gt_ids = generator.permutation(8)[:n]
        track_ids = np.where(generator.random(n) < 0.85, (gt_ids + (generator.random() < 0.1)) % 11, -1)
        gt_ids = np.where(generator.random(n) < 0.9, gt_ids, -1)
        scoring.add_detections(gt_ids, track_ids)
        same = np.eye(n)[gt_ids >= 0][:, track_ids >= 0]
        gt.append(gt_ids[gt_ids >= 0])
        tracks.append(track_ids[track_ids >= 0])
        similarity.append(same)
    score = scoring.score()
    assert (score.idf1, score.mota, score.id_switches) == pytest.approx(reference(gt, tracks, similarity))


@pytest.mark.parametrize("seed", range(12))
def test_scores_of_boxes_equal_trackevals(seed):
    generator = np.random.default_rng(seed)
    scoring, gt, tracks, similarity = IdentityScoring(), [], [], []
    corner = generator.uniform(0, 60, (6, 2))
    for frame in range(80):
        corner = corner + generator.normal(0, 3, corner.shape)
        boxes = np.concatenate([corner, corner + 20], axis=1)
        seen, found = generator.random(6) < 0.9, generator.random(6) < 0.85
        gt_ids = np.arange(6)[seen]
        names = np.arange(6) + (6 * (np.arange(6) % 2) if frame >= 30 else 0)
        track_ids = np.roll(names, 1 if frame >= 60 else 0)[found]
        noisy = boxes + generator.normal(0, 2.5, boxes.shape)
        scoring.add_boxes(gt_ids, boxes[seen], track_ids, noisy[found])
        gt.append(gt_ids)
        tracks.append(track_ids)
        similarity.append(iou(boxes[seen], noisy[found]))
    score = scoring.score()
    assert score.id_switches > 0
    assert (score.idf1, score.mota, score.id_switches) == pytest.approx(reference(gt, tracks, similarity))
