"""The grant of a key file: what it allows, and what it does not."""

from __future__ import annotations

import pytest

from trackd.server.access.grants import Grant, Right, grant_of, parse_streams
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.transport.curve import KeyFileError

KEY = b"x" * 40


def grant(streams: str, may: str) -> Grant:
    return grant_of({"streams": streams, "may": may}, KEY, "cam")


def test_a_grant_covers_the_names_that_its_patterns_match_as_a_whole():
    some = grant("cam*, arena-?", "publish")
    assert [some.covers(name) for name in ("cam", "cam1", "arena-3", "arena-33", "mycam", "arenax3")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip
    assert grant("a.b", "publish").covers("a.b")
    assert not grant("a.b", "publish").covers("axb")
    assert not grant("", "publish").covers("")


def test_a_right_is_for_its_streams_only_and_no_right_includes_another():
    some = grant("cam*", "publish")
    assert some.may(Right.PUBLISH, "cam1")
    assert not some.may(Right.SUBSCRIBE, "cam1")
    assert not some.may(Right.PUBLISH, "door")
    for right, stream in ((Right.CONTROL, "cam1"), (Right.PUBLISH, "door")):
        with pytest.raises(ProtocolError) as caught:
            some.require(right, stream, 7)
        assert (caught.value.code, caught.value.stream, caught.value.seq) == (ErrorCode.FORBIDDEN, stream, 7)


@pytest.mark.parametrize(
    ("streams", "topic", "allowed"),
    [
        ("*", b"", True),
        ("*", b"tracks/", True),
        ("cam*", b"tracks/cam1/", True),
        ("cam*", b"events/cam1/", True),
        ("cam*", b"tracks/door/", False),
        ("cam*", b"", False),
        ("cam*", b"tracks/", False),
        ("cam*", b"tracks/c", False),
        ("cam*", b"tracks/cam", True),
        ("cam*", b"tracks/cam1", True),
        ("cam1", b"tracks/cam1", False),  # also matches cam10
        ("cam?", b"tracks/cam1", False),
        ("c*m*", b"tracks/cam", False),
        ("cam*", b"tracks/cam1/x", False),
        ("cam*", b"tracks/\xff/", False),
        ("cam*", b"other/cam1/", False),
    ],
)
def test_a_prefix_of_topics_is_allowed_if_all_topics_that_match_it_are(streams, topic, allowed):
    assert grant(streams, "subscribe").may_subscribe(topic) is allowed
    assert not grant(streams, "publish,control").may_subscribe(topic)


def test_a_request_about_the_whole_daemon_needs_control_over_all_streams():
    grant("*", "control").require_everywhere("drain")
    for less in (grant("cam*", "control"), grant("*", "publish, subscribe")):
        with pytest.raises(ProtocolError, match="drain concerns all streams"):
            less.require_everywhere("drain")


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        ({}, "no streams"),
        ({"streams": "*"}, "no may"),
        ({"streams": "*", "may": "publish, write"}, "'write' is not a valid Right"),
        ({"streams": "cam[12]", "may": "publish"}, "got 'cam[12]'"),
        ({"streams": "a/b", "may": "publish"}, "got 'a/b'"),
    ],
)
def test_a_file_without_valid_streams_and_rights_gives_no_grant(metadata, text):
    with pytest.raises(KeyFileError) as caught:
        grant_of(metadata, KEY, "cam")
    assert text in str(caught.value)


def test_a_pattern_with_other_regular_expression_characters_is_refused():
    with pytest.raises(KeyFileError):
        parse_streams(["cam1|.*"])
