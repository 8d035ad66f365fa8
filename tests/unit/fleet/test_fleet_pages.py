"""What the pages of the viewer are told of a fleet."""

from __future__ import annotations

from trackd.fleet.store import Member, Owner
from trackd.server.fleet_pages import MOST_ROWS, fleet_rows


def member(name: str, http: str | None) -> Member:
    endpoints = {"control": "tcp://h:1", **({} if http is None else {"http": http})}
    return Member(name, f"process of {name}", endpoints, 8)


def owner(name: str) -> Owner:
    return Owner(name, f"process of {name}", 3)


MEMBERS = {
    "here": member("here", "http://here:9570"),
    "other": member("other", "https://other:9570"),
    "bare": member("bare", None),
    "odd": member("odd", "javascript:alert(1)"),
}


def test_streams_of_others_have_their_address_and_own_ones_are_left_out():
    owners = {
        "a": owner("other"), "b": owner("here"), "c": owner("bare"), "d": owner("odd"), "e": owner("gone"),
        "f": Owner("other", "an earlier process", 2),
    }  # fmt: skip
    found = fleet_rows("here", MEMBERS, owners)
    assert found["member"] == "here"
    assert found["members"] == [
        {"member": "bare", "streams": 1}, {"member": "here", "streams": 1}, {"member": "odd", "streams": 1},
        {"member": "other", "streams": 1},
    ]  # fmt: skip
    assert [(row["stream"], row["member"], row["url"]) for row in found["streams"]] == [
        ("a", "other", "https://other:9570"), ("c", "bare", None), ("d", "odd", None), ("e", None, None),
        ("f", None, None),
    ]  # fmt: skip
    assert found["more"] == 0


def test_the_rows_are_bounded():
    owners = {f"cam{number:05d}": owner("other") for number in range(MOST_ROWS + 7)}
    found = fleet_rows("here", MEMBERS, owners)
    assert (len(found["streams"]), found["more"]) == (MOST_ROWS, 7)
    assert next(row["streams"] for row in found["members"] if row["member"] == "other") == MOST_ROWS + 7
