"""Poses tell the near tracks of the motion scorer apart."""

from __future__ import annotations

import numpy as np
import pytest

from trackd.config import TrackerConfig
from trackd.models.motion import filter_bank, pose_model
from trackd.models.motion.pose import MOST_NODES, Poses
from trackd.models.motion.scorer import MotionScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Assignment, Tracker
from trackd_client.detections import Detections
from trackd_client.recordings.config import LiveDataset

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")

BODY = np.array([[30.0, 0], [10, 0], [-30, 0], [5, 12], [5, -12]])  # head, thorax, tail, left, right
Place = tuple[float, float, float]  # x y, heading in radians


def posed(place: Place, body: np.ndarray = BODY) -> np.ndarray:
    x, y, heading = place
    cos, sin = np.cos(heading), np.sin(heading)
    return body @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


class Stream:
    """A tracker with the motion scorer, for poses and boxes of one side."""

    def __init__(self, side: float = 60.0) -> None:
        self.side, self.index = side, 0
        self.scorer = MotionScorer()
        self.tracker = Tracker(TrackerConfig(), self.scorer)
        self.rng = np.random.default_rng(0)

    def instances(self, poses: np.ndarray | None, places: list[Place]) -> Instances:
        middle = np.array([place[:2] for place in places]).reshape(-1, 2)
        boxes = np.concatenate([middle - self.side / 2, middle + self.side / 2], axis=1).astype(np.float32)
        keypoints = None if poses is None else np.asarray(poses, np.float32)
        return Instances.of(Detections(boxes=boxes, keypoints=keypoints), LiveDataset())

    def frame(self, *places: Place, poses: np.ndarray | None = None, jitter: float = 0.5) -> Assignment:
        if poses is None:
            poses = np.array([posed(place) for place in places]).reshape(len(places), len(BODY), 2)
            poses = poses + self.rng.normal(0, jitter, poses.shape)
        return self.step(self.instances(poses, list(places)))

    def step(self, instances: Instances) -> Assignment:
        found = self.tracker.step(self.index, self.index * 40_000_000, instances, None, self.index)
        self.index += 1
        return found

    def query(self, instances: Instances) -> Query:
        live = self.tracker.window.live
        rows = np.arange(len(instances))
        return Query(instances, None, self.index, 0, self.tracker.window, live, True, rows)

    def scores(self, *places: Place, poses: np.ndarray | None = None) -> Scores:
        if poses is None:
            poses = np.array([posed(place) for place in places])
        return self.scorer.score(self.query(self.instances(poses, list(places))))


def apart(frames: int = 40) -> Stream:
    """A stream of two animals, far from each other at first, that meet at one place with different headings."""
    stream = Stream()
    for step in range(frames):
        away = 2.0 * (frames - step)
        stream.frame((300 - away, 200, 0.3 * np.sin(step / 5)), (300 + away, 200, 2 + 0.3 * np.sin(step / 7)))
    return stream


def test_animals_at_one_place_keep_their_ids_by_their_headings() -> None:
    stream = apart()
    rng = np.random.default_rng(1)
    for _ in range(30):  # both shake at one place: places and boxes are the same but for noise
        x, y, u, v = 300 + rng.normal(0, 6, 4)
        found = stream.frame((x, y - 100, 0.1), (u, v - 100, 2.1))
        assert found.track_ids.tolist() == [0, 1]


def test_without_a_common_near_track_poses_change_no_logit() -> None:
    stream = Stream()
    for _ in range(20):
        stream.frame((100, 100, 0), (500, 500, 1))
    places = [(100.0, 100.0, np.pi), (500.0, 500.0, 3.0)]
    with_poses = stream.scores(*places)
    without = stream.scorer.score(stream.query(stream.instances(None, places)))
    assert np.array_equal(with_poses.logits, without.logits)


def test_poses_of_one_node_change_nothing() -> None:
    plain, single = Stream(), Stream()
    rng = np.random.default_rng(2)
    for _ in range(50):
        places = [(*rng.normal(200, 15, 2), 0.0) for _ in range(4)]
        nodes = rng.normal(200, 15, (4, 1, 2))
        without, with_node = plain.instances(None, places), single.instances(nodes, places)
        assert plain.step(without).track_ids.tolist() == single.step(with_node).track_ids.tolist()
        logits = [one.scorer.score(one.query(found)).logits for one, found in ((plain, without), (single, with_node))]
        assert np.array_equal(*logits)
    assert "poses" not in single.scorer.snapshot(single.tracker.window.live)


