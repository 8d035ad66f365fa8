"""`stream.zones` and `stream.set_zones`: the zones and lines on a stream's picture."""

from __future__ import annotations

import time

from trackd.server.access.grants import Right
from trackd.server.control.call import READERS, Call
from trackd_client.protocol import ErrorCode, ProtocolError
from trackd_client.protocol import fields as read
from trackd_client.protocol.errors import bad_message
from trackd_client.zones import TooManyError, ZonesError, read_places


def zones(call: Call) -> None:
    """Answer with the zones and lines of a stream, and with the number of their last change."""
    session = call.session(*READERS)
    call.answer({"epoch": session.epoch, **session.zones.as_map()})


def set_zones(call: Call) -> None:
    """Replace all zones and lines of a stream; answer, once they are stored, as `stream.zones` does."""
    session, params = call.session(Right.CONTROL), call.params
    number = read.integer(params, "number", 0) if params.get("number") is not None else None
    if "zones" not in params and "lines" not in params:
        raise bad_message("zones and lines: one of them must be given, also to remove all: {}", stream=session.name)
    author = call.author()
    try:
        places = read_places(params)
    except TooManyError as error:
        raise ProtocolError(ErrorCode.TOO_LARGE, str(error), stream=session.name) from None
    except ZonesError as error:
        raise bad_message(str(error), stream=session.name) from None
    call.daemon.streams.requests.set_zones(session, places, author, time.time_ns(), number, call.answer)
