from __future__ import annotations

import numpy as np
import pytest
from tracking_scripted import NEVER, Scene, boxes_of

from trackd.config import TrackerConfig
from trackd.tracking.tracker import Tracker


def test_first_instances_become_tracks_in_the_order_of_the_detections() -> None:
    scene = Scene()
    first = scene.frame(3)
    assert first.track_ids.tolist() == [0, 1, 2]
    assert first.new_tracks == (0, 1, 2)
    assert np.isnan(first.track_scores).all()


def test_a_matched_instance_keeps_its_track_and_has_a_track_score() -> None:
    scene = Scene()
    scene.frame(2)
    second = scene.frame(2, {0: 1, 1: 0})
    assert second.track_ids.tolist() == [1, 0]
    assert ((second.track_scores > 0.9) & (second.track_scores <= 1)).all()
    assert (second.new_tracks, second.lost_tracks, second.found_tracks, second.ended_tracks) == ((), (), (), ())


def test_a_track_is_lost_once_and_found_once_and_never_ends_without_a_gap_limit() -> None:
    scene = Scene()
    scene.frame(2)
    assert scene.frame(1, {0: 1}).lost_tracks == (0,)
    assert scene.frame(1, {0: 1}).lost_tracks == ()
    assert scene.tracker.live().states == ["lost", "active"]
    found = scene.frame(1, {0: 0}, index=100_000)
    assert (found.found_tracks, found.lost_tracks, found.ended_tracks) == ((0,), (1,), ())


def test_empty_frames_age_tracks() -> None:
    scene = Scene(max_gap=3)
    scene.frame(1)
    assert scene.frame(0).lost_tracks == (0,)
    assert scene.frame(0).ended_tracks == ()
    assert scene.frame(0).ended_tracks == (0,)
    assert len(scene.tracker.live().ids) == 0


def test_a_track_that_ends_when_first_missed_is_not_called_lost() -> None:
    scene = Scene(max_gap=1)
    scene.frame(1)
    ended = scene.frame(0)
    assert (ended.lost_tracks, ended.ended_tracks) == ((), (0,))


@pytest.mark.parametrize("returns_at", [2, 3, 4, 5])
def test_dropped_frames_age_a_track_as_empty_ones_do(returns_at: int) -> None:
    dropped, empty = Scene(max_gap=3), Scene(max_gap=3)
    for scene in (dropped, empty):
        scene.frame(1, index=0)
    for index in range(1, returns_at):
        empty.frame(0, index=index)
    results = [scene.frame(1, {0: 0}, index=returns_at).track_ids.tolist() for scene in (dropped, empty)]
    assert results[0] == results[1] == ([0] if returns_at <= 3 else [1])


def test_a_gap_in_seconds_ends_a_track_by_capture_time() -> None:
    scene = Scene(max_gap_s=1.0)
    scene.frame(1, t_s=0)
    assert scene.frame(0, t_s=0.9).ended_tracks == ()
    assert scene.frame(0, t_s=1.0).ended_tracks == (0,)


def test_a_track_that_is_in_every_frame_of_a_slow_camera_does_not_end() -> None:
    scene = Scene(max_gap_s=0.5)
    for index in range(4):
        assert scene.frame(1, {0: 0} if index else None, t_s=float(index)).track_ids.tolist() == [0]


def test_the_first_gap_limit_that_is_reached_ends_a_track() -> None:
    by_frames, by_time = Scene(max_gap=2, max_gap_s=99), Scene(max_gap=99, max_gap_s=0.05)
    for scene in (by_frames, by_time):
        scene.frame(1)
        assert scene.frame(0).ended_tracks == ()
        assert scene.frame(0).ended_tracks == (0,)


def test_an_id_is_never_given_again_even_after_all_tracks_have_ended() -> None:
    scene = Scene(max_gap=1)
    scene.frame(3)
    scene.frame(0)
    assert scene.frame(2).track_ids.tolist() == [3, 4]
    assert scene.tracker.next_id == 5


