from __future__ import annotations

import math

import pytest

from trackd.models.architecture import Activation, Architecture, EmbeddingMode, EncoderKind
from trackd.models.errors import CheckpointError

DESCRIPTOR = {"encoder_type": "descriptor", "ndim": 5}


def test_an_empty_config_is_dreems_default_model():
    a = Architecture.from_model_cfg({})
    assert (a.d_model, a.nhead, a.num_encoder_layers, a.num_decoder_layers) == (1024, 8, 6, 6)
    assert (a.num_layers_attn_head, a.activation, a.norm, a.decoder_self_attn) == (2, Activation.RELU, False, False)
    assert a.pos.mode is a.temp.mode is EmbeddingMode.OFF
    assert (a.encoder.kind, a.encoder.model_name, a.encoder.in_chans) == (EncoderKind.RESNET, "resnet18", 3)
    assert (a.crop_channels, a.anchors, a.feature_dim, a.uses_fourier) == (3, 1, 1024, False)


def test_one_input_channel_silently_means_three():
    assert Architecture.from_model_cfg({"encoder_cfg": {"in_chans": 1}}).crop_channels == 3


def test_two_anchors_of_three_channels_make_crops_of_six():
    cfg = {"encoder_cfg": {"in_chans": 6}, "embedding_meta": {"pos": {"mode": "learned", "n_points": 2}}}
    a = Architecture.from_model_cfg(cfg)
    assert (a.crop_channels, a.anchors) == (6, 2)
    assert Architecture.from_model_cfg({"encoder_cfg": {"in_chans": 6}}).anchors == 2


def test_with_an_encoder_type_only_its_arguments_are_used():
    cfg = {"encoder_type": "resnet", "model_name": "resnet50", "encoder_type_args": {"in_chans": 6}}
    a = Architecture.from_model_cfg({"encoder_cfg": cfg})
    assert (a.encoder.model_name, a.encoder.in_chans, a.encoder.fourier_dim) == ("resnet18", 6, 5)


def test_arguments_under_the_types_name_are_accepted():
    cfg = {"encoder_type": "resnet", "resnet": {"model_name": "resnet50"}}
    assert Architecture.from_model_cfg({"encoder_cfg": cfg}).encoder.model_name == "resnet50"


def test_a_descriptor_has_five_features_or_twelve_with_hu_moments():
    assert Architecture.from_model_cfg({"encoder_cfg": DESCRIPTOR}).feature_dim == 5
    cfg = {"encoder_type": "descriptor", "ndim": 12, "encoder_type_args": {"use_hu_moments": True}}
    a = Architecture.from_model_cfg({"encoder_cfg": cfg})
    assert (a.feature_dim, a.crop_channels, a.uses_fourier) == (12, 1, True)


def test_normalised_positions_scale_to_two_pi_unless_told_otherwise():
    pos = {"mode": "fixed", "normalize": True}
    assert Architecture.from_model_cfg({"embedding_meta": {"pos": pos}}).pos.scale == 2 * math.pi
    assert Architecture.from_model_cfg({"embedding_meta": {"pos": {**pos, "scale": 3}}}).pos.scale == 3.0


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"encoder_cfg": {"encoder_type": "dino"}}, "encoder_type must be one of resnet, descriptor; got 'dino'"),
        ({"encoder_cfg": {"model_name": "resnet34"}}, "must be resnet18 or resnet50; got 'resnet34'"),
        ({"encoder_cfg": {"backend": "flax"}}, "must be timm or torch; got 'flax'"),
        ({"encoder_cfg": {"output_stride": 8}}, "output_stride is not supported"),
        ({"encoder_cfg": {"encoder_type": "descriptor", "ndim": 12}}, "ndim must be 5 for this descriptor; got 12"),
        ({"activation": "swish"}, "activation must be one of relu, gelu; got 'swish'"),
        ({"activation": "glu"}, "activation must be one of relu, gelu; got 'glu'"),
        ({"d_model": 30, "nhead": 4}, "multiple of nhead; got 30 and 4"),
        ({"d_model": "128"}, "d_model must be an integer from 1 to 65536; got '128'"),
        ({"d_model": True}, "got True"),
        ({"norm": 1}, "norm must be true or false; got 1"),
        ({"num_encoder_layers": 10**9}, "num_encoder_layers must be an integer from 0 to 256"),
        ({"d_modle": 32}, "d_modle is not supported; known keys: "),
        ({"embedding_meta": {"pos": {"mode": "rope"}}}, "pos.mode must be one of off, fixed, learned; got 'rope'"),
        ({"embedding_meta": {"pos": {"mode": "learned", "over_boxes": False}}}, "over_boxes must be true"),
        ({"embedding_meta": {"pos": {"mode": "fixed", "scale": 6.0}}}, "scale must be null unless normalize"),
        ({"embedding_meta": {"pos": {"mode": "fixed", "n_points": 2}}}, "several n_points need an mlp_cfg"),
        ({"embedding_meta": {"pos": {"mode": "fixed", "mlp_cfg": {"hidden_dims": 3}}}}, "hidden_dims is not"),
        ({"embedding_meta": {"pos": {"mode": "learned", "n_points": 3}}}, "multiple of 4 x n_points = 12; got 1024"),
        ({"embedding_meta": {"use_fourier": True}}, "use_fourier must be false with a resnet"),
        ({"embedding_meta": [1]}, "must be a map of keys, or null"),
        ({"d_model": 8, "encoder_cfg": DESCRIPTOR}, "multiple of 16 for Fourier times; got 8"),
    ],
)
def test_an_unsupported_value_is_refused_by_name_and_value(cfg: dict[str, object], message: str):
    with pytest.raises(CheckpointError) as caught:
        Architecture.from_model_cfg(cfg)
    assert message in str(caught.value)
