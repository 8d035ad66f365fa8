from __future__ import annotations

from typing import Any

import pytest

from trackd.commands.track import one_checkpoint_each
from trackd.config import Config, check_config
from trackd_client.configuration import ConfigError


def config_of(ckpt_path: Any) -> Config:
    return check_config({"ckpt_path": ckpt_path, "out_dir": "out"})


def runs(ckpt_path: Any, **environment: str) -> list[tuple[Any, str]]:
    return [(run.ckpt_path, run.out_dir) for run in one_checkpoint_each(config_of(ckpt_path), environment)]


@pytest.mark.parametrize("ckpt_path", [None, "models/mice.ckpt"])
def test_one_checkpoint_or_none_is_one_run_into_out_dir(ckpt_path: str | None):
    assert runs(ckpt_path) == runs(ckpt_path, POD_INDEX="3") == [(ckpt_path, "out")]


def test_each_checkpoint_of_a_list_is_a_run_into_a_folder_of_its_own():
    assert runs(["a/mice.ckpt", "flies.ckpt"]) == [("a/mice.ckpt", "out/mice"), ("flies.ckpt", "out/flies")]
    assert runs(["a/mice.ckpt"]) == [("a/mice.ckpt", "out/mice")]


@pytest.mark.parametrize("name", ["POD_INDEX", "JOB_COMPLETION_INDEX"])
def test_a_pod_tracks_with_its_own_element_of_the_list(name: str):
    assert runs(["mice.ckpt", "flies.ckpt"], **{name: "1"}) == [("flies.ckpt", "out/flies")]


def test_pod_index_overrides_the_variable_of_kubernetes():
    assert runs(["mice.ckpt", "flies.ckpt"], POD_INDEX="0", JOB_COMPLETION_INDEX="1") == [("mice.ckpt", "out/mice")]


@pytest.mark.parametrize("index", ["2", "-1", "one", "1.0"])
def test_an_index_outside_the_list_is_an_error_that_names_the_range(index: str):
    with pytest.raises(ConfigError) as caught:
        runs(["mice.ckpt", "flies.ckpt"], POD_INDEX=index)
    assert str(caught.value) == f"POD_INDEX must be from 0 to 1, an element of ckpt_path; got {index!r}"


def test_checkpoints_that_would_share_a_folder_and_an_empty_list_are_errors():
    with pytest.raises(ConfigError, match="several checkpoints are named 'best'"):
        runs(["a/best.ckpt", "b/best.ckpt"])
    with pytest.raises(ConfigError, match="at least one checkpoint, or be null"):
        runs([])
