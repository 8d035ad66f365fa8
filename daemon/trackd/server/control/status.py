"""`status`: the daemon's state, and a row of counts for each stream."""

from __future__ import annotations

import time

from trackd import __version__
from trackd.server.control.call import READERS, Call
from trackd_client.protocol import PROTOCOL_VERSION


def status(call: Call) -> None:
    """Answer with the daemon's state, and the streams that the client's key covers."""
    call.grant.require_any(READERS)
    daemon = call.daemon
    ledgers, active, _ = daemon.inbox.snapshot()
    rows = []
    for session in daemon.sessions:
        if not call.grant.covers(session.name):
            continue
        ledger = ledgers[session.name]
        rows.append(
            {
                "stream": session.name,
                "epoch": session.epoch,
                "next_seq": session.next_seq,
                "model": session.model,
                "queued": ledger.queued,
                "active_tracks": active[session.name],
                "received": ledger.received,
                "tracked": ledger.tracked,
                "dropped": ledger.dropped.total(),
                "rejected": ledger.rejected.total(),
                "zones_number": session.zones.number,
            }
        )
    for stream in daemon.streams.unavailable:
        session = stream.session
        if call.grant.covers(session.name):
            counts = dict.fromkeys(("queued", "active_tracks", "received", "tracked", "dropped", "rejected"), 0)
            row = {"stream": session.name, "epoch": session.epoch, "next_seq": session.next_seq, "model": session.model}
            rows.append({**row, **counts, "zones_number": session.zones.number, "unavailable": stream.reason})
    call.answer(
        {
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "uptime_s": time.monotonic() - daemon.started_s,
            "ready": daemon.health.unready() is None,
            "draining": daemon.health.draining,
            "device": daemon.models.device,
            "models": daemon.models.names,
            "streams": rows,
        }
    )
