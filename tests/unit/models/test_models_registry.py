from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import DESCRIPTOR, RESNET, TWO_ANCHORS, write_checkpoint

from trackd.config import Config, StreamSettings, check_config
from trackd.models.motion.scorer import MotionScorer
from trackd.models.registry import ModelRegistry
from trackd.models.transformer.requirements import MAX_CROP_SIDE_PX, Requirements
from trackd.models.transformer.scorer import TransformerScorer
from trackd_client.configuration import ConfigError


def config_of(*paths: Path | str, device: str = "cpu") -> Config:
    return check_config({"ckpt_path": [str(path) for path in paths], "daemon": {"device": device}})


def settings_of(**changes: Any) -> StreamSettings:
    return StreamSettings.of(check_config({})).changed(changes)


def test_without_a_checkpoint_the_default_is_motion():
    registry = ModelRegistry(check_config({}))
    assert (registry.default, registry.names, registry.device) == ("motion", ["motion"], "cpu")
    assert registry.rows() == [{"name": "motion", "device": "cpu", "path": None, "default": True}]
    assert isinstance(registry.scorer_factory("motion")(settings_of()), MotionScorer)


def test_a_daemon_without_a_checkpoint_never_imports_torch():
    program = (
        "import sys\n"
        "import trackd.cli, trackd.commands.serve\n"
        "from trackd.config import check_config\n"
        "from trackd.daemon import Daemon\n"
        "ends = {name: f'inproc://{name}' for name in ('ingest', 'tracks', 'control')}\n"
        "with Daemon(check_config({'daemon': {'endpoints': ends, 'http': None}})):\n"
        "    pass\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"


def test_the_visual_encoder_runs_as_configured(tmp_path: Path):
    path = write_checkpoint(tmp_path / "mice.ckpt", RESNET)
    daemon = {"device": "cpu", "encoder_dtype": "bfloat16", "encoder_threads": 3}
    registry = ModelRegistry(check_config({"ckpt_path": str(path), "daemon": daemon}))
    encoder = registry._checkpoints["mice"].loaded.model.visual_encoder
    assert encoder.dtype is torch.bfloat16
    assert encoder.out_layer.weight.dtype is torch.float32
    assert encoder.pieces.threads == 3


@pytest.mark.parametrize("daemon", [{"encoder_dtype": "float16"}, {"encoder_threads": 0}])
def test_an_invalid_encoder_setting_is_refused(daemon: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(daemon))):
        check_config({"daemon": daemon})


def test_checkpoints_are_named_by_their_stems_and_the_first_is_the_default(tmp_path: Path):
    paths = [write_checkpoint(tmp_path / f"{name}.ckpt") for name in ("mice", "flies")]
    registry = ModelRegistry(config_of(*paths))
    assert registry.names == ["mice", "flies", "motion"]
    assert registry.default == registry.resolve(None) == "mice"
    assert [row["path"] for row in registry.rows()] == [str(paths[0]), str(paths[1]), None]
    assert [row["default"] for row in registry.rows()] == [True, False, False]
    assert isinstance(registry.scorer_factory("flies")(settings_of()), TransformerScorer)
    assert isinstance(registry.scorer_factory("motion")(settings_of()), MotionScorer)
    with pytest.raises(KeyError, match="model 'fly' is not loaded; did you mean 'flies'"):
        registry.resolve("fly")


def test_two_checkpoints_of_one_name_are_an_error_that_names_both(tmp_path: Path):
    (tmp_path / "old").mkdir()
    old, new = write_checkpoint(tmp_path / "old" / "best.ckpt"), write_checkpoint(tmp_path / "best.ckpt")
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(config_of(old, new))
    assert str(caught.value) == f"ckpt_path: {new}: the name 'best' is taken by {old}; rename one of them"


def test_no_checkpoint_may_be_named_as_the_built_in_model(tmp_path: Path):
    with pytest.raises(ConfigError, match="the name 'motion' is the built-in model's; take another"):
        ModelRegistry(config_of(write_checkpoint(tmp_path / "motion.ckpt")))


def test_a_relative_path_is_tried_in_three_folders(tmp_path: Path, monkeypatch):
    folders = [tmp_path / name for name in ("beside", "here", "shared")]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[1])
    monkeypatch.setenv("TRACKD_SHARED", str(folders[2]))
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(config_of("a.ckpt"), base=folders[0])
    assert str(caught.value) == f"ckpt_path: no such file: a.ckpt in {', '.join(map(str, folders))}"
    for folder in reversed(folders):
        write_checkpoint(folder / "a.ckpt")
        row = ModelRegistry(config_of("a.ckpt"), base=folders[0]).rows()[0]
        assert row["path"] == str(folder / "a.ckpt")


def test_a_file_that_is_no_checkpoint_is_an_error_of_one_line_that_names_the_key(tmp_path: Path):
    path = tmp_path / "notes.ckpt"
    path.write_text("not a checkpoint")
    with pytest.raises(ConfigError) as caught:
        ModelRegistry(config_of(path))
    assert str(caught.value).startswith(f"ckpt_path: {path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda:99", "mps"])
def test_a_missing_device_is_an_error(tmp_path: Path, device: str):
    if device == "mps" and sys.platform == "darwin":
        pytest.skip("this machine may have it")
    with pytest.raises(ConfigError, match=rf"daemon\.device must be auto.* got '{device}'"):
        ModelRegistry(config_of(write_checkpoint(tmp_path / "a.ckpt"), device=device))


