from __future__ import annotations

import json
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from trackd.models.architecture import Architecture
from trackd.models.checkpoint.file import CheckpointFile, CheckpointReader, parsed
from trackd.models.checkpoint.load import CheckpointError, convert, inspect, load_checkpoint
from trackd.models.checkpoint.read_process import answer
from trackd.models.transformer.gtr import GlobalTrackingTransformer

# Written by omegaconf 2.4.0 and torch.save: the configs in it are DictConfig and ListConfig objects.
OMEGACONF_FILE = Path(__file__).parent / "omegaconf_tiny.ckpt"
MODEL_CFG: dict[str, Any] = {
    "d_model": 16,
    "nhead": 2,
    "num_encoder_layers": 1,
    "num_decoder_layers": 1,
    "dropout": 0.1,
    "embedding_meta": {"pos": {"mode": "learned", "emb_num": 4}, "temp": None},
    "encoder_cfg": {"encoder_type": "descriptor", "ndim": 5},
}
RESNET_CFG = {**MODEL_CFG, "encoder_cfg": {"model_name": "resnet18"}}


def weights(cfg: dict[str, Any]) -> OrderedDict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = GlobalTrackingTransformer(Architecture.from_model_cfg(cfg))
    return OrderedDict((f"model.{key}", value.clone()) for key, value in model.state_dict().items())


def save(path: Path, cfg: dict[str, Any], state: dict[str, torch.Tensor], **more: Any) -> Path:
    """A checkpoint with Lightning's keys."""
    hyper_parameters = {"model_cfg": cfg, "tracker_cfg": {"window_size": 8}, "metrics": None}
    contents = {"epoch": 1, "global_step": 2, "pytorch-lightning_version": "2.6.6", "loops": {}}
    torch.save({**contents, "state_dict": state, "hyper_parameters": hyper_parameters, **more}, path)
    return path


