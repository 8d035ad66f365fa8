from __future__ import annotations

import pytest
import torch

from trackd.models.architecture import Architecture
from trackd.models.encoder.pieces import Pieces
from trackd.models.encoder.resnet import BasicBlock, Bottleneck, ResNet, ResNetEncoder, timm_key


def encoder(**encoder_cfg: object) -> ResNetEncoder:
    torch.manual_seed(0)
    architecture = Architecture.from_model_cfg({"d_model": 16, "encoder_cfg": encoder_cfg})
    return ResNetEncoder(architecture).eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("block", "depths", "parameters"),
    [(BasicBlock, (2, 2, 2, 2), 11_176_512), (Bottleneck, (3, 4, 6, 3), 23_508_032)],
)
def test_the_networks_have_the_published_number_of_parameters(block, depths, parameters):
    with torch.device("meta"):
        network = ResNet(block, depths, in_chans=3)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


def test_a_bottleneck_halves_the_image_in_its_three_by_three():
    block = Bottleneck(64, 32, stride=2)
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))
    assert block.eval()(torch.rand(2, 64, 8, 8)).shape == (2, 128, 4, 4)


def test_features_have_unit_length_and_do_not_depend_on_their_neighbours():
    model, crops = encoder(), torch.rand(35, 3, 32, 32)
    features = model(crops)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(35))
    torch.testing.assert_close(features[33:], model(crops[33:]))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_folding_batch_norms_changes_features_by_rounding_only(name):
    model, crops = encoder(model_name=name), torch.rand(5, 3, 48, 40)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
    before = model(crops)
    model.fold()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(crops), before, rtol=1e-4, atol=1e-5)
    model.fold()  # the second call has no effect
    torch.testing.assert_close(model(crops), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("resnet18", 20), ("resnet18", 74), ("resnet50", 20)])
def test_the_number_of_threads_and_of_neighbours_changes_no_bit_of_a_feature(name, side):
    torch.set_num_threads(1)
    model, crops = encoder(model_name=name), torch.rand(18, 3, side, side)
    model.fold()
    model.prepare(torch.float32, Pieces())
    pairs = torch.cat([model(pair) for pair in crops.split(2)])
    alone = torch.cat([model(crop[None]) for crop in crops[:2]])
    for threads in (1, 2, 3):
        model.prepare(torch.float32, Pieces(threads))
        assert torch.equal(model(crops), pairs)
        assert torch.equal(model(crops[:5]), pairs[:5])
        assert torch.equal(model(crops.roll(-2, 0), n_lone=2)[-2:], alone)


def test_a_bfloat16_encoder_gives_float32_features_close_to_the_others():
    model, crops = encoder(), torch.rand(3, 3, 32, 32)
    model.fold()
    exact = model(crops)
    model.prepare(torch.bfloat16, Pieces())
    rounded = model(crops)
    assert rounded.dtype is torch.float32
    assert 1e-6 < (rounded - exact).abs().max() < 2e-2
    torch.testing.assert_close(rounded.norm(dim=1), torch.ones(3))


def test_a_grey_crop_is_tiled_to_three_channels():
    model, crops = encoder(in_chans=1), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model(crops), model(crops.repeat(1, 3, 1, 1)))


def test_crops_with_the_wrong_number_of_channels_are_refused():
    with pytest.raises(ValueError, match=r"must have 6 channels .* got 3"):
        encoder(in_chans=6)(torch.rand(1, 3, 32, 32))


def test_the_numbered_keys_of_torchvisions_layout_get_their_timm_names():
    prefix = "visual_encoder.feature_extractor."
    assert timm_key(prefix + "0.weight") == prefix + "conv1.weight"
    assert timm_key(prefix + "1.running_mean") == prefix + "bn1.running_mean"
    assert timm_key(prefix + "5.0.downsample.0.weight") == prefix + "layer2.0.downsample.0.weight"
    assert timm_key(prefix + "layer4.1.bn2.bias") == prefix + "layer4.1.bn2.bias"
    assert timm_key("transformer.encoder.layers.0.linear1.bias") == "transformer.encoder.layers.0.linear1.bias"
