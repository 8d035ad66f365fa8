"""Recordings of streams, on behalf of clients: each start and end is published with its author."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from trackd.recording.recorder import Recorder, RecordingError
from trackd.recording.recording import Recording
from trackd.server.publisher import Publisher
from trackd.server.session import Session, Sessions
from trackd_client.message_log.record import Kind, Record, gap
from trackd_client.protocol import ErrorCode, Event, EventName, ProtocolError, encode, topic

logger = logging.getLogger(__name__)

MAX_ROWS = 1024  # that are taken from the history at once

Done = Callable[[Any, Exception | None], None]


class StreamRecordings:
    """Starts, stops and lists recordings; only the IO thread uses it.

    Args:
        recorder: writes them.
        sessions: the open streams.
        publisher: publishes the events.
    """

    def __init__(self, recorder: Recorder, sessions: Sessions, publisher: Publisher) -> None:
        self._recorder = recorder
        self._sessions = sessions
        self._publisher = publisher
        recorder.on_ended = self._ended_by_itself

    def start(self, session: Session, author: str, done: Done) -> None:
        """Record a stream from its next message on; answer when its first file exists.

        Raises:
            ProtocolError: `bad_recording`: it cannot be recorded, or is recorded already.
        """

        def started(recording: Recording, fault: str | None) -> None:
            if fault is not None:
                done(None, _refused(f"stream {session.name!r} is not recorded: {fault}", session.name))
                return
            logger.info("stream=%s: recording %s is started by %r", session.name, recording.name, author)
            told = {"recording": recording.name, "author": author, "t_ns": recording.t_ns}
            self._publisher.event(session, EventName.RECORDING, {"action": "started", **told})
            if session.zones.number:
                _put_zones(recording, session)
            done({"stream": session.name, **told}, None)
            if self._sessions.get(session.name) is not session:  # it was closed meanwhile
                self.stream_closed(session)

        self._checked(session.name, lambda: self._recorder.start(session.name, author, session.settled_seq, started))

    def go_on(self) -> None:
        """Go on with the recordings of recovered streams that a kill has cut; call this before any thread runs.

        What was settled and is not in their files comes from the journal.
        """
        for stream, cut in self._recorder.unfinished().items():
            session = self._sessions.get(stream)
            # Epochs are microseconds: an earlier recording is of another stream of this name, which had no journal.
            if session is None or cut.t_ns < session.opened_epoch * 1000:
                continue
            if self._recorder.go_on(stream, cut, partial(_missed, session)) is not None:
                logger.info("stream=%s: recording %s goes on", stream, cut.name)

    def stop(self, session: Session, author: str, done: Done) -> None:
        """End the recording of a stream; answer with its counts when all of it is on the disk.

        Raises:
            ProtocolError: `bad_recording`: the stream is not recorded.
        """

        def stopped(recording: Recording) -> None:
            self._tell_end(session, recording, author)
            error = None
            if recording.reason is not None:
                error = _refused(f"recording {recording.name} has ended: {recording.reason}", session.name)
            done({"stream": session.name, **recording.as_map()}, error)

        self._checked(session.name, lambda: self._recorder.stop(session.name, stopped))

    def stream_closed(self, session: Session) -> None:
        """End the recording of a stream that was closed, if there is one."""
        if (recording := self._recorder.taps.get(session.name)) is not None and recording.is_started:
            why = "the stream was closed"
            self._recorder.stop(session.name, lambda ended: self._tell_end(session, ended, ""), why)

    def of(self, stream: str) -> dict[str, Any] | None:
        """Return what is told of a stream's recording; None: it is not recorded."""
        recording = self._recorder.taps.get(stream)
        return recording.as_map() if recording is not None and recording.is_started else None

    def list_all(self, covers: Callable[[str], bool], done: Done) -> None:
        """Answer with a row for each recording, oldest first.

        Args:
            covers: whether the client may know of a stream.
            done: sends the answer.

        Raises:
            ProtocolError: `bad_recording`: there is no folder for recordings.
        """

        def listed(rows: list[dict[str, Any]]) -> None:
            active = [
                {"stream": stream, **recording.as_map(), "active": True, "reason": None}
                for stream, recording in self._recorder.taps.items()
                if recording.is_started
            ]
            done([row for row in [*rows, *active] if covers(row["stream"])], None)

        self._checked(None, lambda: self._recorder.list_finished(listed))

    def _ended_by_itself(self, recording: Recording) -> None:
        session = self._sessions.get(recording.stream)
        if session is not None:
            self._tell_end(session, recording, "")

    def _tell_end(self, session: Session, recording: Recording, author: str) -> None:
        logger.info("stream=%s: recording %s has ended", session.name, recording.name)
        detail = {"action": "stopped", **recording.as_map(), "author": author, "t_ns": time.time_ns()}
        if recording.reason is not None:
            detail["reason"] = recording.reason
        self._publisher.event(session, EventName.RECORDING, detail)

    @staticmethod
    def _checked(stream: str | None, act: Callable[[], None]) -> None:
        try:
            act()
        except RecordingError as error:
            raise _refused(str(error), stream) from None


def _put_zones(recording: Recording, session: Session) -> None:
    """Record the zones and lines that a stream has at the start, as the event that tells a change of them."""
    event = Event(session.name, EventName.ZONES, session.epoch, session.settled_seq, session.zones.as_map())
    parts = encode(event)
    recording.put(topic("events", session.name), parts, sum(map(len, parts)))


def _missed(session: Session, last_seq: int) -> list[Record]:
    """Return the settlements after `last_seq` as records; what is not in the history any more, as a gap before them."""
    now, records = (time.time_ns(), time.monotonic_ns()), []
    expected = last_seq + 1
    while expected <= session.settled_seq:
        rows = session.history.select(None, expected, None, MAX_ROWS)
        first = rows[0].seq if rows else session.settled_seq + 1
        if first > expected:
            records.append(gap(*now, session.name, session.epoch, expected, first - 1))
        records += [Record(Kind.HISTORY, *now, (session.topic, *map(bytes, encode(tracks)))) for tracks in rows]
        expected = rows[-1].seq + 1 if rows else first
    return records


def _refused(text: str, stream: str | None) -> ProtocolError:
    return ProtocolError(ErrorCode.BAD_RECORDING, text, stream=stream)
