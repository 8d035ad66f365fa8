"""The members that a client asks, and the places that it accepts."""

from __future__ import annotations

import pytest

from trackd_client.fleet.directory import MOST_MEMBERS, Directory
from trackd_client.fleet.place import Place, read_place, stated_place
from trackd_client.protocol import ProtocolError

A, B, C = "tcp://a:3", "tcp://b:3", "tcp://c:3"


def place(member: str = "a", term: int = 1) -> Place:
    return Place(member, f"tcp://{member}:1", f"tcp://{member}:2", f"tcp://{member}:3", term)


def result(member: str = "a", term: int = 1, fleet: object = ()) -> dict[str, object]:
    endpoints = {name: f"tcp://{member}:{port}" for port, name in enumerate(("ingest", "tracks", "control"), 1)}
    return {"member": member, "endpoints": endpoints, "term": term, "owned": term > 0, "fleet": fleet}


def test_a_place_is_read_from_a_result():
    assert read_place(result("b", 7)) == place("b", 7)
    assert read_place({"member": None, "endpoints": None, "term": None}) is None
    assert not place(term=0).owned


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("member", 5, "member must be a string"),
        ("term", -1, "term must be from 0"),
        ("endpoints", {"ingest": "tcp://a:1", "tracks": "tcp://a:2"}, "control must be a string; got nothing"),
        ("endpoints", [], "endpoints must be a map"),
    ],
)
def test_a_place_that_is_not_valid_is_refused(key, value, text):
    with pytest.raises(ProtocolError, match=text):
        read_place({**result(), key: value})
    assert stated_place({**result(), key: value}) is None


def test_a_lower_term_is_not_accepted_and_a_term_of_0_is():
    directory = Directory([A])
    assert directory.accept("cam", place("a", 5))
    assert not directory.accept("cam", place("b", 4))
    assert directory.place("cam") == place("a", 5)
    assert directory.accept("cam", place("b", 0))  # nobody owns it: a placement
    assert not directory.accept("cam", place("a", 4))
    assert directory.accept("cam", place("a", 5))
    assert directory.accept("other", place("b", 1))


def test_a_stale_answer_is_in_the_error():
    directory = Directory([A])
    directory.accept("cam", place("b", 5))
    assert directory.located("cam", A, result("a", 3)) is None
    assert "term 3, but the stream has had term 5" in directory.failure("cam", "opened it", 2)


def test_members_are_learnt_and_those_that_fail_are_asked_last():
    directory = Directory([A])
    directory.located("cam", A, result(fleet=[A, B, C, 5, "", "x" * 300]))
    assert directory.members == [A, B, C]
    directory.answered("cam", A, "it did not answer")
    assert directory.members == [B, C, A]
    directory.located("cam", B, result("b", 2, fleet=[B]))
    assert directory.members == [B, A]  # c is gone; a was given
    text = directory.failure("cam", "opened stream 'cam'", 2.5)
    assert text.startswith("no member of the fleet opened stream 'cam' within 2.5 s: tcp://b:3: at member 'b'")
    assert text.endswith("tcp://a:3: it did not answer")


def test_the_number_of_members_is_limited():
    directory = Directory([A])
    directory.located("cam", A, result(fleet=[f"tcp://x:{n}" for n in range(1000)]))
    assert len(directory.members) == MOST_MEMBERS
    assert "; and 248 more" in directory.failure("cam", "opened it", 1)


@pytest.mark.parametrize("answer", [None, [], {}, {"member": "a"}, {**result(), "term": "7"}])
def test_an_answer_that_is_not_valid_is_noted(answer):
    directory = Directory([A])
    assert directory.located("cam", A, answer) is None
    assert directory.place("cam") is None
    assert "not asked" not in directory.failure("cam", "opened it", 1)


def test_only_the_same_place_is_forgotten():
    directory = Directory([A])
    directory.accept("cam", place("b", 2))
    directory.forget("cam", place("a", 1))
    assert directory.place("cam") == place("b", 2)
    directory.forget("cam", place("b", 2))
    assert directory.place("cam") is None
