from __future__ import annotations

import pytest
import torch

from trackd.models.architecture import Architecture
from trackd.models.resnet import BasicBlock, Bottleneck, ResNet, ResNetEncoder, timm_key


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
