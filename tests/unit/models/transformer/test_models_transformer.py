from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import RESNET, TWO_ANCHORS, load
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd.config import StreamSettings, check_config
from trackd.models.errors import FrameError
from trackd.models.transformer import crop_batch
from trackd.models.transformer.boxes import normalise_boxes
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.scorer import TransformerScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections, Skeleton

H, W = 60, 90
SMALL = {"crop_size": 12, "padding": 2}


def settings_of(**changes: Any) -> StreamSettings:
    return StreamSettings.of(check_config({})).changed({**SMALL, **changes})


def image_of(seed: int, dtype: type = np.uint8, channels: tuple[int, ...] = ()) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (H, W, *channels), dtype)


def instances_of(
    centres: Any, s: StreamSettings | None = None, shape: tuple[int, int] | None = (H, W), **more: Any
) -> Instances:
    points = np.asarray(centres, np.float32).reshape(-1, 2)
    detections = Detections(boxes=np.concatenate([points - 5, points + 5], axis=1), **more)
    return Instances.of(detections, (s or settings_of()).dataset, None, "crop", shape)


class Checked(TransformerScorer):
    """Compares every frame's logits with those of a context that is rebuilt from a history by track id."""

    def __init__(self, loaded: LoadedModel, s: StreamSettings) -> None:
        super().__init__(loaded, s)
        self.loaded = loaded
        self.history: dict[int, deque[tuple[int, torch.Tensor, np.ndarray]]] = {}
        self.compared = 0

    @classmethod
    def score_batch(cls, scorers, queries):
        found = super().score_batch(scorers, queries)
        for scorer, query, scores in zip(scorers, queries, found, strict=True):
            scorer.check(query, scores)
        return found

    def check(self, query: Query, scores: Scores) -> None:
        window, instances, features = query.window, query.instances, query.features
        ids = window.ids[query.live_slots].tolist()
        context = sorted(
            ((frame, track, feature, boxes) for track in ids for frame, feature, boxes in self.history[track]),
            key=lambda row: (row[0], -row[1]),  # a different order within a frame than the scorer's
        )
        rows = np.flatnonzero(instances.valid)
        frames = sorted({row[0] for row in context})
        logits = self.loaded.model.associate(
            torch.cat([torch.stack([row[2] for row in context]), features[rows]]),
            torch.from_numpy(
                normalise_boxes(np.concatenate([np.stack([row[3] for row in context]), instances.boxes[rows]]), W, H)
            ),
            torch.tensor([frames.index(row[0]) for row in context] + [len(frames)] * len(rows)),
            len(rows),
        ).numpy()
        place = {(row[1], frames.index(row[0])): column for column, row in enumerate(context)}
        order = [place[key] for key in zip(window.ids[scores.slots].tolist(), scores.frames.tolist(), strict=True)]
        assert sorted(order) == list(range(len(context)))
        assert scores.n_frames == len(frames) + 1
        np.testing.assert_allclose(scores.logits[rows], logits[:, order], rtol=1e-4, atol=1e-4)
        self.compared += 1


def query_of(tracker: Tracker, frame_index: int, instances: Instances, features: Any) -> Query:
    """The query of a frame that the tracker has not begun."""
    window, rows = tracker.window, np.flatnonzero(instances.valid)
    return Query(instances, features, frame_index, frame_index, window, window.live, True, rows)


