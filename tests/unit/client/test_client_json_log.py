"""Log lines as JSON."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from trackd_client.apps.json_log import JsonFormatter


def line_of(message: str, *values: object, **fields: object) -> dict[str, object]:
    record = logging.LogRecord("trackd.server", logging.INFO, __file__, 1, message, values, None, **fields)
    record.created = 1_700_000_000.25
    text = JsonFormatter().format(record)
    assert "\n" not in text
    return json.loads(text)


def test_the_stream_epoch_and_seq_of_a_line_are_keys_of_their_own():
    assert line_of("stream=%s epoch=%d seq=%d: recovered", "cam-1.a", 1_700_000_000_000_000, -1) == {
        "time": "2023-11-14T22:13:20.250000+00:00",
        "level": "INFO",
        "logger": "trackd.server",
        "stream": "cam-1.a",
        "epoch": 1_700_000_000_000_000,
        "seq": -1,
        "message": "recovered",
    }


@pytest.mark.parametrize(
    ("message", "fields", "rest"),
    [
        ("stream=cam: opened: twice", {"stream": "cam"}, "opened: twice"),
        ("stream=cam seq=4: the step failed", {"stream": "cam", "seq": 4}, "the step failed"),
        ("draining: 3 frames are queued", {}, "draining: 3 frames are queued"),
        ("seq=x: odd", {}, "seq=x: odd"),
        ("tracks: stream=cam: odd", {}, "tracks: stream=cam: odd"),
    ],
)
def test_only_fields_at_the_beginning_are_taken_from_the_message(message, fields, rest):
    line = line_of(message)
    assert {name: line[name] for name in ("stream", "epoch", "seq") if name in line} == fields
    assert line["message"] == rest


def test_lines_and_quotes_of_a_message_stay_in_one_line():
    assert line_of('a\nb "c" ø')["message"] == 'a\nb "c" ø'


def test_a_traceback_is_one_text():
    try:
        raise KeyError("absent")
    except KeyError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("KeyError: 'absent'")
