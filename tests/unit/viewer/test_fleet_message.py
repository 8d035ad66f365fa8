"""The rows of the other members of a fleet: whose they are, what becomes a link, and how many there are."""

from __future__ import annotations

import msgpack
import pytest

from trackd.fleet.store import Member, Owner
from trackd.viewer.fleet import MOST_MEMBERS, MOST_ROWS, FleetView, OtherStream, page_of, view_of
from trackd.viewer.messages import streams_message


def member(name: str, http: str | None = "http://10.0.0.1:9570", instance: str = "1") -> Member:
    return Member(name, instance, {"control": "tcp://10.0.0.1:5572"} | ({} if http is None else {"http": http}), 64)


A, B, C = member("a"), member("b", "http://10.0.0.2:9570"), member("c", None)
LIVING = {each.name: each for each in (A, B, C)}


def test_there_is_one_row_for_each_stream_of_another_member_and_for_each_without_an_owner():
    owners = {
        "zoo": Owner("b", "1", 1), "mine": Owner("a", "1", 2), "cam": Owner("c", "1", 3),
        "left": Owner("d", "1", 1), "restarted": Owner("b", "0", 4), "before": Owner("a", "0", 1),
    }  # fmt: skip
    view = view_of(A, owners, LIVING)
    assert view.streams == (
        OtherStream("before", None), OtherStream("cam", "c"), OtherStream("left", None), OtherStream("restarted", None),
        OtherStream("zoo", "b"),
    )  # fmt: skip
    assert view.members == {"a": 1, "b": 1, "c": 1}
    assert view.unowned == 3
    assert view.pages == {"b": "http://10.0.0.2:9570/", "c": None}
    assert (view.member, view.more_streams, view.more_members, view.away) == ("a", 0, 0, False)


def test_a_member_whose_own_key_has_lapsed_still_has_its_streams():
    view = view_of(A, {"mine": Owner("a", "1", 1)}, {"b": B})
    assert (view.streams, view.members, view.unowned) == ((), {"a": 1, "b": 0}, 0)


def test_names_that_no_stream_can_have_are_left_out():
    owners = dict.fromkeys(["", "a b", "<b>", "x" * 129, "x" * 128], Owner("b", "1", 1))
    view = view_of(A, owners, LIVING)
    assert [row.stream for row in view.streams] == ["x" * 128]
    assert view.members == {"a": 0, "b": 1, "c": 0}


def test_at_most_1000_rows_and_256_members_are_sent_and_the_rest_is_counted():
    members = {f"m{i:03}": member(f"m{i:03}") for i in range(300)}
    me = members["m299"]
    owners = {f"s{i:05}": Owner(f"m{i % 300:03}", "1", 1) for i in range(10_000)}
    view = view_of(me, owners, members)
    mine = sum(owner.member == "m299" for owner in owners.values())
    assert len(view.streams) == MOST_ROWS
    assert view.more_streams == 10_000 - mine - MOST_ROWS
    assert view.streams[0].stream == "s00000"
    assert (len(view.members), view.more_members) == (MOST_MEMBERS, 300 - MOST_MEMBERS)
    assert view.members["m299"] == mine
    message = streams_message([], {}, view.message(set()))
    assert len(message) < 60_000


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("http://10.0.0.2:9570", "http://10.0.0.2:9570/"),
        ("https://viewer.example.org/", "https://viewer.example.org/"),
        ("HTTP://host:1", "HTTP://host:1/"),
        ("http://[fe80::1]:9570", "http://[fe80::1]:9570/"),
        ("javascript:alert(1)", None),
        ("javascript://host:1/%0aalert(1)", None),
        ("data:text/html,x", None),
        (" http://host:1", None),
        ("http://host:1\n", None),
        ("http://user@host:1", None),
        ("http://host:1/#stream=other", None),
        ('http://host"onclick=', None),
        ("//host:1", None),
        ("http://", None),
        ("http://0.0.0.0:9570", None),
        ("http://[::]:9570", None),
        ("", None),
    ],
)
def test_only_an_http_address_that_a_browser_can_open_is_a_page(address, page):
    assert page_of(member("b", address)) == page


def test_a_stream_that_is_open_here_has_no_second_row():
    view = view_of(A, {"cam": Owner("b", "1", 1), "zoo": Owner("b", "1", 1)}, LIVING)
    assert view.message({"cam"})["streams"] == [["zoo", "b"]]


def test_the_message_has_the_fleet_only_in_a_fleet():
    assert msgpack.unpackb(streams_message([], {})) == {"type": "streams", "streams": [], "stats": {}}
    view = view_of(A, {"cam": Owner("b", "1", 1), "left": Owner("d", "1", 1)}, LIVING).as_away()
    assert msgpack.unpackb(streams_message([], {}, view.message(set())))["fleet"] == {
        "member": "a", "away": True, "members": [["a", 0], ["b", 1], ["c", 0]], "more_members": 0,
        "streams": [["cam", "b"], ["left", None]], "more_streams": 0, "unowned": 1,
        "pages": {"b": "http://10.0.0.2:9570/"},
    }  # fmt: skip
    assert FleetView("a", {}).message(set())["members"] == []
