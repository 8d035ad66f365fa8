from __future__ import annotations

import numpy as np
import pytest
from tracking_scripted import Scene

from trackd.config import TrackerConfig
from trackd.tracking.association import associate
from trackd.tracking.instances import Instances
from trackd.tracking.linear_assignment import best_pairs, pair_probabilities, thresholds
from trackd.tracking.rules.confidence import is_low
from trackd.tracking.rules.distance import filter_far, penalise_far
from trackd.tracking.rules.iou import anchor_iou, iou, weigh_overlap
from trackd.tracking.rules.orientation import body_axes, penalise_turned
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.window import RollingWindow
from trackd_client.detections import Detections, Skeleton
from trackd_client.recordings.config import LiveDataset

SKELETON = Skeleton(("head", "neck", "tail"))


def f4(values) -> np.ndarray:
    return np.asarray(values, np.float32)


def square(x: float, y: float, side: float = 10) -> list[list[float]]:
    return [[x, y, x + side, y + side]]


def test_iou_is_intersection_over_union() -> None:
    found = iou(f4([[0, 0, 10, 10]]), f4([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]]))
    np.testing.assert_allclose(found[0], [1 / 3, 1, 0], rtol=1e-6)


def test_anchors_that_are_missing_do_not_count_in_the_overlap() -> None:
    query = f4([[[0, 0, 10, 10], [np.nan] * 4]])
    track = f4([[[0, 0, 10, 10], [0, 0, 5, 5]]])
    assert anchor_iou(query, track)[0, 0] == 1
    assert anchor_iou(f4([[[np.nan] * 4]]), f4([[[0, 0, 5, 5]]]))[0, 0] == 0


def test_mult_adds_overlap_and_max_takes_the_larger() -> None:
    table, shared = f4([[0.2, 0.9]]), f4([[0.5, 0.5]])
    np.testing.assert_allclose(weigh_overlap(table, shared, "mult")[0], [0.35, 1.1], rtol=1e-6)
    np.testing.assert_allclose(weigh_overlap(table, shared, "max")[0], [0.5, 0.9])


def test_under_2024_a_pair_far_from_the_tracks_whole_window_has_score_0() -> None:
    query = f4([square(0, 0)])
    window = f4([[square(300, 0), square(3, 0)], [square(300, 0), square(90, 0)]])
    found = filter_far(f4([[0.7, 0.6]]), query, window, 0.1, None)
    assert found.tolist() == [[np.float32(0.7), 0.0]]
    limit = 9 / 200  # squared distance over squared diagonal
    assert filter_far(f4([[1.0, 1.0]]), query, window, limit * 0.99, None)[0, 0] == 0
    assert filter_far(f4([[1.0, 1.0]]), query, window, limit * 1.01, None)[0, 0] == 1


def test_under_2024_distances_are_normalised_by_the_frame() -> None:
    query, window = f4([square(0, 0)]), f4([[square(8, 0)]])
    table = f4([[1.0]])
    assert filter_far(table, query, window, 0.4, None)[0, 0] == 1  # 64 / 200
    assert filter_far(table, query, window, 0.4, (1000, 250))[0, 0] == 0
    assert filter_far(table, query, window, 0.4, (250, 1000))[0, 0] == 1


def test_an_empty_slot_of_the_window_is_never_near() -> None:
    window = f4([[[[np.nan] * 4], square(0, 0)], [[[np.nan] * 4], [[np.nan] * 4]]])
    assert filter_far(f4([[1.0, 1.0]]), f4([square(0, 0)]), window, 0.1, None).tolist() == [[1, 0]]


def test_under_2026_only_the_distance_beyond_the_limit_is_penalised() -> None:
    query, last = f4([square(0, 0)]), f4([square(30, 0), square(0, 70)])
    table = f4([[0.6, 0.4]])
    near = penalise_far(table, query, last, 100, 1.0, (100, 100))
    np.testing.assert_allclose(near, table, atol=1e-6)
    far = penalise_far(table, query, last, 50, 0.5, (100, 100))
    np.testing.assert_allclose(far[0], [0.6, 0.4 - 0.5 * 0.5 / 0.5], atol=1e-4)


def test_an_axis_runs_from_the_first_visible_back_node_to_the_first_visible_front_node() -> None:
    poses = np.array([[[0, 10], [0, 0], [0, -5.0]], [[np.nan, np.nan], [3, 0], [0, 0]]])
    axes = body_axes(poses, SKELETON, ["head", "neck"], ["tail"])
    np.testing.assert_allclose(axes, [[0, 1], [1, 0]], atol=1e-6)