def test_a_slot_that_is_freed_and_reused_in_one_frame_starts_empty() -> None:
    scene = Scene(max_gap=1)
    scene.frame(1)
    result = scene.frame(1)
    assert (result.ended_tracks, result.new_tracks) == ((0,), (1,))
    assert scene.scorer.ended == [0]
    assert scene.tracker.window.count[scene.tracker.window.live].tolist() == [1]


def test_max_tracks_holds_in_the_first_frame_and_selects_the_detections_with_the_highest_scores() -> None:
    scene = Scene(max_tracks=2)
    first = scene.frame(4, scores=[0.1, 0.9, np.nan, 0.5])
    assert first.track_ids.tolist() == [-1, 0, -1, 1]
    assert first.flags == ()


def test_without_scores_max_tracks_selects_the_first_detections() -> None:
    assert Scene(max_tracks=2).frame(3).track_ids.tolist() == [0, 1, -1]


def test_at_max_tracks_pairs_below_the_threshold_are_accepted_and_flagged() -> None:
    scene = Scene(max_tracks=2)
    scene.frame(2)
    forced = scene.frame(2, logits={(0, 1): NEVER + 1, (1, 0): NEVER + 1})
    assert forced.track_ids.tolist() == [1, 0]
    assert forced.flags == ("forced",)
    usual = scene.frame(3, {0: 0, 1: 1})
    assert usual.track_ids.tolist() == [0, 1, -1]
    assert usual.flags == ()


def test_below_max_tracks_a_far_instance_begins_a_track() -> None:
    scene = Scene(max_tracks=3)
    scene.frame(1)
    assert scene.frame(1).track_ids.tolist() == [1]


def test_a_track_that_ends_frees_its_place_under_max_tracks() -> None:
    scene = Scene(max_tracks=1, max_gap=1)
    scene.frame(1)
    scene.frame(0)
    assert scene.frame(1).track_ids.tolist() == [1]


def test_the_threshold_grows_with_the_tracks_observations_if_mult_thresh_is_on() -> None:
    for mult_thresh, kept in ((True, False), (False, True)):
        scene = Scene(overlap_thresh=0.2, mult_thresh=mult_thresh, window_size=4)
        scene.frame(1)
        for _ in range(3):
            scene.frame(1, {0: 0})
        result = scene.frame(1, logits={(0, 0): 0.0})  # a probability of 0.5 against a threshold of 0.2 or 0.8
        assert bool(result.track_ids[0] == 0) is kept


def test_at_the_limit_of_active_tracks_the_longest_missing_track_ends() -> None:
    scene = Scene(max_active_tracks=3)
    scene.frame(2)
    scene.frame(1, {0: 1})
    result = scene.frame(3, {0: 1})
    assert result.track_ids.tolist() == [1, 2, 3]
    assert result.ended_tracks == (0,)
    assert result.flags == ("evicted",)


def test_above_the_limit_of_active_tracks_the_instances_with_the_lowest_scores_get_no_track() -> None:
    scene = Scene(max_active_tracks=2)
    first = scene.frame(3, scores=[0.2, 0.8, 0.9])
    assert first.track_ids.tolist() == [-1, 0, 1]
    second = scene.frame(3, {1: 0, 2: 1}, scores=[0.9, 0.8, 0.9])
    assert second.track_ids.tolist() == [-1, 0, 1]
    assert second.flags == ()


def test_ids_begin_at_the_first_id_that_the_tracker_was_given() -> None:
    scene = Scene()
    scene.tracker = Tracker(TrackerConfig(), scene.scorer, first_id=7)
    assert scene.frame(2).track_ids.tolist() == [7, 8]
    assert scene.frame(3, {0: 8}).track_ids.tolist() == [8, 9, 10]


def test_a_broken_detection_gets_no_track_and_affects_no_other() -> None:
    scene = Scene()
    boxes = boxes_of(3)
    boxes[1] = np.nan
    first = scene.frame(3, boxes=boxes)
    assert first.track_ids.tolist() == [0, -1, 1]
    assert first.flags == ("invalid_detection",)
    assert scene.frame(3, {0: 0, 2: 1}, boxes=boxes).track_ids.tolist() == [0, -1, 1]


