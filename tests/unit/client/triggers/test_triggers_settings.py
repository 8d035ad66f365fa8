"""Rules files: what is valid, and the one line about what is not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trackd_client.apps.trigger import check_rules, read_rules_file
from trackd_client.configuration import ConfigError
from trackd_client.triggers.settings import MODELS

ROOT = Path(__file__).parents[4]
ACTIONS = {"a": {"kind": "print"}}
ZONES = {"z": [[0, 0], [9, 0], [9, 9]]}


def test_the_example_file_is_valid_and_has_most_kinds_of_rules():
    file = read_rules_file(ROOT / "configs" / "triggers.yaml")
    assert {"new", "zone_enter", "dwell", "line_crossed", "near", "touching", "speed_above"} <= {
        rule.when for rule in file.rules.rules.values()
    }
    assert file.streams == ()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"when": "speed_above", "speed": -1}, "rules.r.speed should be greater than 0; got -1"),
        ({"when": "speed_above"}, "rules.r.speed: is required"),
        ({"when": "zone_entr"}, "rules.r.when: unknown; did you mean 'zone_enter' or 'zone_leave'?; got 'zone_entr'"),
        ({}, "rules.r.when: is required; known: corrected"),
        ({"when": "zone_enter", "zone": "y"}, "rules.r.zone should name one of the file's zones; known: z; got 'y'"),
        ({"when": "zone_enter", "zone": "z", "hysteresis": 3}, "rules.r.hysteresis: unknown key; did you mean"),
        ({"when": "near", "distance": 5, "leave_distance": 2}, "leave_distance should be at least distance (5); got 2"),
        ({"when": "count_above", "count": 2, "leave_count": 3}, "leave_count should be at most count (2); got 3"),
        ({"when": "count_below", "count": 2, "leave_count": 1}, "leave_count should be at least count (2); got 1"),
        ({"when": "low_confidence", "score": 2}, "rules.r.score should be less than or equal to 1; got 2"),
        ({"when": "dwell", "zone": "z"}, "rules.r.for_s: is required"),
        ({"when": "new", "do": ["b"]}, "rules.r.do should name one of the file's actions; known: a; got 'b'"),
        ({"when": "new", "do": []}, "rules.r.do should not be empty; got []"),
        ({"when": "new", "message": "{trak}"}, "rules.r.message has an unknown field, {trak}: did you mean 'track' or"),
        ({"when": "new", "message": "{track.__class__}"}, "rules.r.message has an unknown field, {track.__class__}"),
        ({"when": "ended", "streams": ["a b"]}, "rules.r.streams should hold names"),
        ({"when": "zone_enter", "zone": "z", "point": "nose"}, "rules.r.point should name one of the file's keypoints"),
        ({"when": "new", "refractory_s": float("nan")}, "rules.r.refractory_s should be"),
    ],
)  # fmt: skip
def test_a_rule_that_is_not_valid_is_named_in_one_line(rule, text):
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        check_rules({"actions": ACTIONS, "zones": ZONES, "rules": {"r": {"do": ["a"], **rule}}}, "file.yaml")
    assert str(caught.value).startswith("file.yaml: rules.r")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"rules": {}}, "rules: is required"),
        ({"rule": {}}, "rule: unknown section; did you mean 'rules'?"),
        ({"rules": {"r": 5}}, "rules.r should be a section"),
        ({"zones": {"z": [[0, 0], [1, 1]]}}, "zones.z should be a list of 3 to 256 points"),
        ({"zones": {"z": [[0, 0], [1, 1], [2, 2]]}}, "zones.z should enclose an area"),
        ({"lines": {"l": [[0, 0], [0, 0]]}}, "lines.l should have two different ends"),
        ({"keypoints": "nose"}, "keypoints should be a list of names"),
        ({"actions": {}}, "actions should be a section"),
        ({"actions": {"a": {}}}, "actions.a.kind: is required; known: command"),
        ({"actions": {"a": {"kind": "osk"}}}, "actions.a.kind: unknown; did you mean 'osc'?"),
        ({"actions": {"a": {"kind": "udp", "to": "x"}}}, "actions.a.to should be a host and a port"),
        ({"actions": {"a": {"kind": "http", "url": "ftp://x"}}}, "actions.a.url should be an address such as"),
        ({"actions": {"a": {"kind": "mqtt", "broker": "b:1", "topic": "#"}}}, "actions.a.topic should be a topic"),
        ({"actions": {"a": {"kind": "mqtt", "broker": "b:1", "topic": "{name}"}}}, "actions.a.topic has an unknown"),
        ({"actions": {"a": {"kind": "command", "args": ["no-such-program"]}}}, "actions.a.args should begin with"),
        ({"actions": {"a": {"kind": "print", "message": "", "json": {}}}}, "message and json exclude each other"),
        ({"actions": {"a": {"kind": "print", "json": ["{t[0]}"]}}}, "actions.a.json has an unknown field, {t[0]}:"),
    ],
)  # fmt: skip
def test_any_other_fault_of_a_file_is_named_in_one_line(tree, text):
    whole = {"actions": ACTIONS, "zones": ZONES, "rules": {"r": {"when": "new", "do": ["a"]}}}
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        check_rules({**whole, **tree}, "file.yaml")
    assert "\n" not in str(caught.value)


def test_the_rules_page_has_a_row_for_every_rule_and_action_and_its_examples_are_valid():
    import yaml

    from trackd_client.actions.settings import MODELS as ACTION_MODELS
    from trackd_client.triggers.firing import FIELDS

    page = (ROOT / "docs" / "triggers.md").read_text(encoding="utf-8")
    rows = {
        word for cell in re.findall(r"^\| ([^|]*) \|", page, re.MULTILINE) for word in re.findall(r"`([^`]*)`", cell)
    }
    keys = {key for model in MODELS.values() for key in model.model_fields}
    action_keys = {
        field.validation_alias or key for m in ACTION_MODELS.values() for key, field in m.model_fields.items()
    }
    assert {*MODELS, *ACTION_MODELS, *FIELDS} - rows == set()
    assert {key for key in keys | action_keys if f"`{key}`" not in page and f"{key}:" not in page} == set()
    examples = re.findall(r"^```text\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    examples = [yaml.safe_load(text) for text in examples if "rules:" in text]
    assert examples
    for tree in examples:
        check_rules(tree)
