"""`history`: the last settlements of a stream, for subscribers that missed some."""

from __future__ import annotations

from trackd.server.control.call import READERS, Call, unknown_stream
from trackd_client.protocol import fields as read

MAX_ROWS = 1024
_DEFAULT_ROWS = 256


def history(call: Call) -> None:
    """Answer with the settlements of a range of seq, oldest first; also for the streams that were closed last."""
    params = call.params
    name = read.stream_name(params)
    call.grant.require_any(READERS, name)
    stored = call.daemon.sessions.history(name)
    if stored is None and (unavailable := call.daemon.streams.unavailable.get(name)) is not None:
        stored = unavailable.session.history
    if stored is None:
        raise unknown_stream(name)
    epoch = read.integer(params, "epoch", 0) if params.get("epoch") is not None else None
    from_seq = read.integer(params, "from_seq", 0) if params.get("from_seq") is not None else 0
    to_seq = read.integer(params, "to_seq") if params.get("to_seq") is not None else None
    limit = read.integer(params, "limit", 1) if params.get("limit") is not None else _DEFAULT_ROWS
    rows = min(limit, MAX_ROWS)
    stored.when_complete(lambda: call.answer_with_rows(stored.select(epoch, from_seq, to_seq, rows)))