def test_a_checkpoint_loaded_later_is_available_once_loading_has_finished(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    registry = ModelRegistry(config_of())
    registry.reserve("late")
    checkpoint = registry.read("late", str(path))
    assert registry.names == ["motion"]
    assert registry.finish_loading(checkpoint) == {"name": "late", "device": "cpu", "path": str(path), "default": False}
    assert registry.names == ["late", "motion"]
    assert registry.default == "motion"


def test_a_name_is_loaded_once_and_checkpoints_one_at_a_time(tmp_path: Path):
    registry = ModelRegistry(config_of(write_checkpoint(tmp_path / "a.ckpt")))
    for name, complaint in (("a", "is taken by"), ("motion", "built-in"), ("", "1 to 128"), ("x" * 129, "1 to 128")):
        with pytest.raises(ConfigError, match=complaint):
            registry.reserve(name)
    registry.reserve("b")
    with pytest.raises(ConfigError, match="'b' is being loaded; load 'c' when that is done"):
        registry.reserve("c")
    assert registry.finish_loading(None) is None
    registry.reserve("c")


def test_a_stream_must_have_the_models_anchors(tmp_path: Path):
    registry = ModelRegistry(config_of(write_checkpoint(tmp_path / "two.ckpt", TWO_ANCHORS)))
    for anchors in (["head", "tail"], 2):
        registry.check_stream("two", settings_of(anchors=anchors), None)
    for anchors in ("", "head", ["head"], ["head", "tail", "ear"], 3):
        with pytest.raises(ConfigError, match=r"anchors must be 2 for this model, .* got"):
            registry.check_stream("two", settings_of(anchors=anchors), None)
        registry.check_stream("motion", settings_of(anchors=anchors), None)


def test_a_frames_channels_are_checked_if_they_are_known_and_used(tmp_path: Path):
    names = {"descriptor": DESCRIPTOR, "resnet": RESNET}
    registry = ModelRegistry(config_of(*(write_checkpoint(tmp_path / f"{n}.ckpt", cfg) for n, cfg in names.items())))
    for shape in (None, (60, 90), (60, 90, 1), (60, 90, 3)):
        registry.check_stream("resnet", settings_of(), shape)
    registry.check_stream("descriptor", settings_of(), (60, 90, 4))  # takes the first
    registry.check_stream("resnet", settings_of(use_vis_feats=False), (60, 90, 4))
    with pytest.raises(ConfigError, match="frame_shape: the image must have 1 or 3 channels for this model; got 4"):
        registry.check_stream("resnet", settings_of(), (60, 90, 4))


def test_a_crop_that_would_take_all_memory_is_refused():
    side = MAX_CROP_SIDE_PX - 10
    needs = Requirements(anchors=1, crops=1, channels=3)
    needs.check_stream(settings_of(crop_size=[4, side], padding=5), None)
    with pytest.raises(ConfigError, match=r"crop_size \+ 2 padding must be at most 4096 pixels; got 4097"):
        needs.check_stream(settings_of(crop_size=[4, side + 1], padding=5), None)


def test_a_recalled_model_is_loaded_and_is_not_the_default(tmp_path: Path):
    path = write_checkpoint(tmp_path / "late.ckpt")
    digest = ModelRegistry(config_of(path)).digest("late")
    registry = ModelRegistry(config_of())
    registry.recall("late", str(path), digest)
    assert (registry.names, registry.default) == (["late", "motion"], "motion")
    assert registry.fault("late", digest) is None
    assert registry.fault("late", None) is None  # stored by an earlier version
    assert registry.fault("motion", None) is None
    assert "late.ckpt is another file: its SHA-256 is" in registry.fault("late", "0" * 64)


def test_a_recalled_model_that_is_gone_or_changed_is_remembered_with_its_reason(tmp_path: Path, caplog):
    path = write_checkpoint(tmp_path / "late.ckpt")
    registry = ModelRegistry(config_of())
    registry.recall("late", str(path), "0" * 64)
    registry.recall("absent", str(tmp_path / "absent.ckpt"), "0" * 64)
    assert registry.names == ["motion"]
    assert f"{path} has changed since it was loaded: its SHA-256 was 000000000000…" in registry.fault("late", None)
    assert registry.fault("absent", None) == f"model 'absent' is not loaded: no such file: {tmp_path / 'absent.ckpt'}"
    assert registry.fault("never", None) == "model 'never' is not loaded"
    with pytest.raises(KeyError, match="model 'absent' is not loaded: no such file"):
        registry.resolve("absent")
    assert caplog.text.count("is not loaded again") == 2
    registry.reserve("late")
    registry.finish_loading(registry.read("late", str(path)))
    assert registry.fault("late", registry.digest("late")) is None
    assert registry.resolve("late") == "late"


def test_a_checkpoint_of_the_configuration_takes_precedence_over_a_recalled_one(tmp_path: Path):
    path = write_checkpoint(tmp_path / "late.ckpt")
    registry = ModelRegistry(config_of(path))
    registry.recall("late", str(tmp_path / "absent.ckpt"), "0" * 64)
    assert registry.rows()[0]["path"] == str(path)


def test_no_checkpoint_is_read_after_stop(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    registry = ModelRegistry(config_of())
    registry.stop()
    with pytest.raises(ConfigError, match="the daemon is ending"):
        registry.read("a", str(path))
