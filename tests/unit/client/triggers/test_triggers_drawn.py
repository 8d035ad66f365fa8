"""Rules on zones and lines that the stream has: followed when they are drawn again, and checked at the start."""

from __future__ import annotations

import re

import numpy as np
import pytest

from trackd_client import StreamZones
from trackd_client.apps.drawn_zones import check_drawn
from trackd_client.configuration import ConfigError
from trackd_client.protocol import Event, EventName, Status, Tracks
from trackd_client.triggers.engine import Engine
from trackd_client.triggers.settings import Rules, read_rules
from trackd_client.zones import Places, read_places


def square(left: float) -> list[list[float]]:
    return [[left, 0], [left + 100, 0], [left + 100, 100], [left, 100]]


def rules(**named: dict) -> Rules:
    tree = {"zones": {"pot": "stream"}, "lines": {"door": "stream"}}
    return read_rules({**tree, "rules": {name: {"do": ["a"], **rule} for name, rule in named.items()}}, ["a"])


def engine(**named: dict) -> Engine:
    return Engine(rules(**named))


def places(left: float | None = None, door: float | None = None) -> Places:
    return read_places(
        {
            "zones": {} if left is None else {"pot": square(left)},
            "lines": {} if door is None else {"door": [[door, 0], [door, 100]]},
        }
    )


def seen(made: Engine, index: int, *xs: float, epoch: int = 1) -> list[tuple[str, int | None]]:
    """What fires in a frame with tracks at these places, as (rule, track)."""
    centres = np.array([[x, 50] for x in xs], float).reshape(-1, 2)
    tracks = Tracks(
        "cam", epoch, index, index, index * 100_000_000, Status.TRACKED,
        track_ids=np.arange(len(xs), dtype="<i4"), track_scores=np.full(len(xs), 0.9, "<f4"),
        boxes=np.concatenate([centres - 5, centres + 5], axis=1).astype("<f4"),
    )  # fmt: skip
    return [(firing.rule, firing.track) for firing in made.tracks(tracks)]


def zones_event(number: int, drawn: Places, epoch: int = 1) -> Event:
    return Event("cam", EventName.ZONES, epoch, 0, {"number": number, "author": "ada", **drawn.as_map()})


def test_a_rule_waits_for_its_zone_and_follows_it_when_it_is_drawn_again():
    made = engine(enter={"when": "zone_enter", "zone": "pot"}, leave={"when": "zone_leave", "zone": "pot"})
    assert made.missing("cam") == ["zone 'pot'"]
    assert seen(made, 0, 50) == []
    made.event(zones_event(1, places(0)))
    assert made.missing("cam") == []
    assert seen(made, 1, 50) == [("enter", 0)]
    made.event(zones_event(2, places(0, door=5)))  # another place is drawn: the state stays
    assert seen(made, 2, 50) == []
    made.event(zones_event(3, places(200)))
    assert seen(made, 3, 50, 250) == [("enter", 1), ("leave", 0)]


def test_a_deleted_zone_forgets_who_was_inside_and_fires_nothing():
    made = engine(leave={"when": "zone_leave", "zone": "pot"}, full={"when": "count_above", "count": 0, "zone": "pot"})
    made.event(zones_event(1, places(0)))
    assert seen(made, 0, 50) == [("full", None)]
    made.event(zones_event(2, places()))
    assert seen(made, 1, 50) == []
    made.event(zones_event(3, places(0)))
    assert seen(made, 2, 50) == [("full", None)]
    assert seen(made, 3, 500) == [("leave", 0)]


def test_a_line_that_is_drawn_again_is_another_line():
    made = engine(cross={"when": "line_crossed", "line": "door"})
    made.event(zones_event(1, places(door=100)))
    assert seen(made, 0, 50) == []
    assert seen(made, 1, 150) == [("cross", 0)]
    made.event(zones_event(2, places(door=200)))
    assert seen(made, 2, 150) == []
    made.event(zones_event(3, places(door=100)))  # passed over by the line, not by the track
    assert seen(made, 3, 150) == []
    assert seen(made, 4, 50) == [("cross", 0)]


def test_an_older_change_that_arrives_late_is_not_taken_and_a_reset_keeps_the_zones():
    made = engine(enter={"when": "zone_enter", "zone": "pot"})
    made.event(zones_event(2, places(0)))
    made.draw("cam", 1, 1, places(500))
    assert seen(made, 0, 50) == [("enter", 0)]
    made.draw("cam", 2, 2, places(0))
    assert seen(made, 1, 50, epoch=2) == [("enter", 0)]
    made.event(Event("cam", EventName.OPENED, 3, -1))  # another stream of this name: it has none
    assert made.missing("cam") == ["zone 'pot'"]


def test_a_zone_of_one_stream_is_none_of_another():
    made = engine(enter={"when": "zone_enter", "zone": "pot"}, other={"when": "dwell", "zone": "pot", "for_s": 1,
                  "streams": ["left"]})  # fmt: skip
    made.draw("right", 1, 1, places(0))
    assert seen(made, 0, 50) == []
    assert (made.missing("cam"), made.missing("right"), made.missing("left")) == (["zone 'pot'"], [], ["zone 'pot'"])


ENTER = {"when": "zone_enter", "zone": "pot"}


@pytest.mark.parametrize(
    ("rule", "drawn", "text"),
    [
        ({**ENTER, "streams": ["a"]}, {"a": {}}, "rules.r.zone should name a zone that stream 'a' has; it has no"),
        ({**ENTER, "streams": ["a"]}, {"a": {"zones": {"pots": square(0)}}}, "'a' has; did you mean 'pots'?; got"),
        ({**ENTER, "streams": ["a", "b"]}, {"a": {"zones": {"pot": square(0)}}, "b": {}}, "stream 'b' has"),
        (ENTER, {"a": {}}, "zone that stream 'a' has; it has no zones; got 'pot'; draw it in"),
        (ENTER, {"a": {}, "b": {}}, "rules.r.zone should name a zone that an open stream has; none has it; got 'pot'"),
        ({"when": "line_crossed", "line": "door"}, {"a": {"zones": {"door": square(0)}}}, "has no lines; got 'door'"),
    ],
)  # fmt: skip
def test_a_place_that_no_stream_has_is_one_line_at_the_start(rule, drawn, text):
    found = [StreamZones(name, 1, 1, read_places(tree)) for name, tree in drawn.items()]
    with pytest.raises(ConfigError, match=re.escape(text)) as caught:
        check_drawn(rules(r=rule), found)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "drawn"),
    [
        (ENTER, {"a": {"zones": {"pot": square(0)}}, "b": {}}),
        (ENTER, {}),  # a stream that is opened later may have it
        ({**ENTER, "streams": ["b"]}, {"a": {}}),
        ({"when": "new"}, {"a": {}}),
    ],
)
def test_a_rule_that_one_of_its_streams_can_meet_is_taken(rule, drawn):
    check_drawn(rules(r=rule), [StreamZones(name, 1, 1, read_places(tree)) for name, tree in drawn.items()])


def test_points_or_the_word_stream_are_what_a_place_is():
    with pytest.raises(ConfigError, match=r"zones\.pot should be a list of points, or stream; got 'camera'"):
        read_rules({"zones": {"pot": "camera"}, "rules": {"r": {"when": "new", "do": ["a"]}}}, ["a"])
