from __future__ import annotations

import json
from pathlib import Path

import pytest

from trackd.store.remembered_models import RememberedModel, RememberedModels

MODELS = [RememberedModel(name, f"/models/{name}.ckpt", name * 64) for name in "abc"]


def test_models_are_remembered_in_their_order(tmp_path: Path):
    remembered = RememberedModels(tmp_path)
    assert remembered.all() == []
    for model in MODELS:
        remembered.add(model)
    assert RememberedModels(tmp_path).all() == MODELS


def test_a_model_of_the_same_name_is_replaced_in_its_place(tmp_path: Path):
    remembered = RememberedModels(tmp_path)
    for model in MODELS:
        remembered.add(model)
    other = RememberedModel("b", "/elsewhere.ckpt", "f" * 64)
    remembered.add(other)
    assert RememberedModels(tmp_path).all() == [MODELS[0], other, MODELS[2]]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", "null", '{"version": 2, "models": []}', '{"version": 1}',
     '{"version": 1, "models": [{"name": "a"}]}',
     '{"version": 1, "models": [{"name": "a", "path": 1, "digest": "b"}]}', "[" * 100_000],
)  # fmt: skip
def test_a_damaged_file_is_an_empty_list_and_one_warning(tmp_path: Path, caplog, text: str):
    (tmp_path / "models.json").write_text(text)
    remembered = RememberedModels(tmp_path)
    assert remembered.all() == []
    assert [record.message.count("\n") for record in caplog.records] == [0]
    assert str(tmp_path / "models.json") in caplog.text
    remembered.add(MODELS[0])
    assert RememberedModels(tmp_path).all() == [MODELS[0]]


def test_a_write_that_fails_leaves_the_list_and_the_file_as_they_were(tmp_path: Path, monkeypatch):
    remembered = RememberedModels(tmp_path)
    remembered.add(MODELS[0])

    def replace(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(OSError, match="No space left"):
        remembered.add(MODELS[1])
    assert remembered.all() == [MODELS[0]]
    assert [row["name"] for row in json.loads((tmp_path / "models.json").read_text())["models"]] == ["a"]


def test_a_folder_that_was_removed_is_made_again(tmp_path: Path):
    remembered = RememberedModels(tmp_path / "state")
    remembered.add(MODELS[0])
    assert RememberedModels(tmp_path / "state").all() == [MODELS[0]]
