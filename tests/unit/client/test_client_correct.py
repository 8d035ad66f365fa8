"""`trackd-client correct`: from the words of a command line to a request."""

from __future__ import annotations

import getpass
from typing import Any

import pytest

from trackd_client import Corrected
from trackd_client.apps.correct import params_of, run_correct
from trackd_client.configuration import ConfigError


class StandIn:
    """A client that keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: Any = None

    def correct(self, stream: str, action: str, *, author: str | None, **params: Any) -> Corrected:
        self.asked = stream, action, author, params
        return Corrected(4, 1, 120)


@pytest.mark.parametrize(
    ("action", "words", "params"),
    [
        ("rename", ["3", "Ann Lee"], {"track": 3, "name": "Ann Lee"}),
        ("rename", ["3"], {"track": 3, "name": None}),
        ("swap", ["1", "2"], {"tracks": [1, 2]}),
        ("merge", ["4", "2"], {"track": 4, "into": 2}),
        ("end", ["4"], {"track": 4}),
        ("new_id", ["4"], {"track": 4}),
        ("undo", [], {}),
        ("undo", ["7"], {"number": 7}),
    ],
)
def test_the_words_of_each_action_become_its_params(action, words, params):
    assert params_of(action, words) == params


@pytest.mark.parametrize(
    ("action", "words", "text"),
    [
        ("renam", ["3"], "did you mean 'rename'"),
        ("swap", ["1"], "swap takes TRACK TRACK; got 1"),
        ("merge", [], "merge takes TRACK INTO; got nothing"),
        ("undo", ["1", "2"], r"undo takes \[NUMBER\]; got 1 2"),
        ("end", ["fly"], "numbers from 0; got 'fly'"),
    ],
)
def test_other_words_are_refused_with_those_that_would_be_right(action, words, text):
    with pytest.raises(ConfigError, match=text):
        params_of(action, words)


def test_the_author_is_the_user_unless_one_is_given(monkeypatch):
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    client = StandIn()
    line = run_correct(client, "cam", "end", ["1"], None, as_json=False)
    assert client.asked == ("cam", "end", "ada", {"track": 1})
    assert line == "correction 4 of cam: end from the frame after seq 120 on"
    line = run_correct(client, "cam", "end", ["1"], "bob", as_json=True)
    assert client.asked[2] == "bob"
    assert line == '{"stream": "cam", "action": "end", "number": 4, "epoch": 1, "seq": 120}'
