"""The forward pass equals DREEM's in every recorded run and activation."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from parity_device import DEVICE, loaded_for_tests
from torch import Tensor, nn

from trackd.models.transformer.boxes import normalise_boxes
from trackd.models.transformer.loaded_model import LoadedModel

TOLERANCE = 1e-4  # of the largest recorded number of the frame

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not oracle.case_paths(), reason=f"no oracle under {oracle.oracle_root()}; set TRACKD_SHARED to its parent"
    ),
]


@lru_cache(maxsize=1)
def _load(path: Path) -> LoadedModel:
    return loaded_for_tests(path)


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def relative_error(got: Tensor, wanted: np.ndarray) -> float:
    """The largest difference over the largest expected number."""
    assert tuple(got.shape) == wanted.shape
    assert torch.isfinite(got).all()
    return float(np.abs(got.cpu().numpy() - wanted).max() / max(np.abs(wanted).max(), 1e-6))


def boxes_of(recording: oracle.Recording, uids: np.ndarray) -> Tensor:
    _, height, width = recording.image_shape[0]
    return torch.from_numpy(normalise_boxes(recording.boxes_px[uids], int(width), int(height))).to(DEVICE)


@pytest.mark.parametrize("path", oracle.case_paths(), ids=lambda path: path.stem)
def test_every_query_frame_of_a_run_has_dreems_features_and_logits(path: Path):
    case = oracle.read_case(path)
    recording, model = case.recording, _load(case.checkpoint).model
    features: dict[int, Tensor] = {}
    feature_errors, logit_errors = [], []
    for step in case.query_frames:
        known = np.isin(step.feature_uid, list(features))
        # DREEM overwrites the feature of an old instance if a frame has one detection; this repeats it.
        for uid, recorded in zip(step.feature_uid[known], step.feature[known], strict=True):
            features[int(uid)] = torch.from_numpy(recorded).to(DEVICE)
        new = np.unique(step.ref_uid[~np.isin(step.ref_uid, list(features))])
        encoded = model.encode_crops(recording.crops(new).to(DEVICE))
        features.update(zip(new.tolist(), encoded, strict=True))
        recomputed = torch.stack([features[uid] for uid in step.feature_uid.tolist()])
        feature_errors.append(relative_error(recomputed, step.feature))

        logits = model.associate(
            torch.stack([features[uid] for uid in step.ref_uid.tolist()]),
            boxes_of(recording, step.ref_uid),
            torch.from_numpy(step.ranks).to(DEVICE),
            step.n_query,
        )
        logit_errors.append(relative_error(logits, step.logits))
    print(f"{case.name}: features {max(feature_errors):.1e}, logits {max(logit_errors):.1e}")
    assert max(feature_errors) < TOLERANCE
    assert max(logit_errors) < TOLERANCE


@pytest.mark.parametrize("path", oracle.activation_paths(), ids=lambda path: path.stem)
def test_every_activation_equals_dreems(path: Path):
    record = oracle.read_activations(path)
    model = loaded_for_tests(record.checkpoint).model  # not the shared one: hooks are added
    outputs = _listen(model.transformer)
    features = model.encode_crops(record.recording.crops(record.uids).to(DEVICE))
    boxes = boxes_of(record.recording, record.uids)
    logits = model.associate(features, boxes, torch.from_numpy(record.ranks).to(DEVICE), record.n_query)

    q, wanted = record.n_query, record.arrays
    got = {"vis_0": features, "features": features, "boxes_norm": boxes, "logits": logits}
    for name, key in (("pos", "pos_emb"), ("temp", "temp_emb")):
        tokens = outputs[key].expand_as(outputs["encoder"])[0] if outputs[key].ndim == 0 else outputs[key][0]
        got |= {f"{name}_0": tokens, f"{name}_1": tokens[-q:]}
    if "fourier_0" in wanted:
        tokens = outputs["fourier_embeddings"].repeat(1, 1, wanted["fourier_0"].shape[-1] // 16)
        got |= {"fourier_0": tokens, "fourier_1": tokens[:, -q:]}
    got |= {"enc_0": outputs["encoder"].transpose(0, 1), "dec_0": outputs["decoder"].transpose(0, 1)[None]}
    got |= {"qproj_0": outputs["attn_head.q_proj"], "kproj_0": outputs["attn_head.k_proj"]}
    wanted = {key: value for key, value in wanted.items() if key not in ("ref_t", "query_t", "n_inst")}
    # With `return_intermediate_dec` DREEM keeps every decoder layer; the tracker uses the last.
    layers = len(wanted["dec_0"])
    wanted["dec_0"] = wanted["dec_0"][-1:]
    for projection in ("qproj", "kproj"):
        wanted[f"{projection}_0"] = wanted.pop(f"{projection}_{layers - 1}")
        for layer in range(1, layers - 1):
            wanted.pop(f"{projection}_{layer}")
    assert set(got) == set(wanted)
    errors = {key: relative_error(got[key], wanted[key]) for key in got}
    print(errors)
    assert max(errors.values()) < TOLERANCE


def _listen(transformer: nn.Module) -> dict[str, Tensor]:
    """Record the output of every submodule in later calls, by name."""
    outputs: dict[str, Tensor] = {}
    for name, module in transformer.named_modules():
        module.register_forward_hook(lambda _module, _args, out, name=name: outputs.__setitem__(name, out))
    return outputs