def test_a_nan_logit_leaves_its_row_unassigned_and_flagged() -> None:
    scene = Scene()
    scene.frame(2)
    result = scene.frame(2, {0: 0}, logits={(1, 1): np.nan})
    assert result.track_ids.tolist() == [0, -1]
    assert result.flags == ("invalid_detection",)
    assert result.new_tracks == ()


def test_a_frame_with_only_nan_logits_does_not_fail() -> None:
    scene = Scene()
    scene.frame(1)
    scene.scorer.default = float("nan")
    assert scene.frame(1).track_ids.tolist() == [-1]


def test_clips_are_kept_apart_without_persistent_tracking_and_ids_still_rise() -> None:
    scene = Scene(clip_length=2, persistent_tracking=False)
    scene.frame(1)
    scene.frame(1, {0: 0})
    border = scene.frame(1, {0: 0})
    assert (border.track_ids.tolist(), border.ended_tracks) == ([1], (0,))
    kept = Scene(clip_length=2, persistent_tracking=True)
    kept.frame(1)
    kept.frame(1, {0: 0})
    assert kept.frame(1, {0: 0}).track_ids.tolist() == [0]


def test_a_frame_with_an_uncertain_instance_is_flagged() -> None:
    scene = Scene(confidence_threshold=0.5)
    scene.frame(2)
    assert scene.frame(2, logits={(0, 0): 1.0, (0, 1): 1.0, (1, 1): 9.0}).flags == ("low_confidence",)
    assert scene.frame(2, {0: 0, 1: 1}).flags == ()


def test_a_new_configuration_keeps_the_track_ids() -> None:
    scene = Scene(window_size=4)
    scene.frame(2)
    scene.frame(2, {0: 0, 1: 1})
    scene.tracker.configure(TrackerConfig(window_size=1, max_gap=1))
    assert scene.scorer.resized is not None
    result = scene.frame(1, {0: 1})
    assert (result.track_ids.tolist(), result.ended_tracks) == ([1], (0,))


def test_live_tracks_have_the_last_published_box_and_frame() -> None:
    scene = Scene()
    scene.frame(2)
    scene.frame(1, {0: 1})
    live = scene.tracker.live()
    assert live.ids.tolist() == [0, 1]
    assert live.frame_index.tolist() == [0, 1]
    assert live.active.tolist() == [False, True]
    np.testing.assert_array_equal(live.boxes, boxes_of(2)[[0, 0]])


def test_live_tracks_have_their_first_frame_after_a_restart_too() -> None:
    scene = Scene()
    scene.frame(1)
    scene.frame(20, {0: 0})  # more than the first capacity
    scene.frame(20, {i: i for i in range(20)})
    first = [0] + [1] * 19
    assert scene.tracker.live().first_frame_index.tolist() == first
    state = scene.tracker.snapshot()
    restored = Scene()
    restored.tracker.restore(state)
    assert restored.tracker.live().first_frame_index.tolist() == first


def test_a_snapshot_of_an_earlier_version_gives_the_last_observation_as_the_first_frame() -> None:
    scene = Scene()
    scene.frame(2)
    scene.frame(2, {0: 0, 1: 1})
    state = scene.tracker.snapshot()
    del state["lifecycle"]["first_index"]
    restored = Scene()
    restored.tracker.restore(state)
    assert restored.tracker.live().first_frame_index.tolist() == [1, 1]


def test_the_iou_rule_can_match_a_pair_that_the_scorer_would_not() -> None:
    for iou, kept in ((None, False), ("max", True)):
        scene = Scene(iou=iou)
        scene.frame(1)
        assert bool(scene.frame(1).track_ids[0] == 0) is kept


def test_the_distance_rule_excludes_far_pairs_in_2024_and_penalises_them_in_2026() -> None:
    far = boxes_of(3)[2:]
    for settings in ({"max_center_dist": 0.1}, {"max_center_dist": 50.0, "semantics": "2026"}):
        scene = Scene(**settings)
        scene.frame(1)
        assert scene.frame(1, {0: 0}, boxes=far).track_ids.tolist() == [1]
    scene = Scene()
    scene.frame(1)
    assert scene.frame(1, {0: 0}, boxes=far).track_ids.tolist() == [0]
