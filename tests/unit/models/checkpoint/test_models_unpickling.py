"""Hostile checkpoints run no code."""

from __future__ import annotations

import collections
import contextlib
import io
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from trackd.models.checkpoint.load import load_checkpoint
from trackd.models.checkpoint.unpickling import LightningArchive, plain
from trackd.models.checkpoint.weights import read_weights
from trackd.models.errors import CheckpointError


class Bomb:
    """Runs a command when Python's own pickle loads it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class EvalBomb(Bomb):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.mark)!r}, 'w').close()",)


def archive(path: Path, pickled: bytes) -> Path:
    """A PyTorch zip with a given pickle."""
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a/data.pkl", pickled)
        file.writestr("a/byteorder", sys.byteorder)
        file.writestr("a/data/0", bytes(16))
    return path


def nestings(bomb: Bomb) -> dict[str, Any]:
    state = collections.OrderedDict({"model.a": torch.zeros(2)})
    return {
        "top": bomb,
        "beside": {"state_dict": state, "hyper_parameters": {"model_cfg": {}}, "callbacks": {"x": [bomb]}},
        "in the config": {"state_dict": state, "hyper_parameters": {"model_cfg": {"d_model": bomb}}},
        "in the weights": {"state_dict": {"model.a": bomb}, "hyper_parameters": {"model_cfg": {}}},
        "as a key": {"state_dict": state, "hyper_parameters": {"model_cfg": {(bomb,): 1}}},
        "in a default dict": {"state_dict": state, "hyper_parameters": collections.defaultdict(dict, {"a": bomb})},
    }


@pytest.mark.parametrize("where", nestings(Bomb(Path())))
@pytest.mark.parametrize("bomb", [Bomb, EvalBomb])
def test_a_checkpoint_that_would_run_a_command_is_refused_and_runs_nothing(tmp_path: Path, bomb: type, where: str):
    mark, path = tmp_path / "ran", tmp_path / "bomb.ckpt"
    torch.save(nestings(bomb(mark))[where], path)
    with pytest.raises(CheckpointError, match=r"it names \w+\.(system|eval), which no DREEM checkpoint needs") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the bomb works
    assert mark.exists()


@pytest.mark.parametrize(
    "name",
    [
        "builtins.getattr",
        "builtins.exec",
        "importlib.import_module",
        "operator.attrgetter",
        "torch.load",
        "torch.serialization.load",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_device_tensor_from_numpy",
        "collections.Counter",
        "typing.get_type_hints",
        "omegaconf.nodes.InterpolationResultNode",
        "omegaconf.OmegaConf",
    ],
)
def test_no_other_name_can_be_used(tmp_path: Path, name: str):
    module, _, attribute = name.rpartition(".")
    pickled = b"\x80\x02c" + module.encode() + b"\n" + attribute.encode() + b"\n."
    with pytest.raises(CheckpointError, match="it names"):
        LightningArchive(archive(tmp_path / "a.ckpt", pickled))


def test_a_dotted_name_does_not_reach_through_an_allowed_one(tmp_path: Path):
    pickled = b"\x80\x04\x8c\x0bcollections\x8c\x1aOrderedDict.__init__.__globals__\x93."
    with pytest.raises(CheckpointError):
        LightningArchive(archive(tmp_path / "a.ckpt", pickled))


@pytest.mark.parametrize("target", ["omegaconf.dictconfig DictConfig", "torch._utils _rebuild_tensor_v2"])
def test_attributes_set_on_a_stand_in_class_do_not_outlive_the_file(tmp_path: Path, target: str):
    module, name = target.split()
    load = f"c{module}\n{name}\n".encode()  # GLOBAL
    # BUILD with slot state sets attributes on the object on the stack, which may be a class.
    mark = load + b"N}X\x04\x00\x00\x00evilK\x01s\x86b"
    with contextlib.suppress(CheckpointError):
        LightningArchive(archive(tmp_path / "a.ckpt", b"\x80\x02}X\x01\x00\x00\x00a" + mark + b"s."))
    second = LightningArchive(archive(tmp_path / "b.ckpt", b"\x80\x02}X\x01\x00\x00\x00a" + load + b"s."))
    assert not hasattr(second.contents["a"], "evil")


def tensor_pickle(numel: int, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A dict with one tensor with a given description."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            return ("storage", torch.FloatStorage, "0", "cpu", numel) if obj is storage else None

    storage = object()

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            args = (storage, offset, shape, stride, False, collections.OrderedDict())
            return torch._utils._rebuild_tensor_v2, args

    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"model.a": Tensor()})
    return buffer.getvalue()


def test_a_well_described_tensor_is_read(tmp_path: Path):
    path = archive(tmp_path / "a.ckpt", tensor_pickle(4, 1, (3,), (1,)))
    file = LightningArchive(path)
    found = file.tensors(file.contents)
    with path.open("rb") as opened:
        weights = read_weights(opened.fileno(), path.stat().st_size, found)
    assert torch.equal(weights["model.a"], torch.zeros(3))


@pytest.mark.parametrize(
    ("numel", "offset", "shape", "stride"),
    [
        (10**9, 0, (2,), (1,)),
        (4, 2, (3,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, -1, (2,), (1,)),
        (4, 0, (2,), (10**12,)),
        (4, 0, (-2,), (1,)),
        (4, 0, (2, 2), (1,)),
        (4, 0, (5,), (0,)),
        (4, 0, (1 << 30,), (0,)),
        (4, 0, (3, 3), (1, 0)),
        (-4, 0, (1,), (1,)),
    ],
)
def test_a_tensor_that_reaches_past_its_storage_is_refused(tmp_path: Path, numel, offset, shape, stride):
    file = LightningArchive(archive(tmp_path / "a.ckpt", tensor_pickle(numel, offset, shape, stride)))
    with pytest.raises(CheckpointError, match=r"its tensor model\.a"):
        file.tensors(file.contents)


def test_a_pickle_nested_too_deeply_is_refused(tmp_path: Path):
    value: Any = 1
    for _ in range(100):
        value = {"a": value}
    with pytest.raises(CheckpointError, match="nested too deeply"):
        plain(value, "model_cfg")


@pytest.fixture
def omegaconf_names(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Classes that pickle under omegaconf's names; omegaconf itself is not needed."""
    made: dict[str, type] = {}
    for name, module in (("DictConfig", "dictconfig"), ("ListConfig", "listconfig"), ("AnyNode", "nodes")):
        made[name] = type(name, (), {"__module__": f"omegaconf.{module}"})
        fake = types.ModuleType(f"omegaconf.{module}")
        setattr(fake, name, made[name])
        monkeypatch.setitem(sys.modules, f"omegaconf.{module}", fake)
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    return made


