"""`stream.correct`: a person corrects the tracks of a stream between two frames."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trackd.server.access.grants import Right
from trackd.server.control.call import Call
from trackd.tracking.correction import Action, Correction, CorrectionError, check_text
from trackd_client.excerpt import excerpt
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.protocol import fields as read
from trackd_client.protocol.errors import bad_message

_MAX_ID = 2**31 - 1


def correct(call: Call) -> None:
    """Apply a correction from the next frame on; answer with its number, the epoch and the last seq before it."""
    session = call.session(Right.CONTROL)
    try:
        correction = replace(_correction(call.params), t_ns=time.time_ns())
    except CorrectionError as error:
        raise ProtocolError(ErrorCode.BAD_CORRECTION, str(error), stream=session.name) from None
    call.daemon.streams.requests.correct(session, correction, call.answer)


def _correction(params: Mapping[str, Any]) -> Correction:
    action = read.choice(params, "action", Action)
    author = read.text(params, "author") if params.get("author") is not None else ""
    if author:
        check_text("author", author)
    if action is Action.UNDO:
        number = read.integer(params, "number", 1) if params.get("number") is not None else None
        return Correction(action, undoes=number, author=author)
    if action is Action.SWAP:
        tracks = read.integers(params, "tracks")
        if len(tracks) != 2:
            raise bad_message(f"tracks must be two ids; got {excerpt(params.get('tracks'))}")
        return Correction(action, tracks, author=author)
    tracks = (read.integer(params, "track", 0, _MAX_ID),)
    if action is Action.MERGE:
        return Correction(action, tracks, into=read.integer(params, "into", 0, _MAX_ID), author=author)
    if action is Action.RENAME:
        if "name" not in params:
            raise bad_message("name must be a string, or null to remove the name; got nothing")
        name = read.text(params, "name") if params["name"] is not None else None
        return Correction(action, tracks, name=name, author=author)
    return Correction(action, tracks, author=author)
