from __future__ import annotations

from pathlib import Path

import pytest
from checkpoint_files import TWO_ANCHORS, write_checkpoint

from trackd.cli import main
from trackd.models.checkpoint.load import load_checkpoint


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`trackd checkpoint …` in this process; its exit code."""
    monkeypatch.setattr("sys.argv", ["trackd", "checkpoint", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_inspect_shows_what_a_configuration_needs(tmp_path: Path, monkeypatch, capsys):
    path = write_checkpoint(tmp_path / "flies.ckpt", TWO_ANCHORS)
    assert run(monkeypatch, "inspect", path) == 0
    out = capsys.readouterr().out
    assert "crops           1 channel, 2 anchors\n" in out
    assert f"file            {path} (lightning, " in out


def test_convert_writes_a_file_that_loads_as_the_checkpoint_does(tmp_path: Path, monkeypatch, capsys):
    path, out = write_checkpoint(tmp_path / "flies.ckpt"), tmp_path / "flies.safetensors"
    assert run(monkeypatch, "convert", path, out) == 0
    assert capsys.readouterr().out == f"wrote {out}\n"
    assert load_checkpoint(out).architecture == load_checkpoint(path).architecture


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_file_that_is_no_checkpoint_is_one_line_and_exit_code_2(tmp_path: Path, monkeypatch, capsys, command: str):
    path = tmp_path / "notes.ckpt"
    path.write_text("not a checkpoint")
    more = [tmp_path / "out.safetensors"] if command == "convert" else []
    assert run(monkeypatch, command, path, *more) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"trackd: {path}: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out.safetensors").exists()
