"""Disconnect clients whose keys were removed or have lost rights."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from trackd.server.access.curve import Security
from trackd.server.access.grants import Grant, Right
from trackd.server.publisher import Publisher
from trackd.server.session import NO_OWNER, Sessions
from trackd.server.sockets import Sockets
from trackd.server.subscriptions import Subscriptions
from trackd_client.protocol import ErrorCode, ProtocolError

logger = logging.getLogger(__name__)


class Revocation:
    """Compares the current grants with those of the last call; only the IO thread uses it.

    A stream whose owner has lost the right to it stays open with its tracks, and another client may resume it. ZeroMQ
    cannot close one connection of a bound socket, and a subscriber sends nothing that could be refused. So when a key
    loses a right to read, `tracks` is bound again, which closes all of its connections. ZeroMQ reconnects the
    subscribers, and admits those that still have the right.
    """

    def __init__(
        self,
        security: Security,
        sockets: Sockets,
        sessions: Sessions,
        publisher: Publisher,
        subscriptions: Subscriptions,
    ) -> None:
        self._security = security
        self._sockets = sockets
        self._sessions = sessions
        self._publisher = publisher
        self._subscriptions = subscriptions
        self._seen: Mapping[str, Grant] = security.grants
        self._narrowed = security.narrowed

    def apply(self) -> None:
        """Apply the changes since the last call."""
        grants, narrowed = self._security.grants, self._security.narrowed
        if grants is not self._seen:
            self._seen = grants
            self._disown(grants)
        # The security thread counts the losses: a right may be given and lost again between two calls.
        if narrowed != self._narrowed:
            self._narrowed = narrowed
            self._subscriptions.rebind_due = True
        if self._subscriptions.rebind_due:
            self._subscriptions.rebind_due = not self._sockets.rebind_tracks()

    def _disown(self, grants: Mapping[str, Grant]) -> None:
        for session in self._sessions:
            if not session.owner:
                continue
            grant = grants.get(session.owner_key)
            if grant is not None and grant.may(Right.PUBLISH, session.name):
                continue
            logger.warning("stream=%s: the key of its owner has lost the right to publish to it", session.name)
            lost = ProtocolError(
                ErrorCode.FORBIDDEN, "this key may no longer publish to the stream", stream=session.name
            )
            self._publisher.refuse(session.owner, lost, fatal=True)
            self._sessions.hand_over(session, NO_OWNER)
