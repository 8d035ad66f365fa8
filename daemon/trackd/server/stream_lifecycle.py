"""Open, hand over, configure, reset and close streams, on behalf of ingest, control and the timeouts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from trackd.config import LimitsConfig, StreamSettings
from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.queue import AT_ONCE, Command, StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.identity.gallery import Galleries
from trackd.models.registry import ModelRegistry
from trackd.outputs.session_log import EarlierSession
from trackd.outputs.thread import OutputsThread
from trackd.server.checks import (
    as_protocol_error,
    changed_settings,
    check_fixed_fields,
    check_nodes,
    check_output_files,
)
from trackd.server.fleet_streams import FleetStreams
from trackd.server.fleet_takeover import TakenStream
from trackd.server.history import History
from trackd.server.moved import moved_error
from trackd.server.publisher import Publisher
from trackd.server.recovery import Recovery, write_missing
from trackd.server.session import NO_OWNER, Session, Sessions, opening_of
from trackd.server.stream_requests import Done, StreamRequests
from trackd.server.unavailable import UnavailableStreams
from trackd.server.waiting_opens import WaitingOpen, WaitingOpens
from trackd.store.looks_writer import LooksWriter, PendingLooks
from trackd.store.records import CloseRecord
from trackd_client.configuration import ConfigError
from trackd_client.protocol import Closed, ErrorCode, EventName, Open, Opened, ProtocolError

logger = logging.getLogger(__name__)


class Streams:
    """The life of streams; only the IO thread uses it. Each change of the engine's state is a command to the engine."""

    def __init__(
        self,
        defaults: StreamSettings,
        limits: LimitsConfig,
        sessions: Sessions,
        inbox: Inbox,
        engine: Engine,
        models: ModelRegistry,
        publisher: Publisher,
        outputs: OutputsThread,
        galleries: Galleries,
        journaling: bool = False,
        looks: LooksWriter | None = None,
    ) -> None:
        self.looks = looks
        self.when_closed: Callable[[Session], None] = lambda session: None  # after its last event
        self._journaling = journaling
        self.galleries = galleries
        self._defaults = defaults
        self._limits = limits
        self._sessions = sessions
        self._inbox = inbox
        self._engine = engine
        self._models = models
        self._publisher = publisher
        self._outputs = outputs
        self._waiting_opens = WaitingOpens(
            outputs, publisher, lambda waiting, earlier, above: self._create(waiting, earlier, looked=True, above=above)
        )
        self.unavailable = UnavailableStreams(inbox, engine, publisher, self._forget_looks)
        self.recovery = Recovery(
            limits, sessions, inbox, engine, models, outputs, self.unavailable, galleries.folder,
            None if looks is None else looks.folder,
        )  # fmt: skip
        self.fleet: FleetStreams | None = None
        self.requests = StreamRequests(inbox, engine, publisher, galleries, self._share_gallery)

    # --- open ---

    def open(self, owner: bytes, message: Open, now_ns: int, key: str = "") -> None:
        """Open a stream, or resume an open one.

        Args:
            owner: the routing id of the connection that sent the `open`.
            message: the `open`.
            now_ns: the time of its receipt, monotonic.
            key: the public key of the connection; "" without CURVE.

        Raises:
            ProtocolError: the stream cannot be opened so, or belongs to another client.
        """
        session = self._sessions.get(message.stream)
        self.unavailable.check(message.stream)
        if self.fleet is not None:
            self.fleet.check_contact(message.stream)
        if session is None:
            self._waiting_opens.check(owner, message)
            if self.fleet is None:
                self._create(WaitingOpen(owner, message, now_ns, key))
            else:
                self.fleet.open(WaitingOpen(owner, message, now_ns, key))
        elif session.leaving:
            raise moved_error(session.name, None)  # soon it is known where it goes
        elif session.closing:
            raise ProtocolError(
                ErrorCode.STREAM_BUSY, f"stream {message.stream!r} is being closed; try again", stream=message.stream
            )
        else:
            self._resume(session, owner, message, now_ns, key)

    def _create(
        self, asked: WaitingOpen, earlier: EarlierSession | None = None, *, looked: bool = False, above: int = 0
    ) -> None:
        owner, message = asked.owner, asked.message
        if len(self._sessions) + len(self.unavailable) >= self._limits.streams:
            raise ProtocolError(
                ErrorCode.TOO_LARGE,
                f"at most {self._limits.streams} streams may be open; close one",
                stream=message.stream,
            )
        settings = changed_settings(self._defaults, message.config, message.stream)
        check_nodes(settings, message.skeleton, message.stream)
        self._check_gallery(settings, message.stream)
        if settings.stream.outputs:
            opening = sum(len(other.settings.stream.outputs) for other in self._sessions if other.opening)
            n_open = self._outputs.n_open_files + opening
            check_output_files(len(settings.stream.outputs), n_open, self._limits.output_files, message.stream)
        model = self._model(message)
        self._check_model(model, settings, message.frame_shape, message.stream)
        if settings.stream.outputs and message.session is not None and not self._journaling and not looked:
            self._waiting_opens.add(asked, settings.stream.outputs, above)
            return
        epoch = self._sessions.next_epoch(above)
        first_id = 0 if earlier is None else earlier.next_id
        queue = StreamQueue(message.stream, settings.stream.queue_depth)
        session = Session(
            name=message.stream,
            owner=owner,
            owner_key=asked.key,
            epoch=epoch,
            settings=settings,
            queue=queue,
            history=History(settings.stream.history_frames, self._limits.history_bytes),
            model=model,
            model_digest=self._models.digest(model),
            reply_tracks=message.reply == "tracks",
            last_open_ns=asked.now_ns,
            skeleton=message.skeleton,
            frame_shape=message.frame_shape,
            source=message.source,
            opened_epoch=epoch,
            token=message.session,
            first_track_id=first_id,
        )
        if settings.stream.outputs and not self._journaling:
            session.written_seq = -1  # without a journal an acked frame is in the outputs
        self._sessions.add(session)
        self._inbox.add(queue)
        make_scorer = self._models.scorer_factory(model)

        def create() -> None:
            state = StreamState(
                message.stream, epoch, 0, settings, message.skeleton, message.frame_shape, make_scorer, self._limits,
                first_id, self.galleries,
            )  # fmt: skip
            self._engine.open(queue, state)
            self._engine.record(lambda: opening_of(session, state))

        def created(_: Any, error: Exception | None) -> None:
            if error is not None:
                self._remove(session)
                self._release(session)
                self._publisher.refuse(owner, as_protocol_error(error, session.name), fatal=True)
                return
            if settings.stream.outputs:
                self._outputs.open(session.name, settings.stream.outputs, message, epoch, earlier=earlier)
            logger.info("stream=%s epoch=%d: opened with model %s", session.name, epoch, model)
            if earlier is not None:
                logger.warning(
                    "stream=%s epoch=%d: its outputs continue the files of a daemon that was killed; track ids begin "
                    "at %d", session.name, epoch, first_id,
                )  # fmt: skip
            session.opening = False
            self._send_opened(session, EventName.OPENED)

        self._inbox.command(queue, Command(AT_ONCE, create, created))

    def _resume(self, session: Session, owner: bytes, message: Open, now_ns: int, key: str) -> None:
        silent_s = self._sessions.silent_ns(session, now_ns) / 1e9
        ownerless = not session.owner or silent_s > session.settings.stream.owner_timeout_s
        # With CURVE a stream belongs to a key: the same client on a new connection does not wait for the timeout.
        same_client = key == session.owner_key if key else owner == session.owner
        if not (same_client or message.takeover or ownerless):
            raise ProtocolError(
                ErrorCode.STREAM_BUSY,
                f"stream {session.name!r} belongs to another connection, which sent its last message {silent_s:.1f} s "
                "ago; open it with takeover to become its owner",
                stream=session.name,
            )
        settings = self._reconfigured(session, message.config)
        check_fixed_fields(session, message)
        if (owner, key) != (session.owner, session.owner_key):
            taken = ProtocolError(
                ErrorCode.STREAM_BUSY, "another connection has taken the stream over", stream=session.name
            )
            if session.owner not in (NO_OWNER, owner):
                self._publisher.refuse(session.owner, taken, fatal=True)
            self._sessions.hand_over(session, owner, key)
        if message.session is not None and message.session != session.token:
            session.token = message.session
            self._outputs.name_session(session.name, message.session)
        session.last_open_ns = now_ns
        session.reply_tracks = message.reply == "tracks"
        session.credit = 0

        def configured(_: Any, error: Exception | None) -> None:
            if error is not None:
                self._publisher.refuse(owner, as_protocol_error(error, session.name))
            elif session.owner == owner:  # else another open has taken it over, and gets its own answer
                self._send_opened(session, EventName.RESUMED)

        self._configure(session, settings, configured)

    def _send_opened(self, session: Session, event: EventName) -> None:
        session.credit = 0  # `opened` states all credit that the client holds; earlier acks belong to the last `open`
        credit = session.grant()
        settings = session.settings.as_map()
        opened = Opened(
            session.name, session.epoch, session.next_seq, credit, settings, session.last_frame_index,
            self._limits.message_bytes, session.first_track_id or None,
        )  # fmt: skip
        self._publisher.reply(session.owner, opened)
        if session.hole is not None:
            self._publisher.event(session, EventName.RESET, {"reason": session.hole})
            session.hole = None
        self._publisher.event(session, event, {"model": session.model})

    def _model(self, message: Open) -> str:
        try:
            return self._models.resolve(message.model)
        except KeyError as error:
            raise ProtocolError(ErrorCode.UNKNOWN_MODEL, str(error.args[0]), stream=message.stream) from None

    def _check_model(
        self, model: str, settings: StreamSettings, frame_shape: tuple[int, ...] | None, stream: str
    ) -> None:
        try:
            self._models.check_stream(model, settings, frame_shape)
        except ConfigError as error:
            raise ProtocolError(ErrorCode.BAD_CONFIG, f"model {model!r}: {error}", stream=stream) from None

    # --- while it is open ---

    def _reconfigured(self, session: Session, changes: Mapping[str, Any]) -> StreamSettings:
        settings = changed_settings(session.settings, changes, session.name)
        if settings.stream.outputs != session.settings.stream.outputs:
            raise ProtocolError(
                ErrorCode.BAD_CONFIG,
                f"outputs cannot change while a stream is open: they are {session.settings.stream.outputs}; "
                "close it first",
                stream=session.name,
            )
        check_nodes(settings, session.skeleton, session.name)
        self._check_gallery(settings, session.name)
        self._check_model(session.model, settings, session.frame_shape, session.name)
        return settings

    def configure(self, session: Session, changes: Mapping[str, Any], done: Done) -> None:
        """Change settings between two frames. The tracks and their ids stay.

        Raises:
            ProtocolError: an invalid change (`bad_config`).
        """
        settings = self._reconfigured(session, changes)

        def configured(_: Any, error: Exception | None) -> None:
            if error is None:
                self._publisher.event(session, EventName.CONFIGURED)
            done(None if error else settings.as_map(), error)

        self._configure(session, settings, configured)

    def _configure(self, session: Session, settings: StreamSettings, done: Done) -> None:
        before = session.settings
        self._apply(session, settings)
        queue = session.queue

        def finished(result: Any, error: Exception | None) -> None:
            if error is not None and session.settings is settings:
                self._apply(session, before)
            done(result, error)

        def configure() -> None:
            state = self._engine.configure(queue, settings)
            # The frames so far were tracked with other settings; with the snapshot a restart does not replay them.
            self._engine.record(lambda: opening_of(session, state))
            self._engine.record(lambda: state.snapshot_record(queue.settled_seq))

        self._inbox.command(queue, Command(session.next_seq - 1, configure, finished))

    @staticmethod
    def _apply(session: Session, settings: StreamSettings) -> None:
        session.settings = settings
        session.queue.depth = settings.stream.queue_depth
        session.history.max_frames = settings.stream.history_frames

    def reset(self, session: Session, done: Done) -> None:
        """Start a new epoch without tracks, after the frames that are queued."""
        epoch = self._sessions.next_epoch()
        first_seq = session.next_seq
        session.last_frame_index = None  # a source that restarts may count from 0 again
        queue = session.queue

        def finished(_: Any, error: Exception | None) -> None:
            if error is None:
                self._forget_looks(session.name)
                session.epoch, session.first_track_id = epoch, 0
                self._publisher.event(session, EventName.RESET)
            done({"epoch": epoch}, error)

        def start() -> None:
            state = self._engine.state(queue)
            state.start(epoch, first_seq)
            self._engine.record(lambda: opening_of(session, state))
            self._engine.record(lambda: state.snapshot_record(first_seq - 1))

        self._inbox.command(queue, Command(first_seq - 1, start, finished))

    def _check_gallery(self, settings: StreamSettings, stream: str) -> None:
        if settings.tracker.gallery is not None:
            try:
                self.galleries.check(settings.tracker.gallery)
            except ConfigError as error:
                raise ProtocolError(ErrorCode.BAD_CONFIG, str(error), stream=stream) from None

    def store_snapshots(self) -> None:
        """Store a snapshot of every stream's tracker, so that a restart replays no frames, and its animals' looks."""

        def stored(looks: PendingLooks | None, _: Exception | None) -> None:
            self.keep_looks(looks)

        for session in self._sessions:
            if not session.closing:
                queue = session.queue

                def store(queue: StreamQueue = queue) -> PendingLooks | None:
                    state = self._engine.state(queue)
                    self._engine.record(lambda: state.snapshot_record(queue.settled_seq))
                    return state.pending_looks(queue.settled_seq, now=True) if state.keeps_looks else None

                self._inbox.command(queue, Command(AT_ONCE, store, stored))

    def keep_looks(self, looks: PendingLooks | None) -> None:
        """Write what was learnt of a stream's animals, after its frame is stored."""
        if self.looks is not None and looks is not None:
            self.looks.put(looks)

    def _forget_looks(self, stream: str) -> None:
        if self.looks is not None:
            self.looks.remove(stream)

    # --- close ---

    def close(self, session: Session, reason: str, done: Callable[[Closed], None] | None = None) -> None:
        """Close a stream after the frames that are queued are settled."""
        if done is not None:
            session.on_closed.append(lambda: done(_closed(session)))
        if session.closing:
            return
        session.closing = True
        queue = session.queue

        def closed(_: Any, error: Exception | None) -> None:
            logger.info("stream=%s seq=%d: %s", session.name, session.settled_seq, reason)
            self._publisher.reply(session.owner, _closed(session))
            self._publisher.event(session, EventName.CLOSED, {"reason": reason})
            self._outputs.close(session.name)
            self._forget_looks(session.name)
            self._remove(session)
            self._release(session)
            self.when_closed(session)
            for callback in session.on_closed:
                callback()

        def end() -> None:
            self._engine.close(queue)
            self._engine.record(lambda: CloseRecord(session.name))

        def end_stream() -> None:
            self._inbox.command(queue, Command(AT_ONCE, end, closed))

        if session.settings.stream.outputs:
            # All records are written before the journal forgets the stream, and before its client hears of the close.
            def end_outputs(_: Any, error: Exception | None) -> None:
                self._outputs.end(session.name, end_stream)

            self._inbox.command(queue, Command(session.next_seq - 1, lambda: None, end_outputs))
        else:
            self._inbox.command(queue, Command(session.next_seq - 1, end, closed))

    def _remove(self, session: Session) -> None:
        self._sessions.remove(session)
        self._inbox.remove(session.queue)

    # --- in a fleet ---

    def create(self, asked: WaitingOpen, above: int) -> None:
        """Open a new stream that this member has claimed, with an epoch above another one.

        Raises:
            ProtocolError: it cannot be opened so.
        """
        self._create(asked, above=above)

    def take_over(self, asked: WaitingOpen, taken: TakenStream) -> None:
        """Open a stream that this member has claimed as its log has it, and answer its client.

        Raises:
            ProtocolError: the client asks for what does not fit it.
        """
        session, queue = taken.session, taken.session.queue
        self._sessions.note_epoch(session.epoch)
        session.opening = True
        queue.active_tracks = taken.state.n_live
        self._sessions.add(session)
        self._inbox.add(queue)
        kinds = session.settings.stream.outputs
        if kinds:
            after = taken.unwritten[0].seq - 1 if taken.unwritten else session.settled_seq
            self._outputs.open(session.name, kinds, taken.message, session.epoch, after_seq=after)
            write_missing(self._outputs, session.name, taken.unwritten)
            session.written_seq = self._outputs.written_seq(session.name, session.settled_seq)

        def opened(_: Any, error: Exception | None) -> None:
            session.opening = False

        self._inbox.command(queue, Command(AT_ONCE, lambda: self._engine.open(queue, taken.state), opened))
        self._resume(session, asked.owner, asked.message, asked.now_ns, asked.key)

    def leave(self, session: Session, stored: bool, done: Callable[[], None]) -> None:
        """End a stream here after its queued frames, without closing it.

        Args:
            session: the stream.
            stored: with a snapshot in its log, so that the next owner tracks nothing again.
            done: called on the IO thread.
        """
        queue = session.queue

        def end() -> None:
            state = self._engine.state(queue)
            if stored:
                self._engine.record(lambda: state.snapshot_record(queue.settled_seq))
            self._engine.close(queue)

        def end_stream() -> None:
            self._inbox.command(queue, Command(AT_ONCE, end, lambda result, error: done()))

        def end_outputs(_: Any, error: Exception | None) -> None:
            self._outputs.end(session.name, end_stream)

        if session.settings.stream.outputs:
            self._inbox.command(queue, Command(session.next_seq - 1, lambda: None, end_outputs))
        else:
            self._inbox.command(queue, Command(session.next_seq - 1, end, lambda result, error: done()))

    def forget(self, session: Session) -> None:
        """Remove a stream that has left."""
        self._outputs.close(session.name)
        self._remove(session)
        self.when_closed(session)
        for callback in session.on_closed:
            callback()

    def _share_gallery(self, name: str) -> None:
        if self.fleet is not None:
            self.fleet.share_gallery(name)

    def _release(self, session: Session) -> None:
        if self.fleet is not None:
            self.fleet.release(session.name)

    def close_idle(self, now_ns: int) -> None:
        """Close streams whose owners have been silent for too long."""
        for session in self._sessions:
            silent_s = self._sessions.silent_ns(session, now_ns) / 1e9
            times = session.settings.stream
            if not session.closing and silent_s > (times.idle_timeout_s if session.owner else times.resume_s):
                self.close(session, f"no message from its owner for {silent_s:.0f} s")


def _closed(session: Session) -> Closed:
    return Closed(session.name, session.epoch, session.settled_seq)
