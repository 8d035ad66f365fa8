"""The geometry of poses, read in one pass, is that of plain arrays to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from trackd.tracking.geometry import anchor_nodes, crop_boxes
from trackd.tracking.posed import read_poses
from trackd_client.detections import Skeleton
from trackd_client.recordings.config import LiveDataset

LIMIT = 1e7
FAULTS = (np.inf, -np.inf, 2e7, 1e30)


def mean(values: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The mean (n, 2) of those (n, k, 2) that are there, NaN for none, added in their order."""
    total = np.zeros((len(values), 2))
    for column in range(values.shape[1]):
        total += np.where(there[:, column, None], values[:, column], 0.0)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(there.any(axis=1), there.sum(axis=1), np.nan)[:, None])


def plain(poses: NDArray[Any], boxes: NDArray[np.float32] | None, dataset: LiveDataset, nodes: tuple[int, ...]) -> Any:
    """Return points, crops, extents, centres and which are usable."""
    exact = poses.astype(np.float64)
    visible = np.isfinite(exact).all(axis=2)
    middle = mean(exact, visible)
    missing = middle if dataset.handle_missing == "centroid" else np.full_like(middle, np.nan)
    columns = [
        middle if node < 0 else np.where(visible[:, node, None], exact[:, node], missing) for node in nodes
    ]  # fmt: skip
    points = np.stack(columns, axis=1)
    crops = crop_boxes(points, dataset.crop_size, dataset.padding)
    extents = boxes
    if extents is None:
        low = np.where(visible[:, :, None], exact, np.inf).min(axis=1, initial=np.inf)
        high = np.where(visible[:, :, None], exact, -np.inf).max(axis=1, initial=-np.inf)
        whole = np.isfinite(crops).all(axis=2).argmax(axis=1)
        about = crops[np.arange(len(crops)), whole]
        tight = np.concatenate([low, high], axis=1).astype(np.float32)
        extents = np.where(visible.sum(axis=1)[:, None] >= 2, tight, about)
    there = np.isfinite(points).all(axis=2)
    box_centres = (extents[:, :2] + extents[:, 2:]) * np.float32(0.5)
    centres = np.where(there.any(axis=1)[:, None], mean(points, there), box_centres).astype(np.float32)
    faulty = (np.abs(exact) > LIMIT).any(axis=(1, 2))
    seen = (~np.isnan(exact).any(axis=2)).any(axis=1)
    return points, crops, extents, centres, (seen | (boxes is not None)) & ~faulty


@st.composite
def settings(draw: st.DrawFn, k: int) -> LiveDataset:
    names = [f"n{node}" for node in range(k)]
    some = st.lists(st.sampled_from([*names, "centroid"]), min_size=1, max_size=4)
    anchors = st.one_of(st.just(""), st.sampled_from([*names, "midpoint"]), some, st.integers(1, max(k, 1)))
    return LiveDataset(
        crop_size=draw(st.sampled_from([64, 63, [40, 21]])),
        padding=draw(st.integers(0, 6)),
        anchors=draw(anchors) if k else "",
        handle_missing=draw(st.sampled_from(["drop", "ignore", "centroid"])),
        seed=draw(st.integers(0, 3)),
    )


@given(st.data(), st.integers(0, 2**32), st.integers(0, 30), st.integers(0, 17), st.booleans(), st.booleans())
def test_it_is_that_of_plain_arrays(
    data: st.DataObject, seed: int, n: int, k: int, is_exact: bool, has_boxes: bool
) -> None:
    rng = np.random.default_rng(seed)
    poses = rng.uniform(-50, 900, (n, k, 2))
    poses[rng.random((n, k)) < rng.choice([0, 0.1, 0.6, 0.95])] = np.nan
    single = rng.random(poses.shape)
    poses[single < 0.01] = np.nan
    poses[single > 0.99] = rng.choice(FAULTS)
    poses = poses if is_exact else poses.astype(np.float32)
    corners = rng.uniform(0, 500, (n, 2))
    boxes = np.concatenate([corners, corners + 30], axis=1).astype(np.float32) if has_boxes else None
    dataset, skeleton = data.draw(settings(k)), Skeleton(tuple(f"n{node}" for node in range(k)))
    found = read_poses(poses, boxes, dataset, skeleton, LIMIT)
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = plain(poses, boxes, dataset, anchor_nodes(dataset.anchors, skeleton, dataset.seed or 0))
    for ours, theirs in zip((found.points, found.crops, found.extents, found.centres), wanted[:4], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
    assert found.usable.tolist() == wanted[4].tolist()
    assert found.all_usable == wanted[4].all()


def test_an_unknown_anchor_is_an_error_in_an_empty_frame_too() -> None:
    with pytest.raises(ValueError, match="unknown node 'nose'; the skeleton's nodes are head"):
        read_poses(np.empty((0, 1, 2)), None, LiveDataset(anchors="nose"), Skeleton(("head",)), LIMIT)