def wrap(names: dict[str, type], value: Any, parent: Any = None) -> Any:
    """A config value in nodes with a parent, as in omegaconf."""
    kind = {dict: "DictConfig", list: "ListConfig"}.get(type(value), "AnyNode")
    node = names[kind]()
    node._parent = parent
    if isinstance(value, dict):
        node._content = {key: wrap(names, item, node) for key, item in value.items()}
    elif isinstance(value, list):
        node._content = [wrap(names, item, node) for item in value]
    else:
        node._val = value
    return node


def test_config_objects_are_converted_to_plain_values(tmp_path: Path, omegaconf_names: dict[str, type]):
    values = {"a": 1, "b": None, "c": [1.5, {"d": "text"}], "e": {"f": True}}
    path = archive(tmp_path / "a.ckpt", pickle.dumps({"cfg": wrap(omegaconf_names, values)}, protocol=2))
    assert plain(LightningArchive(path).contents["cfg"], "cfg") == values


@pytest.mark.parametrize("value", ["${other.key}", "???"])
def test_an_error_names_a_config_value_that_only_the_training_run_could_resolve(tmp_path, omegaconf_names, value):
    config = wrap(omegaconf_names, {"a": {"b": value}})
    path = archive(tmp_path / "a.ckpt", pickle.dumps({"cfg": config}, protocol=2))
    with pytest.raises(CheckpointError, match=r"cfg\.a\.b is '.*', which only the training config could resolve"):
        plain(LightningArchive(path).contents["cfg"], "cfg")
