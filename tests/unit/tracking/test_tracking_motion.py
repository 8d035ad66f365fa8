from __future__ import annotations

import numpy as np
import pytest

from trackd.config import TrackerConfig
from trackd.models.motion import filter_bank
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


class Stream:
    """A tracker with the motion scorer, for boxes that are given by their centres."""

    def __init__(self, side: float = 40.0, stride: int = 1, **settings) -> None:
        self.side, self.stride, self.index = side, stride, 0
        self.tracker = Tracker(TrackerConfig(**settings), MotionScorer())

    def frame(self, *centres: tuple[float, float], image=None, sides=None) -> Assignment:
        middle = np.asarray(centres, np.float32).reshape(-1, 2)
        half = np.full(len(middle), self.side) if sides is None else np.asarray(sides)
        boxes = np.concatenate([middle - half[:, None] / 2, middle + half[:, None] / 2], axis=1).astype(np.float32)
        instances = Instances.of(Detections(boxes=boxes), LiveDataset())
        features = self.tracker.scorer.encode(image, instances)
        index = self.index * self.stride
        found = self.tracker.step(index, index * 40_000_000, instances, features, self.index)
        self.index += 1
        return found

    def skip(self, frames: int) -> None:
        for _ in range(frames):
            self.frame()


@pytest.mark.parametrize("stride", [1, 5])
def test_tracks_that_cross_keep_their_ids(stride: int) -> None:
    stream = Stream(stride=stride)
    for step in range(40):
        x = 10.0 * step
        found = stream.frame((x, 100 + 0.2 * x), (390 - x, 180 - 0.2 * x))
        assert found.track_ids.tolist() == [0, 1]


def test_a_track_is_found_at_its_predicted_place_after_an_occlusion() -> None:
    stream = Stream()
    for step in range(30):
        stream.frame((5.0 * step, 100), (300, 300))
    for _ in range(8):
        stream.frame((300, 300))
    found = stream.frame((5.0 * 38, 100), (300, 300))
    assert found.track_ids.tolist() == [0, 1]
    assert found.found_tracks == (0,)


def test_an_unmatched_detection_far_away_begins_a_track() -> None:
    stream = Stream()
    for _ in range(10):
        stream.frame((100, 100))
    assert stream.frame((100, 100), (700, 500)).track_ids.tolist() == [0, 1]


def test_a_lost_tracks_logit_falls_with_the_length_of_its_gap() -> None:
    logits = []
    for gap in (0, 3, 30, 300):
        stream = Stream()
        for _ in range(20):
            stream.frame((100, 100))
        stream.skip(gap)
        instances = Instances.of(Detections(boxes=np.array([[80, 80, 120, 120]], np.float32)), LiveDataset())
        one = stream.tracker
        query = Query(instances, None, stream.index, 0, one.window, one.window.live, True, np.arange(1))
        scores = one.scorer.score(query)
        logits.append(float(scores.logits[0, 0]))
    assert logits == sorted(logits, reverse=True)
    assert logits[0] > 3
    assert logits[-1] < logits[0] - 5


@pytest.mark.parametrize("side", [4.0, 40.0, 400.0])
def test_the_scale_of_the_motion_is_learnt_for_boxes_of_any_size(side: float) -> None:
    rng = np.random.default_rng(0)
    stream = Stream(side)
    homes = np.array([[0, 0], [60, 0], [0, 60], [60, 60]]) + 200.0
    for _ in range(60):
        where = homes + rng.normal(0, 2, homes.shape)
        found = stream.frame(*where)
    assert found.track_ids.tolist() == [0, 1, 2, 3]


def test_forced_pairs_keep_the_order_of_their_distances() -> None:
    stream = Stream(max_tracks=2)
    for _ in range(5):
        stream.frame((100, 100), (900, 100))
    for _ in range(60):
        stream.frame()
    found = stream.frame((2000, 100), (300, 2000))
    assert found.track_ids.tolist() == [1, 0]
    assert found.flags == ("forced",)


def test_a_detection_out_of_reach_of_each_missing_track_gets_no_id_until_the_track_can_be_there() -> None:
    stream = Stream(max_tracks=2)
    for _ in range(5):
        stream.frame((100, 100), (900, 100))
    found = [stream.frame((100, 100), (900, 510)) for _ in range(8)]  # 410 px from its last place; boxes of 40 px
    assert [each.track_ids.tolist() for each in found] == [[0, -1]] * 5 + [[0, 1]] * 3
    assert [each.flags for each in found[:5]] == [("out_of_reach",)] * 5
    assert found[5].flags == ("forced",)


