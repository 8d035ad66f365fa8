"""Passes of a fixed number of crops, and copies to the device."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_files import DESCRIPTOR, RESNET, load

from trackd.models.encoder.fixed_passes import CROPS, FixedPasses
from trackd.models.encoder.upload import FrameUpload, IndexUpload

CPU = torch.device("cpu")


@pytest.mark.parametrize("cfg", [DESCRIPTOR, RESNET], ids=["descriptor", "resnet"])
def test_a_feature_does_not_depend_on_how_many_crops_are_encoded_with_it(tmp_path: Path, cfg: dict):
    loaded = load(tmp_path, cfg)
    loaded.model.fixed_passes = True
    crops = torch.rand(2 * CROPS + 3, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    together = loaded.model.encode_crops(crops)
    for chosen in ([0], [5, 4], [CROPS, 2, CROPS + 1], list(range(CROPS + 2))):
        assert torch.equal(loaded.model.encode_crops(crops[chosen]), together[chosen])
    loaded.model.fixed_passes = False
    torch.testing.assert_close(loaded.model.encode_crops(crops), together, rtol=1e-4, atol=1e-5)


def test_every_pass_has_one_shape_and_its_buffers_are_reused():
    shapes = []

    def network(crops: torch.Tensor) -> torch.Tensor:
        shapes.append((tuple(crops.shape), crops.data_ptr()))
        return crops.mean(dim=(2, 3))

    passes = FixedPasses(network, 3)
    with torch.inference_mode():
        for count in (1, CROPS, CROPS + 1):
            crops = torch.rand(count, 3, 4, 4)
            assert torch.equal(passes(crops), crops.mean(dim=(2, 3)))
    assert len(shapes) == 4
    assert len(set(shapes)) == 1
    assert shapes[0][0] == (CROPS, 3, 4, 4)


def test_the_buffers_of_few_shapes_are_kept():
    passes = FixedPasses(lambda crops: crops.mean(dim=(2, 3)), 3)
    with torch.inference_mode():
        for side in range(1, 20):
            passes(torch.rand(1, 3, side, side))
    assert len(passes.passes) == 4
    passes.clear()
    assert passes.passes == []


@pytest.mark.parametrize("apart", [False, True])
def test_indices_are_copied_through_one_buffer(apart: bool):
    upload = IndexUpload(CPU, 2, apart)
    upload.reserve(5)
    places = set()
    for count in (5, 2, 0, 4):
        rows = np.arange(count), np.arange(count)[::-1] + 7
        found = upload(*rows)
        assert [each.tolist() for each in found] == [each.tolist() for each in rows]
        places.add(found[0].data_ptr() if count else None)
    assert len(places - {None}) == 1


def test_a_frame_whose_buffer_cannot_be_allocated_leaves_the_last_one(monkeypatch: pytest.MonkeyPatch):
    upload = FrameUpload(CPU)
    first = np.arange(12, dtype=np.uint8).reshape(3, 4)
    upload(first)

    def full(*args: object, **kwargs: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full)
        with pytest.raises(torch.OutOfMemoryError):
            upload(np.zeros((5, 6), np.uint8))
    assert upload(np.ones((5, 6), np.uint8)).sum() == 30
    assert upload(first).tolist() == first.tolist()