def run(tracker: Tracker, frame_index: int, centres: np.ndarray, s: StreamSettings) -> np.ndarray:
    """Track one frame with a `Checked` scorer, and update its history."""
    scorer = tracker.scorer
    assert isinstance(scorer, Checked)
    instances = instances_of(centres, s)
    features = scorer.encode(image_of(frame_index), instances)
    track_ids = tracker.step(frame_index, frame_index * 1000, instances, features).track_ids
    for row, track in enumerate(track_ids.tolist()):
        if track >= 0:
            ring = scorer.history.setdefault(track, deque(maxlen=tracker.window.window_size))
            ring.append((frame_index, features[row], instances.boxes[row]))
    return track_ids


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_the_store_holds_the_same_features_as_a_rebuilt_context(loaded: LoadedModel, data: st.DataObject):
    """Covers new tracks, gaps, ends, evictions, reused slots and other window sizes."""
    s = settings_of(window_size=3, max_gap=2, overlap_thresh=data.draw(st.sampled_from([0.0, 0.2, 0.6])))
    scorer = Checked(loaded, s)
    tracker = Tracker(s.tracker, scorer, max_active_tracks=data.draw(st.sampled_from([6, 40])))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    frame_index = 0
    for count in data.draw(st.lists(st.integers(0, 20), min_size=3, max_size=12)):
        frame_index += int(rng.integers(1, 3))
        run(tracker, frame_index, rng.uniform([0, 0], [W, H], (count, 2)), s)
        if rng.random() < 0.25:
            window_size = int(rng.integers(1, 6))
            s = s.changed({"window_size": window_size})
            tracker.configure(s.tracker)
            scorer.configure(s)
            scorer.history = {track: deque(ring, maxlen=window_size) for track, ring in scorer.history.items()}
        tracker.check_integrity()


def test_a_restored_scorer_has_the_same_logits_and_ids_from_there_on(loaded: LoadedModel):
    s = settings_of(window_size=3, max_gap=2)
    rng = np.random.default_rng(1)
    frames = [rng.uniform([0, 0], [W, H], (n, 2)) for n in (5, 20, 0, 7, 3, 9, 4, 12)]
    whole = Tracker(s.tracker, Checked(loaded, s))
    cut = Tracker(s.tracker, Checked(loaded, s))
    for number, centres in enumerate(frames):
        if number == 4:
            state, history = cut.snapshot(), cut.scorer.history  # type: ignore[attr-defined]
            assert isinstance(state["scorer"]["features"], np.ndarray)
            cut = Tracker(s.tracker, Checked(loaded, s))
            cut.restore(state)
            cut.scorer.history = history  # type: ignore[attr-defined]
        np.testing.assert_array_equal(run(whole, number, centres, s), run(cut, number, centres, s))
    assert whole.scorer.compared == 6  # type: ignore[attr-defined]


def test_a_snapshot_is_restored_under_another_window_size(loaded: LoadedModel):
    s = settings_of(window_size=4)
    tracker = Tracker(s.tracker, Checked(loaded, s))
    centres = np.array([[20, 20], [60, 40]])
    for number in range(6):
        run(tracker, number, centres, s)
    smaller = s.changed({"window_size": 2})
    restored = Tracker(smaller.tracker, Checked(loaded, smaller))
    history = tracker.scorer.history  # type: ignore[attr-defined]
    restored.scorer.history = {track: deque(ring, maxlen=2) for track, ring in history.items()}  # type: ignore[attr-defined]
    restored.restore(tracker.snapshot())
    for number in range(6, 9):
        run(restored, number, centres, smaller)


