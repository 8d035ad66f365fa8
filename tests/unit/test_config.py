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


@pytest.mark.parametrize(
    "path",
    sorted(
        path for path in (ROOT / "configs").rglob("*.yaml") if path.stem != "triggers"
    ),  # rules: test_triggers_settings
    ids=lambda path: path.stem,
)
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
        ({"tracker": {"divisions": "yes"}}, "tracker.divisions should be true, false or auto; got 'yes'"),
        ({"tracker": {"divisions": 1}}, "tracker.divisions should be true, false or auto; got 1"),
        ({"tracker": {"min_hits": 0}}, "tracker.min_hits should be greater than or equal to 1; got 0"),
        ({"tracker": {"min_hits": 1025}}, "tracker.min_hits should be less than or equal to 1024; got 1025"),
        ({"tracker": {"min_hits": 2.5}}, "tracker.min_hits should be a valid integer"),
        ({"tracker": {"min_hits": None}}, "tracker.min_hits should be a valid integer; got null"),
        ({"tracker": {"iou": "giou"}}, "tracker.iou should be 'mult' or 'max'; got 'giou'"),
        (
            {"daemon": {"device": "gpu"}},
            "daemon.device should be auto, cpu, mps, cuda, or one of several cards such as cuda:1",
        ),
        (
            {"daemon": {"endpoints": {"ingest": "x"}}},
            "daemon.endpoints.ingest must begin with tcp:// or ipc://; got 'x'",
        ),
        ({"tracker": 3}, "tracker should be a section, such as {window_size: 8}; got 3"),
        ({"tracker": {"front_nodes": 3}}, "tracker.front_nodes should be a list, such as [a, b]; got 3"),
        ({"ckpt_path": 3}, "ckpt_path should be a path, or a list of paths such as [a.ckpt, b.ckpt], or null; got 3"),
        ({"tracker": {"window_size": None}}, "tracker.window_size should be a valid integer; got null"),
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


@pytest.mark.parametrize("key", ["iou", "decay_time", "max_center_dist", "max_gap", "max_tracks"])
def test_none_as_in_dreems_page_is_null(key, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"ckpt_path: None\ntracker: {{{key}: None}}\n")
    assert getattr(load_config(path, environment={}).tracker, key) is None
    assert getattr(load_config(None, [f"tracker.{key}=None"], {}).tracker, key) is None
    with pytest.raises(ConfigError, match="got 'GIoU'"):
        check_config({"tracker": {"iou": "GIoU"}})
    assert check_config({"tracker": {"iou": "None"}}).tracker.iou is None


@pytest.mark.parametrize("override", ["out_dir=b", "outdir=b"])
@pytest.mark.parametrize("name", ["out_dir", "outdir"])
def test_an_override_by_either_name_of_out_dir_replaces_the_files_value(name, override, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(f"{name}: a\n")
    assert load_config(path, [override], {}).out_dir == "b"
    assert load_config(path, [], {"TRACKD__OUTDIR": "b"}).out_dir == "b"


@pytest.mark.parametrize(
    ("text", "where"), [("a: [", "line 1, column 5"), ("a: b: c", "line 1, column 5"), ("tracker:\n\tiou: x", "line 2")]
)
def test_a_text_that_is_not_yaml_is_an_error_with_its_line_and_no_name_of_pythons(text, where, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=where) as caught:
        load_config(path, environment={})
    assert "<" not in str(caught.value).replace("<stream end>", "")


def test_a_max_center_dist_in_pixels_is_warned_about_once_however_many_streams_use_it(caplog):
    with caplog.at_level(logging.WARNING):
        settings = StreamSettings.of(check_config({"tracker": {"max_center_dist": 60}}))
        settings.changed({"dataset": {"pixel_range": "unit"}})
        settings.changed({"tracker": {"max_gap": 3}})
    assert len(caplog.records) == 1
    with caplog.at_level(logging.WARNING):
        StreamSettings.of(Config()).changed({"max_center_dist": 60})
    assert len(caplog.records) == 2


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
