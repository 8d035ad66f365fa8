"""The requests of the viewer's pages, run on the IO thread with the methods of the control socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from trackd.server.access.viewer import ACTOR, ACTS, READER, READS
from trackd.server.budget import Budget
from trackd.server.control.control import Control, code_and_text
from trackd.server.fleet_pages import FleetPages
from trackd.server.session import Sessions
from trackd.server.unavailable import UnavailableStreams
from trackd.viewer.hub import Hub, PageRequest, StreamRow
from trackd_client.protocol import ErrorCode, ProtocolError, Reply

_TURN_NS = 2_000_000  # spent on the requests of pages in one turn
_PAUSE = 50  # times as long as a list of streams took, the next one that an event asks for is left to the heartbeat


class Pages:
    """Runs what pages ask for; only the IO thread uses it.

    Args:
        hub: where the requests wait, and where the rows of the streams go.
        control: has the methods.
        sessions: the open streams.
        unavailable: the streams whose model is missing.
        budget: the handling time of each client; each page is one.
        clock: monotonic ns.
        recording_of: returns what is told of the recording of a stream.
        fleet: the streams of the other members; None where this daemon is in no fleet.
    """

    def __init__(
        self,
        hub: Hub,
        control: Control,
        sessions: Sessions,
        unavailable: UnavailableStreams,
        budget: Budget,
        clock: Callable[[], int] = time.monotonic_ns,
        recording_of: Callable[[str], Mapping[str, Any] | None] = lambda stream: None,
        fleet: FleetPages | None = None,
    ) -> None:
        self.hub = hub
        self._control = control
        self._sessions = sessions
        self._unavailable = unavailable
        self._budget = budget
        self._clock = clock
        self._recording_of = recording_of
        self._fleet = fleet
        self._next_list_ns = 0

    def run(self) -> None:
        """Run the requests that are due, for a short time."""
        until = self._clock() + _TURN_NS
        lists = False
        while self.hub.due and self._clock() < until:
            request = self.hub.due.popleft()
            if request is None:
                lists = True
            elif not self._budget.may_refuse or not self._budget.is_over(request.client, self._clock()):
                self._answer(request)
            elif not self._budget.wait(request.client, request.ask.nbytes, partial(self._answer, request)):
                reason = "this page has used its budget of the daemon's time, and its requests wait"
                _refuse(request, ProtocolError(ErrorCode.OVER_BUDGET, reason))
        if lists and self._clock() >= self._next_list_ns:
            self.list_streams()

    def list_streams(self) -> None:
        """Hand the open streams to the pages; called each second too."""
        if not self.hub.pages:
            if self._fleet is not None:
                self._fleet.forget()
            return
        started = self._clock()
        rows = [
            StreamRow(
                session.name, session.epoch, session.model, session.next_seq, session.skeleton, session.frame_shape,
                session.queue.depth, zones_number=session.zones.number,
                recording=self._recording_of(session.name),
            )
            for session in self._sessions
            if not session.opening
        ]  # fmt: skip
        for stream in self._unavailable:
            session = stream.session
            rows.append(
                StreamRow(
                    session.name, session.epoch, session.model, session.next_seq, session.skeleton,
                    session.frame_shape, session.queue.depth, stream.reason, session.zones.number,
                )
            )  # fmt: skip
        self.hub.list_streams(rows, None if self._fleet is None else self._fleet.view())
        now = self._clock()
        self._next_list_ns = now + _PAUSE * (now - started)

    def _answer(self, request: PageRequest) -> None:
        ask = request.ask
        if ask.method in ACTS and not request.control:
            reason = f"this page may only read; {ask.method} needs the token of security.http_token_file"
            _refuse(request, ProtocolError(ErrorCode.FORBIDDEN, reason))
        elif ask.method not in ACTS | READS:
            reason = f"a page may ask for {', '.join(sorted(READS | ACTS))}; got {ask.method[:60]!r}"
            _refuse(request, ProtocolError(ErrorCode.BAD_MESSAGE, reason))
        else:

            def answer(result: Any, error: Exception | None = None) -> None:
                error_pair = None if error is None else code_and_text(error)
                request.answer(Reply(ask.id, None if error else result, error_pair))

            grant = ACTOR if request.control else READER
            self._control.run(ask.method, ask.params, grant, request.client, answer, request.answer_with_rows)


def _refuse(request: PageRequest, error: ProtocolError) -> None:
    request.answer(Reply(request.ask.id, error=(error.code, error.message)))
