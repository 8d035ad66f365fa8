from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from trackd.models.architecture import Architecture, TemporalInput
from trackd.models.transformer.attention import Attention
from trackd.models.transformer.gtr import GlobalTrackingTransformer

LEARNED = {"pos": {"mode": "learned", "emb_num": 8}, "temp": {"mode": "learned", "emb_num": 8}}
FIXED = {"pos": {"mode": "fixed"}, "temp": {"mode": "fixed"}}
DESCRIPTOR = {"encoder_type": "descriptor", "ndim": 5}
CONFIGS = {
    "bare": {},
    "learned": {"embedding_meta": LEARNED, "norm": True, "decoder_self_attn": True},
    "fixed": {"embedding_meta": FIXED, "decoder_self_attn": True, "activation": "gelu"},
    "descriptor": {"embedding_meta": LEARNED, "encoder_cfg": DESCRIPTOR},
}


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(name: str, temporal_input: TemporalInput = TemporalInput.INDEX) -> GlobalTrackingTransformer:
    torch.manual_seed(0)
    cfg = {"d_model": 32, "nhead": 4, "num_encoder_layers": 2, "num_decoder_layers": 2, **CONFIGS[name]}
    model = GlobalTrackingTransformer(Architecture.from_model_cfg(cfg), temporal_input)
    for parameter in model.transformer.parameters():
        parameter.normal_(std=0.1)  # logits of about 1
    return model


def window(model: GlobalTrackingTransformer, frames: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Features, boxes and ranks of a window with that many instances in each frame."""
    n = sum(frames)
    ranks = torch.arange(len(frames)).repeat_interleave(torch.tensor(frames))
    return torch.randn(n, model.architecture.feature_dim), torch.rand(n, 1, 4), ranks


def test_attention_equals_torchs_with_the_same_parameters():
    torch.manual_seed(0)
    ours, torchs = Attention(32, 4).eval(), nn.MultiheadAttention(32, 4, batch_first=True).eval()
    ours.load_state_dict(torchs.state_dict())
    x, memory = torch.randn(2, 5, 32), torch.randn(2, 9, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), torchs(x, x, x)[0])
        torch.testing.assert_close(ours(x, memory), torchs(x, memory, memory)[0])


@pytest.mark.parametrize("temporal_input", list(TemporalInput))
@pytest.mark.parametrize("name", CONFIGS)
def test_streams_in_one_batch_have_the_same_logits_as_alone(name, temporal_input):
    model = build(name, temporal_input)
    streams = [[3, 2, 4], [1, 1], [5, 4, 3, 5], [2]]
    windows = [window(model, frames) for frames in streams]
    Q, N = 5, 25
    features = torch.full((4, N, model.architecture.feature_dim), torch.nan)
    boxes, t = torch.full((4, N, 1, 4), torch.nan), torch.full((4, N), 99)
    valid = torch.zeros(4, N, dtype=torch.bool)
    places = []
    for b, (frames, (f, x, ranks)) in enumerate(zip(streams, windows, strict=True)):
        context = sum(frames) - frames[-1]
        place = torch.cat((torch.arange(context) + b, torch.arange(frames[-1]) + N - Q))
        features[b, place], boxes[b, place], t[b, place], valid[b, place] = f, x, ranks, True
        places.append(place)
    batch = model.associate_batch(features, boxes, t, valid, Q)
    assert batch.shape == (4, Q, N)
    for b, (frames, (f, x, ranks)) in enumerate(zip(streams, windows, strict=True)):
        alone = model.associate(f, x, ranks, frames[-1])
        torch.testing.assert_close(batch[b, : frames[-1], places[b]], alone, rtol=1e-5, atol=1e-5)
    real = valid[:, N - Q :, None] & valid[:, None]
    assert torch.equal(batch == float("-inf"), ~real)


def test_a_stream_of_padding_only_does_not_change_the_others_logits():
    model = build("learned")
    f, x, ranks = window(model, [3, 2])
    valid = torch.stack((torch.ones(5, dtype=torch.bool), torch.zeros(5, dtype=torch.bool)))
    batch = model.associate_batch(f.expand(2, -1, -1), x.expand(2, -1, -1, -1), ranks.expand(2, -1), valid, 2)
    torch.testing.assert_close(batch[0], model.associate(f, x, ranks, 2), rtol=1e-5, atol=1e-5)
    assert (batch[1] == float("-inf")).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_order_of_context_instances_does_not_matter(name):
    model = build(name)
    f, x, ranks = window(model, [4, 3, 3])
    order = torch.cat((torch.randperm(7), torch.arange(7, 10)))
    logits = model.associate(f, x, ranks, 3)
    shuffled = model.associate(f[order], x[order], ranks[order], 3)
    torch.testing.assert_close(shuffled, logits[:, order], rtol=1e-5, atol=1e-5)


def test_the_temporal_input_changes_the_logits_of_a_learned_time():
    windows = window(build("learned"), [2, 2, 2])
    by_rank = build("learned").associate(*windows, 2)
    by_fraction = build("learned", TemporalInput.FRACTION).associate(*windows, 2)
    assert (by_rank - by_fraction).abs().max() > 1e-3


def test_a_frame_without_detections_has_no_logits_and_no_features():
    model = build("descriptor")
    f, x, ranks = window(model, [2, 2])
    assert model.associate(f, x, ranks, 0).shape == (0, 4)
    assert model.encode_crops(torch.zeros(0, 1, 8, 8)).shape == (0, 5)


def test_nothing_of_the_model_trains():
    model = build("learned")
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.associate(*window(model, [2, 2]), 2).requires_grad


@pytest.mark.parametrize("name", CONFIGS)
def test_association_never_needs_a_value_from_the_device(name):
    # The meta device has shapes but no values: a branch, loop or copy that needs a value fails.
    model = build(name).to("meta")
    f, x, ranks = (part.to("meta") for part in window(model, [3, 4, 5]))
    assert model.associate(f, x, ranks, 5).shape == (5, 12)
    valid = torch.ones(2, 12, dtype=torch.bool, device="meta")
    batch = model.associate_batch(f.expand(2, -1, -1), x.expand(2, -1, -1, -1), ranks.expand(2, -1), valid, 5)
    assert batch.shape == (2, 5, 12)
    assert model.encode_crops(torch.zeros(3, 3, 32, 32, device="meta")).shape == (3, f.shape[1])
