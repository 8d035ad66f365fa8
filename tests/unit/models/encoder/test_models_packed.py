"""Weights in the processor's own layout give the features of torch's convolutions."""

from __future__ import annotations

import logging

import pytest
import torch

from trackd.models.architecture import Architecture
from trackd.models.encoder import packed as module
from trackd.models.encoder.packed import PackedResNet, packed
from trackd.models.encoder.pieces import Pieces
from trackd.models.encoder.resnet import ResNet, ResNetEncoder

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch is without oneDNN")


def encoder(name: str = "resnet18", in_chans: int = 3) -> ResNetEncoder:
    torch.manual_seed(0)
    cfg = {"d_model": 16, "encoder_cfg": {"model_name": name, "in_chans": in_chans}}
    model = ResNetEncoder(Architecture.from_model_cfg(cfg)).eval().requires_grad_(False)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as after training
            layer.running_mean.normal_(std=0.3)
            layer.bias.normal_(std=0.3)
    model.fold()
    return model


@needs_onednn
@pytest.mark.parametrize(("name", "in_chans"), [("resnet18", 3), ("resnet18", 6), ("resnet50", 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_features_are_those_of_torchs_convolutions(name, in_chans, dtype, tolerance):
    model = encoder(name, in_chans)
    wanted = {}
    for shape in ((5, 48, 40), (1, 33, 20), (16, 20, 20)):
        crops = torch.rand(shape[0], in_chans, *shape[1:])
        wanted[shape] = crops, model(crops)
    model.prepare(dtype, Pieces())
    assert isinstance(model.feature_extractor, PackedResNet)
    for crops, features in wanted.values():
        torch.testing.assert_close(model(crops), features, rtol=0, atol=tolerance)


@needs_onednn
def test_the_crops_of_a_caller_are_not_changed():
    model, crops = encoder(), torch.rand(3, 3, 32, 32).to(memory_format=torch.channels_last)
    model.prepare(torch.float32, Pieces())
    before = crops.clone()
    first = model(crops)
    assert torch.equal(crops, before)
    assert torch.equal(model(crops), first)


@needs_onednn
def test_a_packed_network_holds_its_weights_once():
    model = encoder()
    model.prepare(torch.float32, Pieces())
    assert sum(parameter.numel() for parameter in model.feature_extractor.parameters()) == 0
    model.prepare(torch.float32, Pieces(2))
    with pytest.raises(ValueError, match=r"prepared for torch.float32; got torch.bfloat16"):
        model.prepare(torch.bfloat16, Pieces())


def test_a_torch_without_these_calls_keeps_its_own_convolutions(monkeypatch, caplog):
    def absent(*_: object) -> None:
        raise AttributeError("no such call")

    monkeypatch.setattr(module._Convolution, "_run", absent)
    model, crops = encoder(), torch.rand(2, 3, 32, 32)
    wanted = model(crops)
    with caplog.at_level(logging.INFO):
        model.prepare(torch.float32, Pieces())
    assert isinstance(model.feature_extractor, ResNet)
    assert torch.equal(model(crops), wanted)


@needs_onednn
def test_a_processor_that_computes_otherwise_keeps_torchs_convolutions(monkeypatch, caplog):
    plain = module._Convolution.plain
    monkeypatch.setattr(module._Convolution, "plain", lambda self, x: plain(self, x) * 1.5)
    assert packed(encoder().feature_extractor, torch.float32) is None
    assert "not packed: results differ" in caplog.text


def test_another_number_type_is_not_packed():
    assert packed(encoder().feature_extractor.to(torch.float64), torch.float64) is None
