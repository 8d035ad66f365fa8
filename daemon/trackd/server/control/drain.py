"""`drain`: end the daemon after all queued frames are settled."""

from __future__ import annotations

from trackd.server.control.call import Call


def drain(call: Call) -> None:
    """Answer with the number of queued frames, and start the drain."""
    call.grant.require_everywhere("drain")
    call.answer({"draining": True, "queued": call.daemon.inbox.waiting})
    call.daemon.drain()
