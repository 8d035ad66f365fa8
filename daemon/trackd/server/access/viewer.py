"""Who may open the viewer, and what its pages may ask: no more than the sockets give in the same configuration."""

from __future__ import annotations

from trackd.config import Config
from trackd.server.access.endpoints import is_loopback
from trackd.server.access.grants import EVERY_STREAM, Grant, Right
from trackd.viewer.page import Admission

READS = frozenset({"status", "history", "tracks.live", "models", "stream.zones", "recording.list"})
ACTS = frozenset(
    {"stream.correct", "stream.set_zones", "stream.reset", "stream.close", "recording.start", "recording.stop"}
)
READER = Grant("a page of the viewer", "", (EVERY_STREAM,), frozenset({Right.SUBSCRIBE}))
ACTOR = Grant("a page of the viewer", "", (EVERY_STREAM,), frozenset({Right.SUBSCRIBE, Right.CONTROL}))


def admission(config: Config, token: str | None) -> Admission:
    """Return who may open the viewer.

    With a token a page must give it, and may then act. Without one a page may read if every local user may read the
    `tracks` socket (tcp without CURVE), and act if every local user may use the `control` socket and HTTP is bound to
    loopback.
    """
    endpoints, host = config.daemon.endpoints, (config.daemon.http or "").rpartition(":")[0].strip("[]")
    reads = not config.security.curve and endpoints.tracks.startswith("tcp://")
    acts = reads and endpoints.control.startswith("tcp://") and is_loopback(host)
    return Admission(token, reads, acts)
