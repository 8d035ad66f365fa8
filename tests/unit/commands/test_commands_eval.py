"""`trackd eval` without the packages that it needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from trackd.commands import eval as eval_command
from trackd.config import Config
from trackd_client.configuration import ConfigError

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_missing_packages_are_named_as_pip_installs_them(monkeypatch, tmp_path):
    monkeypatch.setattr(eval_command.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError) as caught:
        eval_command.evaluate(Config(), tmp_path)
    named = str(caught.value).partition(": pip install ")[2].split()
    assert named == [re.split(r"[^\w.-]", package)[0] for package in PROJECT["optional-dependencies"]["eval"]]