def test_a_stream_that_sends_poses_first_and_then_boxes_goes_on() -> None:
    stream = apart()
    for _ in range(5):
        found = stream.step(stream.instances(None, [(298, 200, 0), (302, 200, 0), (900, 900, 0)]))
    assert sorted(found.track_ids.tolist()) == [0, 1, 2]
    assert stream.frame((298, 200, 0), (302, 200, 2), (900, 900, 1)).track_ids.tolist() == [0, 1, 2]


def test_exchanged_head_and_tail_end_no_track() -> None:
    stream = apart()
    for step in range(20):
        turned = np.pi if step % 5 == 0 else 0.0
        found = stream.frame((300, 200, turned), (306, 203, 2.0))
        assert sorted(found.track_ids.tolist()) == [0, 1]
        assert found.new_tracks == ()


def test_a_pose_lowers_a_logit_by_no_more_than_the_bound_and_never_below_the_floor() -> None:
    stream = apart()
    places = [(300.0, 200.0, 0.0), (303.0, 201.0, 2.0)]
    wrong = np.array([posed((300, 200, 2.0)), posed((303, 201, 0.0))])
    without = stream.scorer.score(stream.query(stream.instances(None, places))).logits
    changed = stream.scores(*places, poses=wrong).logits
    assert (changed <= without).all()
    assert (changed >= without - pose_model.BOUND - 1e-5).all()
    assert (changed >= np.minimum(without, pose_model.FLOOR)).all()
    assert (changed < without - 2).any()


def test_poses_that_are_all_the_same_hardly_count() -> None:
    stream = Stream()
    for _ in range(200):
        stream.frame((300, 200, 0), (320, 200, 0), (340, 210, 0), jitter=1.0)
    places = [(300.0, 200.0, 0.0), (320.0, 200.0, 0.0), (340.0, 210.0, 0.0)]
    poses = np.array([posed(place) for place in places]) + np.random.default_rng(3).normal(0, 1, (3, len(BODY), 2))
    without = stream.scorer.score(stream.query(stream.instances(None, places))).logits
    assert np.abs(stream.scores(*places, poses=poses).logits - without).max() < 0.5


def test_missing_nodes_do_not_count() -> None:
    stream = apart()
    places = [(300.0, 200.0, 0.0), (303.0, 201.0, 2.0)]
    without = stream.scorer.score(stream.query(stream.instances(None, places))).logits
    poses = np.array([posed(place) for place in places])
    poses[:, 3:] = np.nan
    partly = stream.scores(*places, poses=poses).logits
    assert partly[0, 1] < without[0, 1] - 1
    poses[:, 1:] = np.nan
    assert np.array_equal(stream.scores(*places, poses=poses).logits, without)


def test_the_evidence_of_a_pose_fades_with_the_gap() -> None:
    weights = []
    for gap in (0, 12, 80):
        stream = apart()
        for _ in range(gap):
            stream.frame()
        places = [(300.0, 200.0, 0.0), (303.0, 201.0, 2.0)]
        without = stream.scorer.score(stream.query(stream.instances(None, places))).logits
        weights.append(float(without[0, 1] - stream.scores(*places).logits[0, 1]))
    assert weights == sorted(weights, reverse=True)
    assert weights[0] > 2
    assert weights[-1] < 0.5


def test_a_turning_animal_is_expected_to_turn_on() -> None:
    """Both turn by 60 degrees a frame: by its last pose each one fits the other's track better."""
    stream = Stream()
    rng = np.random.default_rng(4)
    for step in range(60):
        close = 0.0 if step > 40 else 3.0 * (40 - step)
        x, y, u, v = rng.normal(0, 3, 4)
        heading = np.pi / 3 * step
        found = stream.frame((300 - close + x, 200 + y, heading), (300 + close + u, 200 + v, heading + np.pi / 3))
        assert found.track_ids.tolist() == [0, 1]


def test_another_number_of_nodes_begins_anew() -> None:
    stream = apart()
    fewer = BODY[:3]
    for _ in range(3):
        places = [(298.0, 200.0, 0.0), (302.0, 200.0, 2.0)]
        found = stream.frame(*places, poses=np.array([posed(place, fewer) for place in places]))
        assert sorted(found.track_ids.tolist()) == [0, 1]