@pytest.fixture
def ckpt(tmp_path: Path) -> Path:
    return save(tmp_path / "tiny.ckpt", MODEL_CFG, weights(MODEL_CFG))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read hundreds of files without a process for each; test_models_reading.py tests the processes."""

    def read(self: CheckpointReader, file: CheckpointFile, kind: str) -> Any:
        with file.path.open("rb") as opened:
            lines = answer(opened, kind)
        return parsed("\n".join(lines).encode(), file.nbytes)

    monkeypatch.setattr(CheckpointReader, "read", read)


def logits(path: Path, temporal_input: str = "index") -> torch.Tensor:
    model = load_checkpoint(path, temporal_input).model
    torch.manual_seed(0)
    crops, boxes = torch.rand(6, 1, 12, 12), torch.rand(6, 1, 4)
    return model.associate(model.encode_crops(crops), boxes, torch.tensor([0, 0, 1, 1, 2, 2]), 2)


def test_a_checkpoint_loads_with_every_weight_and_its_stem_as_name(ckpt: Path):
    loaded = load_checkpoint(str(ckpt))
    assert (loaded.name, loaded.path, loaded.architecture.d_model) == ("tiny", ckpt, 16)
    assert loaded.report.missing == loaded.report.unexpected == ()
    state = loaded.model.state_dict()
    for key, value in weights(MODEL_CFG).items():
        assert torch.equal(state[key.removeprefix("model.")], value)


def test_optimizer_state_in_a_checkpoint_is_ignored(tmp_path: Path):
    moments = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.rand(4)}}, "param_groups": [{"lr": 1e-3}]}
    path = save(tmp_path / "a.ckpt", MODEL_CFG, weights(MODEL_CFG), optimizer_states=[moments])
    assert load_checkpoint(path).name == "a"


def test_a_checkpoint_with_omegaconf_objects_loads_without_omegaconf():
    loaded = load_checkpoint(OMEGACONF_FILE)
    assert (loaded.architecture.d_model, loaded.architecture.pos.emb_num) == (16, 4)
    assert torch.isfinite(logits(OMEGACONF_FILE)).all()
    with pytest.raises(Exception, match="omegaconf"):
        torch.load(OMEGACONF_FILE, weights_only=True)


@pytest.mark.parametrize("temporal_input", ["index", "fraction"])
def test_a_converted_checkpoint_gives_the_same_logits(ckpt: Path, tmp_path: Path, temporal_input: str):
    for source in (ckpt, OMEGACONF_FILE):
        out = convert(source, tmp_path / "out.safetensors")
        assert torch.equal(logits(out, temporal_input), logits(source, temporal_input))
        assert inspect(out).format == "safetensors"


def test_converting_a_safetensors_file_again_changes_nothing(ckpt: Path, tmp_path: Path):
    once = convert(ckpt, tmp_path / "once.safetensors")
    twice = convert(once, tmp_path / "twice.safetensors")
    assert once.read_bytes() == twice.read_bytes()


def test_the_summary_states_what_a_config_needs(ckpt: Path):
    summary = inspect(ckpt)
    assert (summary.format, summary.crop_channels, summary.anchors) == ("lightning", 1, 1)
    assert summary.file_bytes == ckpt.stat().st_size
    assert summary.n_parameters == sum(value.numel() for value in weights(MODEL_CFG).values())
    assert any("descriptor, features of 5" in line for line in summary.lines())


def test_torchvisions_layout_of_a_resnet_loads_as_timms(tmp_path: Path):
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    state, marker = OrderedDict(), "feature_extractor."
    for key, value in weights(RESNET_CFG).items():
        before, found, after = key.partition(marker)
        head, _, rest = after.partition(".")
        state[f"{before}{marker}{numbers[head]}.{rest}" if found else key] = value
    cfg = {**MODEL_CFG, "encoder_cfg": {"model_name": "resnet18", "backend": "torch"}}
    torch_layout = load_checkpoint(save(tmp_path / "torch.ckpt", cfg, state))
    timm_layout = load_checkpoint(save(tmp_path / "timm.ckpt", RESNET_CFG, weights(RESNET_CFG)))
    crops = torch.rand(2, 1, 32, 32)
    assert torch.equal(torch_layout.model.encode_crops(crops), timm_layout.model.encode_crops(crops))
    assert torch_layout.report.unexpected == ()


def test_unused_fourier_parameters_of_a_resnet_may_be_absent_or_extra(tmp_path: Path):
    state = weights(RESNET_CFG)
    del state["model.transformer.fourier_embeddings.freq"]
    old = save(tmp_path / "old.ckpt", RESNET_CFG, state)
    assert load_checkpoint(old).report.missing == ("transformer.fourier_embeddings.freq",)
    assert inspect(old).may_need_fraction
    state = weights(RESNET_CFG)
    state["model.transformer.fourier_norm.bias"] = torch.zeros(16)
    new = save(tmp_path / "new.ckpt", RESNET_CFG, state)
    assert load_checkpoint(new).report.unexpected == ("transformer.fourier_norm.bias",)
    assert not inspect(new).may_need_fraction


def test_fourier_parameters_of_a_descriptor_are_required(tmp_path: Path):
    state = weights(MODEL_CFG)
    del state["model.transformer.fourier_embeddings.freq"]
    with pytest.raises(CheckpointError, match=r"lacks tensors .*fourier_embeddings\.freq"):
        load_checkpoint(save(tmp_path / "a.ckpt", MODEL_CFG, state))


def test_a_missing_weight_is_an_error_that_names_it(tmp_path: Path):
    state = weights(MODEL_CFG)
    del state["model.transformer.encoder.layers.0.linear1.bias"]
    with pytest.raises(CheckpointError, match=r"lacks tensors for its model_cfg: transformer\.encoder.*linear1\.bias"):
        load_checkpoint(save(tmp_path / "a.ckpt", MODEL_CFG, state))


def test_weights_of_another_architecture_are_an_error_that_names_the_first(tmp_path: Path):
    wider = save(tmp_path / "wider.ckpt", {**MODEL_CFG, "d_model": 32}, weights(MODEL_CFG))
    with pytest.raises(CheckpointError, match=r"must be float32 \(16, 8\) for its model_cfg; got float32 \(16, 4\)"):
        load_checkpoint(wider)
    deeper = save(tmp_path / "deeper.ckpt", {**MODEL_CFG, "num_encoder_layers": 2}, weights(MODEL_CFG))
    with pytest.raises(CheckpointError, match="lacks tensors"):
        load_checkpoint(deeper)
    shallow = {**MODEL_CFG, "num_layers_attn_head": 1}
    with pytest.raises(CheckpointError, match=r"has unknown tensors .*q_proj\.layers\.1"):
        load_checkpoint(save(tmp_path / "shallow.ckpt", shallow, weights(MODEL_CFG)))


def test_a_config_of_absurd_size_is_refused_before_anything_is_allocated(tmp_path: Path):
    cfg = {**MODEL_CFG, "d_model": 65536, "num_encoder_layers": 256}
    with pytest.raises(CheckpointError, match="lacks tensors"):
        load_checkpoint(save(tmp_path / "a.ckpt", cfg, weights(MODEL_CFG)))


@pytest.mark.usefixtures("in_process")
def test_a_truncated_file_is_an_error_of_one_line(ckpt: Path, tmp_path: Path):
    data, cut = ckpt.read_bytes(), tmp_path / "cut.ckpt"
    for length in range(0, len(data), len(data) // 40):
        cut.write_bytes(data[:length])
        assert_one_line(cut)


@pytest.mark.usefixtures("in_process")
def test_a_flipped_byte_is_an_error_of_one_line_or_harmless(ckpt: Path, tmp_path: Path):
    data, bad = bytearray(ckpt.read_bytes()), tmp_path / "bad.ckpt"
    whole, refused = load_checkpoint(ckpt).model.state_dict(), 0
    for place in range(0, len(data), len(data) // 200):
        flipped = data.copy()
        flipped[place] ^= 0xFF
        bad.write_bytes(flipped)
        message = error_of(bad)
        if message is None:  # between the files of the zip
            state = load_checkpoint(bad).model.state_dict()
            assert all(torch.equal(state[key], whole[key]) for key in whole)
        else:
            refused += 1
            assert "\n" not in message
    assert refused > 50


def error_of(path: Path) -> str | None:
    try:
        load_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return None


def assert_one_line(path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message


def test_other_kinds_of_files_are_an_error_of_one_line(tmp_path: Path):
    text = tmp_path / "notes.ckpt"
    text.write_text("not a checkpoint")
    assert_one_line(text)
    assert_one_line(tmp_path / "absent.ckpt")
    assert_one_line(tmp_path)
    empty_zip = tmp_path / "empty.ckpt"
    zipfile.ZipFile(empty_zip, "w").close()
    assert_one_line(empty_zip)
    script = tmp_path / "script.ckpt"
    with zipfile.ZipFile(script, "w") as file:  # as torch.jit.save lays it out
        file.writestr("a/data.pkl", b"\x80\x02}.")
        file.writestr("a/constants.pkl", b"\x80\x02).")
    assert_one_line(script)
    legacy = tmp_path / "legacy.ckpt"
    torch.save({"state_dict": {}}, legacy, _use_new_zipfile_serialization=False)
    assert_one_line(legacy)
    bare = tmp_path / "bare.ckpt"
    torch.save({"weights": torch.zeros(2)}, bare)
    assert_one_line(bare)
    model = tmp_path / "module.ckpt"
    torch.save(torch.nn.Linear(2, 2), model)
    assert_one_line(model)


def test_safetensors_without_a_valid_config_are_an_error_of_one_line(tmp_path: Path):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    assert_one_line(foreign)
    for number, text in enumerate(["{", "[1]", json.dumps({"d_model": "x"})]):
        broken = tmp_path / f"{number}.safetensors"
        save_file({"a": torch.zeros(2)}, broken, metadata={"trackd_model_cfg": text})
        assert_one_line(broken)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(foreign.read_bytes()[:20])
    assert_one_line(cut)


def test_an_unknown_temporal_input_names_the_two_known_ones(ckpt: Path):
    with pytest.raises(ValueError, match='must be "index" or "fraction"; got \'rank\''):
        load_checkpoint(ckpt, "rank")


def test_the_output_of_a_conversion_must_be_safetensors(ckpt: Path, tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        convert(ckpt, tmp_path / "out.ckpt")
    with pytest.raises(CheckpointError, match="could not be written"):
        convert(ckpt, tmp_path / "absent" / "out.safetensors")


def test_a_tensor_name_of_two_lines_is_refused_in_one_line(tmp_path: Path):
    state = weights(MODEL_CFG)
    state["not\nmodel"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"must be named model\.\*") as caught:
        load_checkpoint(save(tmp_path / "a.ckpt", MODEL_CFG, state))
    assert "\n" not in str(caught.value)


def test_a_pickle_that_numbers_an_object_by_a_billion_is_refused_at_once(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", b"\x80\x02}r\x00\xca\x9a\x3b.")  # LONG_BINPUT 1000000000
    with pytest.raises(CheckpointError, match=r"damaged or hostile: object 1000000000 in \d+ bytes"):
        load_checkpoint(path)
