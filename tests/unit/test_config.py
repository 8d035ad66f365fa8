"""The configuration: its defaults, its overrides, and one clear line for each fault."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import yaml

from trackd.config import Config, StreamSettings, check_config, load_config
from trackd_client.configuration import ConfigError

ROOT = Path(__file__).parents[2]


def test_the_commented_file_holds_every_key_with_its_default():
    tree = yaml.safe_load((ROOT / "configs/daemon.yaml").read_text())
    assert check_config(tree) == Config()
    defaults = Config().model_dump()
    for section in ("tracker", "stream", "limits", "security", "model"):
        assert set(tree[section]) == set(defaults[section]), section
    assert set(tree["daemon"]) == set(defaults["daemon"])
    assert set(tree["daemon"]["endpoints"]) == set(defaults["daemon"]["endpoints"])
    live = set(StreamSettings.of(Config()).dataset.model_dump())
    assert set(tree["dataset"]["test_dataset"]) == live


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_in_configs_is_valid(path):
    load_config(path, environment={})


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"trakker": {}}, "trakker: unknown key; did you mean 'tracker'?"),
        ({"tracker": {"windowsize": 3}}, "tracker.windowsize: unknown key; did you mean 'window_size'"),
        ({"tracker": {"window_size": "8"}}, "tracker.window_size should be a valid integer; got '8'"),
        ({"tracker": {"mult_thresh": 1}}, "tracker.mult_thresh should be a valid boolean; got 1"),
        ({"tracker": {"max_tracks": 0}}, "tracker.max_tracks should be greater than or equal to 1; got 0"),
        ({"tracker": {"iou": "giou"}}, "tracker.iou should be 'mult' or 'max'; got 'giou'"),
        ({"daemon": {"device": "gpu"}}, "daemon.device string should match pattern"),
        (
            {"daemon": {"endpoints": {"ingest": "x"}}},
            "daemon.endpoints.ingest must begin with tcp:// or ipc://; got 'x'",
        ),
        ({"tracker": 3}, "tracker should be a valid dictionary"),
        ({"out_dir": "a", "outdir": "b"}, "out_dir and outdir are the same key"),
    ],
)
def test_a_fault_is_one_line_with_its_key_what_would_be_right_and_the_value(tree, text):
    with pytest.raises(ConfigError) as caught:
        check_config(tree)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("tracker: {window_size: 2, max_gap: 3, max_tracks: 4}\n")
    environment = {"TRACKD__TRACKER__MAX_GAP": "30", "TRACKD__TRACKER__MAX_TRACKS": "40", "HOME": "/"}
    tracker = load_config(path, ["tracker.max_tracks=400"], environment).tracker
    assert (tracker.window_size, tracker.max_gap, tracker.max_tracks) == (2, 30, 400)


def test_a_number_may_have_an_exponent_without_a_point(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("tracker: {overlap_thresh: 1e-3}\n")
    assert load_config(path, environment={}).tracker.overlap_thresh == 0.001
    assert load_config(None, ["tracker.temperature=2E-1"], {}).tracker.temperature == 0.2


def test_infinity_and_empty_texts_of_dreem_are_null():
    tracker = check_config({"tracker": {"max_gap": float("inf"), "max_tracks": float("inf"), "iou": ""}}).tracker
    assert (tracker.max_gap, tracker.max_tracks, tracker.iou) == (None, None, None)
    assert check_config({"tracker": {"iou": "Mult"}}).tracker.iou == "mult"


def test_training_only_sections_are_listed_once_as_ignored(caplog):
    with caplog.at_level(logging.WARNING):
        check_config({"trainer": {}, "loss": {"a": 1}, "model": {"d_model": 128, "temporal_input": "fraction"}})
    assert len(caplog.records) == 1
    assert "loss, model.d_model, trainer" in caplog.text


def test_pixels_under_the_2024_semantics_get_a_warning_that_names_both_semantics(caplog):
    with caplog.at_level(logging.WARNING):
        check_config({"tracker": {"max_center_dist": 60}})
    assert '"2024"' in caplog.text
    assert '"2026"' in caplog.text


@pytest.mark.shared
def test_the_configuration_files_that_users_bring_are_accepted(shared):
    for name in ("inference_2024", "inference_2026", "microscopy"):
        load_config(shared / "dreem_yaml" / f"{name}.yaml", environment={})


def test_an_open_may_change_keys_of_the_three_sections_at_the_top_level_or_below_their_names():
    settings = StreamSettings.of(Config())
    changed = settings.changed({"window_size": 3, "queue_depth": 5, "dataset": {"crop_size": [64, 32]}})
    assert (changed.tracker.window_size, changed.stream.queue_depth, changed.dataset.crop_size) == (3, 5, [64, 32])
    assert settings.tracker.window_size == 8
    with pytest.raises(ConfigError, match=r"queue_deph: unknown key; did you mean 'queue_depth'"):
        settings.changed({"queue_deph": 5})
    with pytest.raises(ConfigError, match=r"tracker\.window_size .*-1"):
        settings.changed({"window_size": -1})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"outputs": [{}] * 60_000}, "outputs has at most 256 items; got 60000: [{}, {}"),
        ({"tracker": {"front_nodes": ["a"] * 257}}, "tracker.front_nodes has at most 256 items; got 257"),
        ({"iou": "m" * 60_000}, "iou has at most 256 characters; got 60000: 'mmm"),
        ({"anchors": ["a" * 257]}, "anchors must hold texts of at most 256 characters; got 'aaa"),
        ({"outputs": [[1] * 1000]}, "outputs must hold texts of at most 256 characters; got [1, 1"),
        ({"tracker": {"windowsize": 1}}, "tracker.windowsize: unknown key; did you mean 'window_size'"),
        ({"tracker": {"window_siz" * 6000: 1}}, "tracker.window_sizwindow_siz"),
    ],
)
def test_the_lengths_of_a_clients_values_are_bounded_and_the_error_shows_only_their_beginning(changes, words):
    with pytest.raises(ConfigError) as error:
        StreamSettings.of(Config()).changed(changes)
    assert words in str(error.value)
    assert len(str(error.value)) < 700