def test_a_restored_scorer_gives_the_same_logits() -> None:
    stream = apart()
    for _ in range(5):
        stream.frame((300, 200, 0.1), (303, 201, 2.1))
    places = [(301.0, 200.0, 0.4), (302.0, 201.0, 2.2)]
    live = stream.tracker.window.live
    before, state = stream.scores(*places).logits, stream.scorer.snapshot(live)
    stream.scorer = MotionScorer()
    stream.scorer.restore(state, live)
    assert np.array_equal(stream.scores(*places).logits, before)


def test_a_snapshot_of_an_earlier_version_has_no_poses() -> None:
    stream = apart()
    places = [(301.0, 200.0, 0.4), (302.0, 201.0, 2.2)]
    without = stream.scorer.score(stream.query(stream.instances(None, places))).logits
    live = stream.tracker.window.live
    state = stream.scorer.snapshot(live)
    del state["poses"]
    stream.scorer.restore(state, live)
    assert np.array_equal(stream.scores(*places).logits, without)


def test_pairs_and_tables_are_lowered_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream()
    rng = np.random.default_rng(5)
    places = [(*rng.uniform(0, 150, 2), rng.uniform(-3, 3)) for _ in range(12)]
    for _ in range(20):
        stream.frame(*places)
    instances = stream.instances(np.array([posed(place) for place in places]), places)
    query = stream.query(instances)
    table = stream.scorer.score(query).logits
    monkeypatch.setattr(filter_bank, "DENSE_PAIRS", 0)
    query.complete = False
    near = stream.scorer.score(query)
    assert near.pairs is not None
    assert np.array_equal(table[near.pairs[0], near.pairs[1]], near.logits)


def test_of_many_nodes_some_are_compared() -> None:
    poses, rng = Poses(), np.random.default_rng(6)
    stream = Stream()
    places = [(100.0, 100.0, 0.0), (103.0, 101.0, 0.0)]
    instances = stream.instances(rng.normal(100, 20, (2, 256, 2)), places)
    slots, rows = np.arange(2), np.arange(2)
    poses.update(slots, rows, 2, instances, 0, 1)
    assert poses.n_nodes == MOST_NODES
    logits = np.full((2, 2), 3, np.float32)
    poses.weigh(logits, None, instances, slots, 1, 1)
    assert (logits.diagonal() == 3).all()
    assert (logits[[0, 1], [1, 0]] < 1).all()


def of_poses(poses: np.ndarray) -> Instances:
    return Instances.of(Detections(keypoints=np.asarray(poses, np.float32)), LiveDataset())


def learnt_body() -> Poses:
    poses, rng = Poses(), np.random.default_rng(7)
    for index in range(200):
        place = (*rng.uniform(100, 400, 2), rng.uniform(-np.pi, np.pi))
        seen = posed(place)[None]
        seen[0, rng.random(len(BODY)) < 0.2] = np.nan
        poses.update(np.arange(1), np.arange(1), int(index == 0), of_poses(seen), index, 1)
    return poses


def test_missing_nodes_do_not_move_the_place_of_an_instance() -> None:
    poses = learnt_body()
    whole = posed((321, 123, 1.2))
    for missing in ([0], [2, 3], [0, 1, 4]):
        partly = whole.copy()
        partly[missing] = np.nan
        instances = of_poses(partly[None])
        off = np.hypot(*(instances.centres[0] - whole.mean(axis=0)))
        found = np.hypot(*(poses.placed(instances).centres[0] - whole.mean(axis=0)))
        assert off > 4
        assert found < 1


def test_the_place_of_a_box_that_was_sent_is_its_own() -> None:
    poses, partly = learnt_body(), posed((321, 123, 1.2))
    partly[0] = np.nan
    box = np.array([[300, 100, 350, 150]], np.float32)
    sent = Instances.of(Detections(boxes=box, keypoints=partly[None].astype(np.float32)), LiveDataset())
    assert poses.placed(sent) is sent


def test_a_whole_pose_keeps_its_centre() -> None:
    poses, whole = learnt_body(), of_poses(posed((321, 123, 1.2))[None])
    assert poses.placed(whole) is whole
