"""`trackd-client correct`: a person corrects the tracks of a stream."""

from __future__ import annotations

import getpass
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from trackd_client.configuration import ConfigError, nearest
from trackd_client.stream_client import StreamClient

# The arguments of each action; those in brackets may be left out.
ACTIONS = {
    "rename": "TRACK [NAME]",
    "swap": "TRACK TRACK",
    "merge": "TRACK INTO",
    "end": "TRACK",
    "new_id": "TRACK",
    "undo": "[NUMBER]",
}


def params_of(action: str, words: Sequence[str]) -> dict[str, Any]:
    """Return the params of a correction, as the protocol has them.

    Args:
        action: one of `ACTIONS`.
        words: its arguments.

    Raises:
        ConfigError: no such action, or other arguments than it takes.
    """
    if action not in ACTIONS:
        raise ConfigError(f"action must be one of {', '.join(ACTIONS)}; got {action!r}; {nearest(action, ACTIONS)}")
    usage = ACTIONS[action]
    most = len(usage.split())
    if not most - usage.count("[") <= len(words) <= most:
        raise ConfigError(f"{action} takes {usage}; got {' '.join(words) or 'nothing'}")
    if action == "rename":
        return {"track": _number(words[0]), "name": words[1] if len(words) > 1 else None}
    numbers = [_number(word) for word in words]
    if action == "swap":
        return {"tracks": numbers}
    if action == "undo":
        return {"number": numbers[0]} if numbers else {}
    return dict(zip(("track", "into"), numbers, strict=False))


def run_correct(
    client: StreamClient, stream: str, action: str, words: Sequence[str], author: str | None, *, as_json: bool
) -> str:
    """Correct the tracks of a stream; return the line to print.

    Raises:
        ConfigError: as `params_of`.
        TrackdError: the daemon refuses, or does not answer.
    """
    done = client.correct(stream, action, author=login_name() if author is None else author, **params_of(action, words))
    if as_json:
        return json.dumps({"stream": stream, "action": action, **asdict(done)})
    return f"correction {done.number} of {stream}: {action} from the frame after seq {done.seq} on"


def login_name() -> str | None:
    """Return the name of the user, at most 64 characters; None if it is not known."""
    try:
        return getpass.getuser()[:64]
    except (KeyError, OSError):  # no variable names it, and the user has no entry
        return None


def _number(word: str) -> int:
    if not word.isdecimal():
        raise ConfigError(f"a track and a correction are numbers from 0; got {word!r}")
    return int(word)
