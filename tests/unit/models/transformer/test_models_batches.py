"""Several streams in one pass have the same results as each stream alone."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import load
from hypothesis import given
from hypothesis import strategies as st

from trackd.config import StreamSettings, check_config
from trackd.models.errors import FrameError
from trackd.models.replay import Replay
from trackd.models.transformer import padded
from trackd.models.transformer.buckets import Bucket, bucket_of, grouped
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.padded import PaddedSteps, StepPool
from trackd.models.transformer.scorer import TransformerScorer
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Query, Scores
from trackd.tracking.tracker import Tracker
from trackd_client.detections import Detections

H, W = 60, 90
CPU = torch.device("cpu")


def settings_of(**changes: Any) -> StreamSettings:
    return StreamSettings.of(check_config({})).changed({"crop_size": 12, "padding": 2, **changes})


def image_of(seed: int, shape: tuple[int, ...] = (H, W), dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, dtype)


def instances_of(centres: np.ndarray, shape: tuple[int, int] = (H, W)) -> Instances:
    points = np.asarray(centres, np.float32).reshape(-1, 2)
    detections = Detections(boxes=np.concatenate([points - 5, points + 5], axis=1))
    return Instances.of(detections, settings_of().dataset, None, "crop", shape)


@dataclass
class Request:
    """A scorer and the query of its next frame."""

    scorer: Any
    query: Query


def stream(loaded: LoadedModel, n: int, seed: int, frames: int = 5, spoil: bool = False) -> tuple[Tracker, Any]:
    """A tracker after some frames of about n instances, and the request to score the next frame."""
    s = settings_of(window_size=3)
    tracker = Tracker(s.tracker, TransformerScorer(loaded, s))
    rng = np.random.default_rng(seed)
    shape = (H + seed % 3, W)
    for number in range(frames + 1):
        instances = instances_of(rng.uniform([0, 0], [W, H], (max(1, n - number % 2), 2)), shape)
        features = tracker.scorer.encode(image_of(seed + number, shape), instances)
        if number < frames:
            tracker.step(number, number, instances, features)
    if spoil:
        instances = replace(instances, valid=np.arange(len(instances)) % 3 > 0, all_valid=False)
    window = tracker.window
    rows = np.flatnonzero(instances.valid)
    query = Query(instances, features, frames, frames, window, window.live, True, rows)
    return tracker, Request(tracker.scorer, query)


def alone(request: Request) -> Scores:
    return request.scorer.score(request.query)


def score_batch(requests: list[Request]) -> list[Scores]:
    return TransformerScorer.score_batch([each.scorer for each in requests], [each.query for each in requests])


@pytest.mark.parametrize("staged", [False, True], ids=["in place", "as for a graph"])
def test_logits_in_a_batch_of_streams_equal_those_of_each_stream_alone_bit_for_bit(loaded: LoadedModel, staged: bool):
    loaded.padded = StepPool(loaded.model, staged)
    streams = [
        stream(loaded, n, seed, spoil=seed % 2 == 1) for seed, n in enumerate((1, 2, 2, 3, 3, 4, 5, 6, 6, 30, 90, 6))
    ]
    requests = [request for _, request in streams]
    by_itself = [alone(request) for request in requests]
    together = score_batch(requests)
    backwards = score_batch(requests[::-1])[::-1]
    for one, many, other in zip(by_itself, together, backwards, strict=True):
        np.testing.assert_array_equal(many.slots, one.slots)
        np.testing.assert_array_equal(many.frames, one.frames)
        assert many.n_frames == one.n_frames
        np.testing.assert_array_equal(many.logits, one.logits)
        np.testing.assert_array_equal(other.logits, one.logits)
    assert np.abs(by_itself[0].logits).max() > 1e-3


def test_extreme_features_of_one_stream_never_change_the_logits_of_another(loaded: LoadedModel):
    healthy = [stream(loaded, 5, seed)[1] for seed in (0, 3)]
    before = [scores.logits for scores in score_batch(healthy)]
    _, request = stream(loaded, 5, 6)
    query = replace(request.query, features=torch.full_like(request.query.features, 3e38))
    wild = Request(request.scorer, query)
    mixed = score_batch([healthy[0], wild, healthy[1]])
    assert not np.isfinite(mixed[1].logits).all()
    np.testing.assert_array_equal(mixed[0].logits, before[0])
    np.testing.assert_array_equal(mixed[2].logits, before[1])
    smaller = stream(loaded, 4, 7)[1]  # the same bucket; its buffer still has rows of the wild stream
    fresh = alone(smaller).logits
    score_batch([wild])
    np.testing.assert_array_equal(alone(smaller).logits, fresh)


@pytest.mark.parametrize("name", ["loaded", "resnet"])
def test_features_of_crops_in_a_batch_equal_those_of_each_frame_alone_bit_for_bit(name: str, request: Any):
    loaded = request.getfixturevalue(name)
    rng = np.random.default_rng(0)
    frames = []
    for seed, n in enumerate((1, 2, 3, 7, 0, 40, 1)):
        scorer = TransformerScorer(loaded, settings_of(crop_size=20 if seed == 3 else 12))
        instances = instances_of(rng.uniform([0, 0], [W, H], (n, 2)))
        if n == 7:
            instances = replace(instances, valid=np.arange(n) != 2, all_valid=False)
        image = image_of(seed, dtype=np.uint16 if seed == 1 else np.uint8)
        frames.append((scorer, image, instances))
    together = TransformerScorer.encode_batch(*zip(*frames, strict=True))
    for (scorer, image, instances), features in zip(frames, together, strict=True):
        assert features.shape == (len(instances), loaded.architecture.feature_dim)
        assert torch.equal(features, scorer.encode(image, instances))
    assert (together[3][2] == 0).all()
    assert (together[5].abs().amax(dim=1) > 0).all()


def test_crops_of_many_frames_are_encoded_in_few_passes(loaded: LoadedModel, monkeypatch):
    passes: list[int] = []
    encode = loaded.model.encode_crops
    monkeypatch.setattr(loaded.model, "encode_crops", lambda crops, *lone: passes.append(len(crops)) or encode(crops))
    centres = np.tile([[20.0, 20.0]], (3, 1))
    scorers = [TransformerScorer(loaded, settings_of()) for _ in range(4)]
    TransformerScorer.encode_batch(scorers, [image_of(0)] * 4, [instances_of(centres)] * 4)
    assert passes == [12]


def test_a_frame_without_a_needed_image_fails_a_batch_before_any_crop_is_encoded(loaded: LoadedModel, monkeypatch):
    monkeypatch.setattr(loaded.model, "encode_crops", lambda *_: pytest.fail("crops were encoded"))
    scorer, instances = TransformerScorer(loaded, settings_of()), instances_of(np.array([[20, 20]]))
    with pytest.raises(FrameError, match="without an image"):
        TransformerScorer.encode_batch([scorer, scorer], [image_of(0), None], [instances, instances])


def test_an_empty_batch_has_no_results(loaded: LoadedModel):
    assert TransformerScorer.encode_batch([], [], []) == []
    assert score_batch([]) == []


def test_scorers_of_one_model_share_a_key_and_those_of_two_do_not(loaded: LoadedModel, tmp_path: Path):
    one, two = TransformerScorer(loaded, settings_of()), TransformerScorer(loaded, settings_of(window_size=2))
    other = TransformerScorer(load(tmp_path), settings_of())
    assert hash(one.batch_key) == hash(two.batch_key)
    assert one.batch_key == two.batch_key
    assert one.batch_key != other.batch_key


# --- buckets ---


@given(st.integers(0, 40_000), st.integers(0, 4096))
def test_padding_adds_at_most_an_eighth_above_the_smallest_size(references: int, queries: int):
    bucket = bucket_of(references, queries, 1, finely=True)
    assert max(references, 16) <= bucket.references <= max(1.125 * references, references + 15, 16)
    assert max(queries, 4) <= bucket.queries <= max(1.125 * queries, queries + 3, 4)
    coarse = bucket_of(references, queries, 1, finely=False)
    assert references <= coarse.references <= max(1.5 * references, references + 15, 16)


def test_there_are_few_shapes():
    sizes = {bucket_of(n, 4, 1, finely=False).references for n in range(1, 32_769)}
    assert len(sizes) < 30


@given(st.lists(st.integers(1, 5000), max_size=60))
def test_groups_hold_every_step_once_in_order_and_only_steps_of_similar_size(sizes: list[int]):
    items = list(enumerate(sizes))
    groups = grouped(
        items, lambda item: bucket_of(8 * item[1], item[1], 1, finely=True), lambda bucket: bucket.most_streams
    )
    assert sorted(item for _, group in groups for item in group) == items
    for bucket, group in groups:
        assert group == sorted(group)
        assert len(group) <= bucket.most_streams
        own = sum(9 * n for _, n in group)
        assert len(group) * bucket.tokens <= max(1.2 * own, own + 20 * len(group))


# --- buffers ---


def test_buffers_of_a_shape_are_reused(loaded: LoadedModel):
    pool = loaded.padded = StepPool(loaded.model)
    _, request = stream(loaded, 5, 0)
    bucket = bucket_of(len(alone(request).slots), len(request.query.instances), 1, finely=True)
    places = set()
    for _ in range(20):
        alone(request)
        steps = pool.steps(1, bucket, CPU)
        places.add((id(steps), steps.features.data_ptr(), steps.ranks.__array_interface__["data"][0]))
    assert len(places) == 1


@pytest.mark.parametrize("name", ["loaded", "resnet"])
def test_streams_on_several_threads_at_once_have_the_results_of_each_alone(name: str, request: Any):
    model = request.getfixturevalue(name)
    requests = [stream(model, n, seed)[1] for seed, n in enumerate((5, 6, 20, 6) if name == "loaded" else (2, 5))]
    images = [image_of(seed, each.query.instances.frame_shape) for seed, each in enumerate(requests)]

    def results(place: int) -> tuple[np.ndarray, np.ndarray]:
        one = requests[place]
        return one.scorer.encode(images[place], one.query.instances).numpy(), alone(one).logits.copy()

    before = [results(place) for place in range(len(requests))]
    with ThreadPoolExecutor(len(requests)) as threads:
        for _ in range(10 if name == "loaded" else 2):
            for (features, logits), expected in zip(threads.map(results, range(len(requests))), before, strict=True):
                np.testing.assert_array_equal(features, expected[0])
                np.testing.assert_array_equal(logits, expected[1])


def test_the_memory_of_the_buffers_is_bounded(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    pool = StepPool(loaded.model)
    one = pool.steps(4, Bucket(64, 8, 1), CPU).n_bytes
    assert one > 4 * (64 * 8 + 72 * (6 + 5) * 4)  # places; numbers and features
    monkeypatch.setattr(padded, "_KEPT_BYTES", 4 * one)
    kept = pool.steps(4, Bucket(64, 8, 1), CPU)
    for references in range(80, 160, 16):
        pool.steps(4, Bucket(references, 8, 1), CPU)
        assert sum(steps.n_bytes for steps in pool._kept.values()) <= 4 * one
        assert pool.steps(4, Bucket(64, 8, 1), CPU) is kept  # used in every round, so never freed
    assert len(pool) == 2


def test_on_a_cpu_the_pass_reads_the_buffers_that_the_caller_writes(loaded: LoadedModel):
    steps = PaddedSteps(loaded.model, 2, Bucket(16, 4, 1), CPU, staged=False)
    for array in (steps.boxes, steps.ranks, steps.valid):
        assert np.shares_memory(array, steps._host[0].numpy())
    assert np.shares_memory(steps.places, steps._host[1].numpy())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a graph can be captured on this machine")
def test_a_failed_capture_is_logged_and_the_work_is_called_instead(caplog):
    done: list[int] = []
    with caplog.at_level(logging.WARNING):
        replay = Replay(lambda: done.append(1), torch.device("cuda", 0))
    replay()
    replay()
    assert len(done) == 2
    assert "without a CUDA graph" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_captured_step_has_the_logits_of_a_called_step(tmp_path: Path):
    loaded = load(tmp_path)
    wanted = alone(stream(loaded, 5, 0)[1]).logits
    loaded.model.to("cuda")
    np.testing.assert_allclose(alone(stream(loaded, 5, 0)[1]).logits, wanted, rtol=1e-3, atol=1e-3)