def test_every_observation_is_encoded_once(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    encoded: list[int] = []
    encode = loaded.model.encode_crops
    monkeypatch.setattr(loaded.model, "encode_crops", lambda crops, *lone: encoded.append(len(crops)) or encode(crops))
    s = settings_of()
    tracker = Tracker(s.tracker, TransformerScorer(loaded, s))
    counts = (4, 4, 0, 5, 1, 4)
    for number, count in enumerate(counts):
        instances = instances_of(np.tile([20, 20], (count, 1)) + 3 * np.arange(count)[:, None], s)
        tracker.step(number, number, instances, tracker.scorer.encode(image_of(number), instances))
    assert sum(encoded) == sum(counts)


def test_crops_cut_in_several_pieces_have_the_same_features_as_in_one(loaded, monkeypatch):
    scorer, instances = TransformerScorer(loaded, settings_of()), instances_of([[10, 10], [30, 20], [50, 40]])
    at_once = scorer.encode(image_of(0), instances)
    monkeypatch.setattr(crop_batch, "_CROP_NUMBERS", 1)
    torch.testing.assert_close(scorer.encode(image_of(0), instances), at_once)


@pytest.mark.parametrize(("pixel_range", "scale"), [("unit", 1 / 255), ("raw", 1.0)])
def test_crops_have_the_configured_pixel_range(loaded: LoadedModel, pixel_range: str, scale: float):
    s = settings_of(pixel_range=pixel_range)
    features = TransformerScorer(loaded, s).encode(np.full((H, W), 100, np.uint8), instances_of([[40, 30]], s))
    assert features[0, 4].item() == pytest.approx(100 * scale)  # a descriptor's mean intensity


def test_a_dilation_radius_blanks_pixels_far_from_the_key_points(loaded: LoadedModel):
    s = settings_of(dilation_radius_px=3)
    poses = np.array([[[40, 30], [42, 30]], [[60, 20], [np.nan, np.nan]]], np.float32)
    instances = Instances.of(Detections(keypoints=poses), s.dataset, Skeleton(("a", "b")), "crop", (H, W))
    white = np.full((H, W), 255, np.uint8)
    shares = TransformerScorer(loaded, s).encode(white, instances)[:, 4]  # a descriptor's mean intensity
    assert 0 < shares[1] < shares[0] < 0.3
    boxes_only = instances_of([[40, 30]], s)
    assert TransformerScorer(loaded, s).encode(white, boxes_only)[0, 4] == 1


def test_an_image_may_be_read_only_of_16_bits_or_have_any_layout(loaded: LoadedModel):
    scorer, instances = TransformerScorer(loaded, settings_of()), instances_of([[40, 30], [5, 55]])
    image = image_of(3)
    wanted = scorer.encode(image, instances).clone()
    odd = np.frombuffer(b"\0" + image.astype("<u2").tobytes(), np.uint8)[1:].view("<u2").reshape(H, W)
    frozen = image.copy()
    frozen.flags.writeable = False
    for other in (frozen, odd, np.asfortranarray(image), image[..., None], np.repeat(image[..., None], 3, axis=2)):
        torch.testing.assert_close(scorer.encode(other, instances), wanted)


def test_without_visual_features_no_image_is_needed_and_features_are_zeros(loaded: LoadedModel):
    s = settings_of(use_vis_feats=False, overlap_thresh=0.0)
    scorer, instances = TransformerScorer(loaded, s), instances_of([[40, 30], [20, 20]], s)
    assert not scorer.needs_image
    assert torch.equal(scorer.encode(None, instances), torch.zeros(2, 5))
    assert torch.equal(scorer.encode(image_of(0), instances), torch.zeros(2, 5))
    tracker = Tracker(s.tracker, scorer)
    for number in range(4):
        ids = tracker.step(number, number, instances, scorer.encode(None, instances)).track_ids
    assert sorted(ids.tolist()) == [0, 1]


def test_settings_changed_between_two_frames_apply_from_the_next_frame(loaded: LoadedModel):
    s = settings_of()
    scorer, image = TransformerScorer(loaded, s), image_of(0)
    before = scorer.encode(image, instances_of([[40, 30]]))
    larger = s.changed({"crop_size": 30})
    scorer.configure(larger)
    after = scorer.encode(image, instances_of([[40, 30]], larger))
    torch.testing.assert_close(after, TransformerScorer(loaded, larger).encode(image, instances_of([[40, 30]], larger)))
    assert not torch.allclose(before, after)
    scorer.configure(larger.changed({"use_vis_feats": False}))
    assert not scorer.needs_image


def test_an_error_names_what_a_frame_lacks(loaded: LoadedModel, tmp_path: Path):
    scorer = TransformerScorer(loaded, settings_of())
    with pytest.raises(FrameError, match=r"without an image; send images, or set tracker\.use_vis_feats to false"):
        scorer.encode(None, instances_of([[40, 30]]))
    with pytest.raises(FrameError, match="frame's size; send images with the frames, or frame_shape with open"):
        TransformerScorer(loaded, settings_of(use_vis_feats=False)).encode(None, instances_of([[40, 30]], shape=None))
    resnet = TransformerScorer(load(tmp_path, RESNET), settings_of())
    with pytest.raises(FrameError, match="must have 1 or 3 channels for this model; got 4"):
        resnet.encode(image_of(0, channels=(4,)), instances_of([[40, 30]]))


def test_a_frame_without_usable_instances_needs_no_image(loaded: LoadedModel):
    scorer = TransformerScorer(loaded, settings_of())
    assert scorer.encode(None, instances_of(np.empty((0, 2)), shape=None)).shape == (0, 5)
    spoiled = instances_of([[np.nan, 3]], shape=None)
    assert torch.equal(scorer.encode(None, spoiled), torch.zeros(1, 5))


@pytest.mark.parametrize("fault", [np.nan, np.inf, -np.inf, 1e30])
def test_an_invalid_row_changes_nothing_for_the_others(loaded: LoadedModel, fault: float):
    good = np.array([[20, 20], [60, 40], [75, 15]], np.float32)
    bad = np.insert(good, 1, [fault, 10], axis=0)
    logits = []
    for centres in (good, bad):
        scorer = TransformerScorer(loaded, settings_of())
        tracker = Tracker(settings_of().tracker, scorer)
        for number in range(3):
            instances = instances_of(centres)
            features = scorer.encode(image_of(number), instances)
            assert torch.isfinite(features).all()
            if number == 2:
                logits.append(scorer.score(query_of(tracker, number, instances, features)).logits)
            tracker.step(number, number, instances, features)
    np.testing.assert_allclose(np.delete(logits[1], 1, axis=0), logits[0], rtol=1e-5, atol=1e-5)


def test_an_anchor_that_is_missing_gives_an_empty_crop_and_no_nan(tmp_path: Path):
    loaded = load(tmp_path, TWO_ANCHORS)
    s = settings_of(anchors=["head", "tail"], handle_missing="ignore")
    scorer = TransformerScorer(loaded, s)
    tracker = Tracker(s.tracker, scorer)
    poses = np.array([[[20, 20], [30, 25]], [[60, 40], [70, 45]], [[45, 10], [50, 50]]], np.float32)
    poses[0, 0] = np.nan  # the anchor that the descriptor uses
    poses[1, 1] = np.nan
    skeleton = Skeleton(("head", "tail"))
    for number in range(4):
        instances = Instances.of(Detections(keypoints=poses), s.dataset, skeleton, "crop", (H, W))
        assert instances.boxes.shape == (3, 2, 4)
        assert np.isnan(instances.boxes[0, 0]).all()
        features = scorer.encode(image_of(number), instances)
        assert torch.equal(features[0], torch.zeros(5))
        assert (features[1:, 4] > 0).all()
        if number:
            scores = scorer.score(query_of(tracker, number, instances, features))
            assert np.isfinite(scores.logits).all()
        assignment = tracker.step(number, number, instances, features)
    assert assignment.flags == ()


def test_a_scorers_thread_uses_the_processs_number_of_torch_threads(loaded: LoadedModel):
    torch.set_num_threads(1)
    busy: list[float] = []

    def own() -> None:
        settings = settings_of()
        boxes = Detections(boxes=np.array([[10, 10, 30, 30]], np.float32))
        instances = Instances.of(boxes, settings.dataset, None, "crop", (H, W))
        TransformerScorer(loaded, settings).encode(image_of(0), instances)
        a = torch.rand(600, 600)
        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(20):
            a @ a
        busy.append((time.process_time() - cpu) / (time.perf_counter() - wall))

    thread = threading.Thread(target=own)
    thread.start()
    thread.join()
    assert busy[0] < 1.3


def test_streams_that_share_a_model_have_the_same_ids_as_alone(loaded: LoadedModel):
    s = settings_of()
    rng = np.random.default_rng(5)
    streams = [[rng.uniform([0, 0], [W, H], (n, 2)) for n in (4, 6, 3, 5)] for _ in range(3)]

    def step(tracker: Tracker, number: int, centres: np.ndarray) -> list[int]:
        instances = instances_of(centres, s)
        features = tracker.scorer.encode(image_of(number), instances)
        return tracker.step(number, number, instances, features).track_ids.tolist()

    def fresh() -> Tracker:
        return Tracker(s.tracker, TransformerScorer(loaded, s))

    alone = []
    for frames in streams:
        tracker = fresh()
        alone.append([step(tracker, number, centres) for number, centres in enumerate(frames)])
    trackers = [fresh() for _ in streams]
    beside = [[step(t, number, f[number]) for t, f in zip(trackers, streams, strict=True)] for number in range(4)]
    assert [list(frames) for frames in zip(*beside, strict=True)] == alone
