"""`encode_every`: features of the last frame are used again where an instance hardly moved and looks the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import TWO_ANCHORS, load

from trackd.config import StreamSettings, check_config
from trackd.models.transformer import crop_batch, reuse
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.reuse import Encoded
from trackd.models.transformer.scorer import TransformerScorer
from trackd.store.codec import pack, unpack
from trackd.tracking.instances import Instances
from trackd.tracking.tracker import Tracker
from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections, Skeleton

H, W = 80, 160
APART = np.array([[20, 40], [80, 40], [140, 40]], np.float32)  # their crops of 16 px do not touch
IMAGE = np.random.default_rng(7).integers(0, 255, (H, W), np.uint8)


def settings_of(**changes: Any) -> StreamSettings:
    small = {"crop_size": 12, "padding": 2, "overlap_thresh": 0.0}
    return StreamSettings.of(check_config({})).changed({**small, "encode_every": 4, **changes})


def instances_of(centres: Any, s: StreamSettings) -> Instances:
    points = np.asarray(centres, np.float32).reshape(-1, 2)
    detections = Detections(boxes=np.concatenate([points - 5, points + 5], axis=1))
    return Instances.of(detections, s.dataset, None, "crop", (H, W))


class Stream:
    """A tracker, and the rows whose crops were encoded in each frame."""

    def __init__(self, loaded: LoadedModel, s: StreamSettings) -> None:
        self.settings = s
        self.scorer = TransformerScorer(loaded, s)
        self.tracker = Tracker(s.tracker, self.scorer)
        self.frame_index = 0
        self.encoded: list[list[int]] = []
        self.features: list[Any] = []

    def step(self, centres: Any = APART, image: np.ndarray = IMAGE) -> list[int]:
        """Track the next frame; return its ids."""
        instances = instances_of(centres, self.settings)
        return self.finish(instances, self.scorer.encode(image, instances))

    def finish(self, instances: Instances, features: Any) -> list[int]:
        self.features.append(features)
        if isinstance(features, Encoded):
            self.encoded.append(np.flatnonzero(features.ages == 0).tolist())
        assignment = self.tracker.step(self.frame_index, self.frame_index, instances, features)
        self.frame_index += 1
        return assignment.track_ids.tolist()

    def configure(self, **changes: Any) -> None:
        self.settings = self.settings.changed(changes)
        self.tracker.configure(self.settings.tracker)
        self.scorer.configure(self.settings)


def lighter(image: np.ndarray, centre: Sequence[float], by: float = 60) -> np.ndarray:
    """The image with another brightness around a centre."""
    x, y = (int(value) for value in centre)
    changed = image.copy()
    near = changed[max(y - 10, 0) : y + 10, max(x - 10, 0) : x + 10].astype(float)
    changed[max(y - 10, 0) : y + 10, max(x - 10, 0) : x + 10] = np.clip(near + by, 0, 255).astype(np.uint8)
    return changed


def test_without_it_features_and_journal_are_those_of_the_encoder_alone(loaded: LoadedModel):
    s = settings_of(encode_every=1)
    stream = Stream(loaded, s)
    for _ in range(3):
        stream.step()
        features = stream.features[-1]
        assert isinstance(features, torch.Tensor)
        assert pack(stream.scorer.pack(features)() or {}) == pack({"features": features.numpy()})
    assert list(stream.tracker.snapshot()["scorer"]) == ["features"]
    assert StreamSettings.of(check_config({})).tracker.encode_every == 1


@pytest.mark.parametrize("every", [2, 3, 8])
def test_instances_that_stay_are_encoded_in_every_nth_frame(loaded: LoadedModel, every: int):
    stream, always = Stream(loaded, settings_of(encode_every=every)), Stream(loaded, settings_of(encode_every=1))
    for number in range(2 * every + 1):
        assert stream.step() == always.step()
        assert stream.encoded[-1] == ([0, 1, 2] if number % every == 0 else [])
        assert torch.equal(stream.features[-1].features, always.features[-1])


def test_only_the_crops_that_are_not_used_again_reach_the_encoder(resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    counts: list[int] = []
    encode = resnet.model.encode_crops
    monkeypatch.setattr(resnet.model, "encode_crops", lambda crops, *lone: counts.append(len(crops)) or encode(crops))
    stream = Stream(resnet, settings_of())
    for image in (IMAGE, IMAGE, lighter(IMAGE, APART[1]), lighter(IMAGE, APART[1])):
        stream.step(image=image)
    assert stream.encoded == [[0, 1, 2], [], [1], []]
    assert counts == [3, 1]
    assert torch.equal(stream.features[3].features, stream.features[2].features)
    assert torch.equal(stream.features[2].features[[0, 2]], stream.features[0].features[[0, 2]])
    assert not torch.equal(stream.features[2].features[1], stream.features[0].features[1])


def test_a_feature_follows_its_instance_to_another_row(loaded: LoadedModel):
    stream = Stream(loaded, settings_of())
    stream.step()
    stream.step(APART[[2, 0, 1]])
    assert stream.encoded == [[0, 1, 2], []]
    assert torch.equal(stream.features[1].features, stream.features[0].features[[2, 0, 1]])


def test_an_instance_that_moved_is_encoded_even_if_it_looks_the_same(loaded: LoadedModel):
    even = np.full((H, W), 90, np.uint8)
    stream = Stream(loaded, settings_of())
    stream.step(image=even)
    stream.step(np.add(APART, [[0, 0], [2, 0], [6, 0]]), even)
    assert stream.encoded == [[0, 1, 2], [2]]  # 2 px of a crop's 16 px are little, 6 px are not


def test_with_a_second_candidate_near_neither_is_used_again(loaded: LoadedModel):
    even = np.full((H, W), 90, np.uint8)
    one, two = [[20, 40], [80, 40]], [[20, 40], [80, 40], [83, 40]]
    split, joined = Stream(loaded, settings_of()), Stream(loaded, settings_of())
    for centres in (one, two):
        split.step(centres, even)
    assert split.encoded == [[0, 1], [1, 2]]
    for centres in (two, one):
        joined.step(centres, even)
    assert joined.encoded == [[0, 1, 2], [1]]


def test_small_changes_are_compared_with_the_crop_that_was_encoded(loaded: LoadedModel):
    """Each frame differs little from the one before; the sum of the differences does not stay small."""
    stream = Stream(loaded, settings_of(encode_every=1024))
    for number in range(30):
        stream.step([[80, 40]], lighter(np.clip(IMAGE, 0, 200), (80, 40), by=number))
    times = [number for number, rows in enumerate(stream.encoded) if rows]
    assert 2 <= len(times) <= 15
    looks = [reuse.looks_of(_crop(lighter(np.clip(IMAGE, 0, 200), (80, 40), by=number)), 1) for number in range(30)]
    for number in range(30):
        before = looks[max(time for time in times if time <= number)].float()
        difference = (looks[number].float() - before).abs().mean()
        assert difference <= 0.1 * before.std(correction=0), number


def _crop(image: np.ndarray) -> torch.Tensor:
    s = settings_of()
    scale = 255 if s.dataset.pixel_range == "unit" else 1
    return torch.from_numpy(image[32:48, 72:88].astype(np.float32))[None, None] / scale


def test_encode_change_is_how_different_a_crop_may_look(loaded: LoadedModel):
    for change, rows in ((0.0, [0]), (0.02, [0]), (1.0, [])):
        stream = Stream(loaded, settings_of(encode_change=change))
        stream.step([[80, 40]])
        stream.step([[80, 40]], lighter(IMAGE, (80, 40), by=4))
        assert stream.encoded[1] == rows, change
    exact = Stream(loaded, settings_of(encode_change=0.0))
    exact.step()
    exact.step()
    assert exact.encoded[1] == []


def test_a_frame_that_is_not_tracked_changes_nothing(loaded: LoadedModel):
    stream = Stream(loaded, settings_of())
    stream.step()
    other = lighter(IMAGE, APART[0])
    first = stream.scorer.encode(other, instances_of(APART, stream.settings))
    again = stream.scorer.encode(other, instances_of(APART, stream.settings))
    np.testing.assert_array_equal(first.ages, [0, 1, 1])
    np.testing.assert_array_equal(first.ages, again.ages)
    assert torch.equal(first.features, again.features)
    stream.step()
    assert stream.encoded[1] == []


def test_rows_that_are_not_valid_have_no_feature_to_use(loaded: LoadedModel):
    bad = np.concatenate([[[np.nan, 40]], APART]).astype(np.float32)
    stream = Stream(loaded, settings_of())
    for _ in range(3):
        stream.step(bad)
    assert stream.encoded == [[1, 2, 3], [], []]
    assert stream.features[2].ages.tolist() == [-1, 2, 2, 2]
    assert torch.equal(stream.features[2].features[0], torch.zeros(5))
    stream.step(np.concatenate([[[60, 70]], APART]))
    assert stream.encoded[3] == [0]


def test_empty_frames_are_tracked_and_leave_no_feature(loaded: LoadedModel):
    stream = Stream(loaded, settings_of())
    for centres in (APART, np.empty((0, 2)), APART):
        stream.step(centres)
    assert stream.encoded == [[0, 1, 2], [], [0, 1, 2]]


def test_crops_of_two_anchors_are_used_again_if_both_stay(tmp_path: Path):
    loaded = load(tmp_path, {**TWO_ANCHORS, "encoder_cfg": {"model_name": "resnet18", "in_chans": 6}})
    s = settings_of(anchors=["head", "tail"])
    scorer, skeleton = TransformerScorer(loaded, s), Skeleton(("head", "tail"))
    tracker = Tracker(s.tracker, scorer)
    poses = np.stack([APART, np.add(APART, [0, 20])], axis=1)
    ages = []
    for number, image in enumerate((IMAGE, IMAGE, lighter(IMAGE, np.add(APART[1], [0, 20])))):
        instances = Instances.of(Detections(keypoints=poses), s.dataset, skeleton, "crop", (H, W))
        features = scorer.encode(image, instances)
        tracker.step(number, number, instances, features)
        ages.append(features.ages.tolist())
    assert ages == [[0, 0, 0], [1, 1, 1], [2, 0, 2]]


def test_a_snapshot_and_journaled_frames_restore_what_decides(loaded: LoadedModel):
    """After a restart the same rows are encoded, and all features are equal to the last bit."""
    rng = np.random.default_rng(3)
    images = [np.clip(IMAGE + rng.normal(0, 4, IMAGE.shape), 0, 255).astype(np.uint8) for _ in range(14)]
    centres = [APART + rng.normal(0, 0.2, APART.shape) for _ in images]
    whole = Stream(loaded, settings_of(encode_every=5))
    ids = [whole.step(*frame) for frame in zip(centres, images, strict=True)]
    assert 3 * 14 / 5 < sum(map(len, whole.encoded)) < 3 * 14
    for snapshot, killed in ((0, 3), (2, 7), (5, 6), (8, 8)):
        first = Stream(loaded, settings_of(encode_every=5))
        journal = []
        for number in range(killed):
            if number == snapshot:
                state = pack(first.tracker.snapshot())
            first.step(centres[number], images[number])
            journal.append(pack(first.scorer.pack(first.features[-1])() or {}))
        if snapshot == killed:
            state = pack(first.tracker.snapshot())
        second = Stream(loaded, settings_of(encode_every=5))
        second.tracker.restore(unpack(state))
        second.frame_index = snapshot
        found = []
        for number in range(snapshot, killed):
            features = second.scorer.unpack(unpack(journal[number]))
            found.append(second.finish(instances_of(centres[number], second.settings), features))
        found += [second.step(centres[number], images[number]) for number in range(killed, 14)]
        assert found == ids[snapshot:]
        assert second.encoded == whole.encoded[snapshot:]
        for ours, wanted in zip(second.features, whole.features[snapshot:], strict=True):
            assert torch.equal(ours.features, wanted.features)
            assert torch.equal(ours.looks, wanted.looks)


def test_a_snapshot_without_a_last_frame_is_restored(loaded: LoadedModel):
    off = Stream(loaded, settings_of(encode_every=1))
    off.step()
    on = Stream(loaded, settings_of())
    on.tracker.restore(off.tracker.snapshot())
    on.frame_index = 1
    on.step()
    on.step()
    assert on.encoded == [[0, 1, 2], []]
    off.tracker.restore(on.tracker.snapshot())
    assert list(off.tracker.snapshot()["scorer"]) == ["features"]


def test_settings_changed_between_two_frames_apply_from_the_next_frame(loaded: LoadedModel):
    stream = Stream(loaded, settings_of(encode_every=8))
    stream.step()
    stream.step()
    stream.configure(encode_every=2)  # the features are two frames old
    stream.step()
    assert stream.encoded == [[0, 1, 2], [], [0, 1, 2]]
    stream.configure(crop_size=20)
    stream.step()
    assert stream.encoded[3] == [0, 1, 2]
    stream.configure(encode_every=1)
    stream.step()
    assert isinstance(stream.features[-1], torch.Tensor)
    stream.configure(encode_every=4, use_vis_feats=False)
    stream.step()
    assert isinstance(stream.features[-1], torch.Tensor)


def test_streams_in_one_batch_use_the_same_features_as_alone(resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(2)
    images = [np.clip(IMAGE + rng.normal(0, 9, IMAGE.shape), 0, 255).astype(np.uint8) for _ in range(8)]
    every = (1, 2, 4, 3)
    monkeypatch.setattr(crop_batch, "_CROP_NUMBERS", 16 * 16 * 3 * 7)  # a batch is flushed several times
    alone = [Stream(resnet, settings_of(encode_every=each, encode_change=0.15)) for each in every]
    beside = [Stream(resnet, settings_of(encode_every=each, encode_change=0.15)) for each in every]
    for number in range(8):
        given = [APART[: 3 - place % 2] + rng.normal(0, 0.5, (3 - place % 2, 2)) for place in range(len(every))]
        instances = [instances_of(centres, settings_of()) for centres in given]
        together = TransformerScorer.encode_batch(
            [stream.scorer for stream in beside], [images[number]] * len(every), instances
        )
        for stream, other, centres, one, features in zip(alone, beside, given, instances, together, strict=True):
            assert stream.step(centres, images[number]) == other.finish(one, features)
            a, b = stream.features[-1], other.features[-1]
            if isinstance(a, Encoded):
                np.testing.assert_array_equal(a.ages, b.ages)
                a, b = a.features, b.features
            assert torch.equal(a, b)
    assert all(0 < sum(map(len, stream.encoded)) < 8 * 3 for stream in beside[1:])


def test_a_frame_with_too_many_pairs_is_encoded_completely(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    stream = Stream(loaded, settings_of())
    stream.step()
    monkeypatch.setattr(reuse, "MAX_PAIRS", 8)
    stream.step()
    assert stream.encoded[1] == [0, 1, 2]


@pytest.mark.parametrize(
    ("key", "value", "range_"),
    [("encode_every", 0, "1"), ("encode_every", 1025, "1024"), ("encode_change", -0.1, "0"), ("encode_change", 2, "1")],
)
def test_a_value_out_of_range_is_named(key: str, value: float, range_: str):
    with pytest.raises(ConfigError, match=rf"{key}.*{range_}.*got {value}"):
        settings_of(**{key: value})