def test_a_false_detection_beside_a_track_does_not_move_the_ids_of_the_others() -> None:
    stream = Stream(max_tracks=3)
    for _ in range(20):
        stream.frame((100, 100), (180, 100), (900, 900))
    for _ in range(12):  # the third animal is missed; something false is beside the first
        found = stream.frame((100, 100), (180, 100), (60, 130))
        assert found.track_ids.tolist() == [0, 1, -1]


def test_size_distinguishes_tracks_that_meet() -> None:
    stream = Stream()
    for step in range(30):
        stream.frame((100 + step, 100), (160 - step, 100), sides=[40, 60])
    stream.skip(5)
    assert stream.frame((131, 100), (130, 100), sides=[60, 40]).track_ids.tolist() == [1, 0]


def test_a_jump_of_frame_index_counts_as_elapsed_time() -> None:
    near, far = Stream(), Stream()
    for stream in (near, far):
        for step in range(20):
            stream.frame((10.0 * step, 100))
    near.index += 0
    far.index += 29
    assert near.frame((190 + 300, 100)).track_ids.tolist() == [1]
    assert far.frame((190 + 300, 100)).track_ids.tolist() == [0]


def test_near_pairs_alone_give_the_ids_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(dense_pairs: int) -> list[list[int]]:
        monkeypatch.setattr(filter_bank, "DENSE_PAIRS", dense_pairs)
        rng = np.random.default_rng(5)
        stream, found = Stream(), []
        centres, speed = rng.uniform(0, 1000, (30, 2)), rng.normal(0, 4, (30, 2))
        for _ in range(60):
            centres = centres + speed
            shown = rng.random(30) > 0.1
            noise = rng.normal(0, 1.5, (int(shown.sum()), 2))
            found.append(stream.frame(*(centres[shown] + noise), *rng.uniform(0, 1000, (2, 2))).track_ids.tolist())
        return found

    assert run(0) == run(10**9)


def render(*discs: tuple[float, float, int]) -> np.ndarray:
    image = np.full((200, 400), 120, np.uint8)
    y, x = np.mgrid[:200, :400]
    for cx, cy, brightness in discs:
        image[np.hypot(x - cx, y - cy) < 15] = brightness
    return image


def test_appearance_distinguishes_tracks_that_motion_cannot() -> None:
    """Two discs meet while they are hidden, and reappear where either could be."""
    stream = Stream()
    for step in range(40):
        left, right = 100.0 + 2 * step, 300.0 - 2 * step
        stream.frame((left, 100), (right, 100), image=render((left, 100, 20), (right, 100, 230)))
    stream.skip(12)
    found = stream.frame((200, 80), (200, 120), image=render((200, 80, 230), (200, 120, 20)))
    assert found.track_ids.tolist() == [1, 0]


def test_without_visual_features_no_image_is_encoded() -> None:
    empty = Instances.of(Detections.empty(), LiveDataset())
    assert MotionScorer(use_vis_feats=False).encode(render(), empty) is None
    assert MotionScorer().encode(None, empty) is None
    assert MotionScorer().encode(render(), empty) is not None


@pytest.mark.parametrize("shape", [(50, 60), (50, 60, 1), (50, 60, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_any_type_are_encoded_and_boxes_may_leave_them(shape, dtype) -> None:
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    stream = Stream()
    for _ in range(4):
        found = stream.frame((0, 0), (55, 45), (-300, 900), image=image)
    assert found.track_ids.tolist() == [0, 1, 2]
    assert stream.frame(image=image).lost_tracks == (0, 1, 2)


def test_frames_with_and_without_images_may_mix() -> None:
    image, colour = render((100, 100, 20)), np.stack([render((100, 100, 20))] * 3, axis=-1)
    stream = Stream()
    for step in range(12):
        found = stream.frame((100, 100), image=(image, None, colour)[step % 3])
    assert found.track_ids.tolist() == [0]


def test_a_snapshot_contains_what_was_learnt_from_images() -> None:
    one, other = Stream(), Stream()
    scenes = [render((100 + 2 * step, 100, 20), (300 - 2 * step, 100, 230)) for step in range(60)]
    for step in range(30):
        one.frame((100 + 2 * step, 100), (300 - 2 * step, 100), image=scenes[step])
    other.tracker.restore(one.tracker.snapshot())
    other.index = one.index
    for step in range(30, 60):
        results = [
            each.frame((100 + 2 * step, 100), (300 - 2 * step, 100), image=scenes[step]) for each in (one, other)
        ]
        assert results[0].track_ids.tolist() == results[1].track_ids.tolist()
        assert results[0].track_scores.tobytes() == results[1].track_scores.tobytes()
