"""Zones and lines: what is valid, the one line about what is not, and the command line that shows and sets them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from trackd_client import StreamZones, TrackdError
from trackd_client.apps.zones import read_zones_file, run_zones
from trackd_client.configuration import ConfigError
from trackd_client.replies import read_zones, zones_params
from trackd_client.zones import MOST_PLACES, MOST_POINTS, Places, TooManyError, ZonesError, read_places

TRIANGLE = [[0, 0], [10, 0], [10, 10]]


def test_zones_and_lines_become_points_and_plain_values_again():
    tree = {"zones": {"feeder": TRIANGLE}, "lines": {"door": [[0, 5.5], [10, 5]]}}
    places = read_places(tree)
    assert places.zones == {"feeder": ((0.0, 0.0), (10.0, 0.0), (10.0, 10.0))}
    assert places.lines == {"door": ((0.0, 5.5), (10.0, 5.0))}
    assert places.as_map() == tree
    assert not read_places({"zones": None})


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"zones": 5}, "zones should be a section of named entries; got 5"),
        ({"zones": {"": TRIANGLE}}, "zones should have names of 1 to 64 characters; got ''"),
        ({"zones": {"x" * 65: TRIANGLE}}, "zones should have names of 1 to 64 characters; got 'xxx"),
        ({"zones": {3: TRIANGLE}}, "zones should have names of 1 to 64 characters; got 3"),
        ({"zones": {" a": TRIANGLE}}, "zones should have printable names without spaces at their ends; got ' a'"),
        ({"lines": {"a\nb": [[0, 0], [1, 1]]}}, "lines should have printable names without spaces at their ends"),
        ({"zones": {"a": [[0, 0], [1, 1]]}}, "zones.a should be a list of 3 to 256 points, such as [["),
        ({"zones": {"a": [[0, 0]] * 257}}, "zones.a should be a list of 3 to 256 points"),
        ({"zones": {"a": "stream"}}, "zones.a should be a list of 3 to 256 points"),
        ({"zones": {"a": [[0, 0], [1, 1], [float("nan"), 2]]}}, "zones.a should be a list of"),
        ({"zones": {"a": [[0, 0], [1, 1], [1e8, 2]]}}, "zones.a should be a list of"),
        ({"zones": {"a": [[0, 0], [1, 1], [True, 2]]}}, "zones.a should be a list of"),
        ({"zones": {"a": [[0, 0], [1, 1], [2, 2]]}}, "zones.a should enclose an area"),
        ({"lines": {"a": TRIANGLE}}, "lines.a should be a list of 2 points, such as [[10, 10], [90, 10]]; got"),
        ({"lines": {"a": [[1, 1], [1, 1]]}}, "lines.a should have two different ends"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_named_in_one_line(tree, text):
    with pytest.raises(ZonesError, match=re.escape(text)) as caught:
        read_places(tree)
    assert "\n" not in str(caught.value)


def test_a_stream_has_a_bounded_number_of_places_and_points():
    line = [[0, 0], [1, 1]]
    assert len(read_places({"lines": {str(i): line for i in range(MOST_PLACES)}}).lines) == MOST_PLACES
    with pytest.raises(TooManyError, match="at most 64 zones and lines; got 65"):
        read_places({"zones": {"z": TRIANGLE}, "lines": {str(i): line for i in range(MOST_PLACES)}})
    corners = [[i, i * i] for i in range(MOST_POINTS // 2)]
    assert read_places({"zones": {"a": corners, "b": corners}})
    with pytest.raises(TooManyError, match="at most 512 points together; got 515"):
        read_places({"zones": {"a": corners, "b": corners, "c": TRIANGLE}})


def test_any_sequences_of_points_become_the_params_of_a_request():
    params = zones_params({"a": ((0, 0), (1, 0), (1, 1))}, {}, "ada", 3)
    assert params == {"zones": {"a": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]}, "lines": {}, "author": "ada", "number": 3}


def test_a_reply_that_is_not_valid_is_refused():
    with pytest.raises(TrackdError, match="the zones of stream 'cam' cannot be read"):
        read_zones("cam", {"number": 1, "zones": {"a": []}, "epoch": 1})


class StandIn:
    """A client that has zones, and keeps what it was asked to set."""

    def __init__(self, places: Places) -> None:
        self.places, self.asked = places, None

    def zones(self, stream: str) -> StreamZones:
        return StreamZones(stream, 1, 1, self.places)

    def set_zones(self, stream: str, zones: Any, lines: Any, *, author: str | None) -> StreamZones:
        self.asked = stream, author
        return StreamZones(stream, 1, 2, Places(zones, lines))


def test_what_the_command_prints_as_json_is_what_it_sets_from_a_file(tmp_path):
    places = read_places({"zones": {"feeder": TRIANGLE}, "lines": {"Tür": [[0, 5.5], [10, 5]]}})
    client = StandIn(places)
    assert run_zones(client, "cam", None, None, as_json=False) == "zone feeder: 0,0 10,0 10,10\nline Tür: 0,5.5 10,5"
    text = run_zones(client, "cam", None, None, as_json=True)
    assert json.loads(text) == places.as_map()
    file = tmp_path / "zones.json"
    file.write_text(text)
    assert read_zones_file(file) == places
    run_zones(client, "cam", read_zones_file(file), "bob", as_json=False)
    assert client.asked == ("cam", "bob")
    assert run_zones(StandIn(Places()), "cam", None, None, as_json=False) == "cam has no zones and no lines"


def test_a_fault_of_a_zones_file_names_the_file(tmp_path):
    file = tmp_path / "zones.yaml"
    file.write_text("zone: {}")
    with pytest.raises(ConfigError, match=r"zones.yaml: zone: unknown section; did you mean 'zones'"):
        read_zones_file(file)
    file.write_text("zones: {a: [[0, 0]]}")
    with pytest.raises(ConfigError, match=r"zones.yaml: zones.a should be a list of 3 to 256 points"):
        read_zones_file(file)