def test_without_named_nodes_the_axis_is_the_principal_one() -> None:
    line = np.array([[0, 0], [1, 2.0], [2, 4]])
    axis = body_axes(line[None], None, None, None)[0]
    assert abs(axis @ np.array([1, 2]) / np.sqrt(5)) == pytest.approx(1)
    assert np.isnan(body_axes(np.full((1, 3, 2), 4.0), None, None, None)).all()


def test_a_turned_instance_is_penalised_and_one_without_an_axis_is_not() -> None:
    axes, last = f4([[1, 0]]), f4([[-1, 0], [0, 1], [np.nan, np.nan]])
    found = penalise_turned(f4([[0.5, 0.5, 0.5]]), axes, last, 30, 1.0)[0]
    np.testing.assert_allclose(found, [0.5, 0.5 - 1.5, 0.5], atol=1e-4)


def test_a_pair_must_exceed_its_threshold() -> None:
    rows, columns = best_pairs(f4([[0.5, 0.0], [0.0, 0.5]]), np.array([0.5, 0.4]))
    assert (rows.tolist(), columns.tolist()) == ([1], [1])


def test_the_best_total_wins_over_the_best_pair() -> None:
    _, columns = best_pairs(f4([[0.9, 0.8], [0.8, 0.1]]), np.zeros(2))
    assert columns.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("logit", "force", "matched", "flags"),
    [(-8.0, False, 0, []), (-8.0, True, 1, ["forced"]), (8.0, True, 1, [])],
)
def test_a_forced_pair_is_accepted_and_flagged(logit: float, force: bool, matched: int, flags: list[str]) -> None:
    window, live = RollingWindow(1, 1), np.array([0])
    instances = Instances.of(Detections(boxes=f4([[0, 0, 9, 9]])), LiveDataset())
    query = Query(instances, None, 0, 0, window, live, True, np.arange(1), force=force)
    scores = Scores(f4([[logit]]), live, np.zeros(1, np.int64), 2)
    found = associate(query, scores, TrackerConfig(overlap_thresh=0.5, mult_thresh=False), ())
    assert len(found.rows) == matched
    assert query.flags == flags


def test_thresholds_grow_with_a_tracks_number_of_observations() -> None:
    assert thresholds(0.01, True, np.array([1, 8])).tolist() == [0.01, 0.08]
    assert thresholds(0.01, False, np.array([1, 8])).tolist() == [0.01, 0.01]


def test_a_track_score_is_the_softmax_over_tracks() -> None:
    table = f4([[0.5, 0.3], [0.0, 1.0]])
    found = pair_probabilities(table, np.array([0]), np.array([1]), 0.1)
    assert found[0] == pytest.approx(np.exp(3) / (np.exp(3) + np.exp(5)), rel=1e-5)


def test_a_frame_is_uncertain_when_a_row_could_be_any_track() -> None:
    even, sure = f4([[0.5, 0.5]]), f4([[1.0, 0.0]])
    assert is_low(even, 0.1, 0.1)
    assert not is_low(sure, 0.1, 0.5)
    assert is_low(np.concatenate([sure, even]), 0.1, 0.1)


def test_one_track_or_a_threshold_of_0_never_flags() -> None:
    assert not is_low(f4([[0.5]]), 0.1, 1.0)
    assert not is_low(f4([[0.5, 0.5]]), 0.1, 0.0)


def test_a_negative_score_counts_as_what_it_is_in_the_assignment() -> None:
    """With 0 in its place the sum 0.5 + 0 would be larger than 0.1 + 0.2."""
    scene = Scene(
        semantics="2026", max_center_dist=150, distance_penalty_multiplier=5, mult_thresh=False, overlap_thresh=0.05
    )
    half = np.array([-5.0, -5, 5, 5])
    scene.frame(2, boxes=np.array([[0.0, 0, 0, 0], [100, 0, 100, 0]]) + half)
    none = np.log(0.4)
    odds = {
        (0, 0): np.log(0.5) - none,
        (0, 1): np.log(0.1) - none,
        (1, 0): np.log(0.2 / 0.6),
        (1, 1): np.log(0.2 / 0.6),
    }
    found = scene.frame(2, logits=odds, boxes=np.array([[0.0, 0, 0, 0], [-100, 0, -100, 0]]) + half)
    assert found.track_ids.tolist() == [1, 0]
