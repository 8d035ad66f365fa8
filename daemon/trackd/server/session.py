"""The IO thread's state of a stream: its owner, its next seq, and the credit that its client holds."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from trackd.config import StreamSettings
from trackd.engine.outcome import tracks_of_record
from trackd.engine.queue import StreamQueue
from trackd.engine.stream_state import StreamState
from trackd.engine.stream_zones import StreamZones
from trackd.server.history import History
from trackd.store.records import OpenRecord, StoredStream
from trackd_client.configuration import validate
from trackd_client.detections import Skeleton
from trackd_client.protocol import Open, topic

NO_OWNER = b""  # the owner of a stream that has none, as after a restart
_REMEMBERED_HISTORIES = 8
_REMEMBERED_NAMES = 4096  # of closed streams


@dataclass(slots=True, eq=False)
class Session:
    """One open stream; only the IO thread uses it."""

    name: str
    owner: bytes  # the routing id of the owner's connection
    epoch: int
    settings: StreamSettings
    queue: StreamQueue
    history: History
    model: str
    reply_tracks: bool
    last_open_ns: int  # monotonic, of the last `open`; `Sessions.silent_ns` also counts the owner's other messages
    skeleton: Skeleton | None = None
    frame_shape: tuple[int, ...] | None = None  # as in `open`
    model_digest: str | None = None  # SHA-256 of the model's file; None: it has none, or an earlier version stored it
    next_seq: int = 0
    settled_seq: int = -1
    written_seq: int | None = None  # up to which seq its outputs are written; None: acks do not wait for that
    acked_seq: int = -1
    opened_epoch: int = 0  # the epoch in which it was opened; a reset begins another
    credit: int = 0  # frames that the client may send; below 0 where a drop policy accepts frames without credit
    last_frame_index: int | None = None
    last_t_ns: int | None = None  # of the last frame that this daemon has accepted
    owner_key: str = ""  # the public key of the owner's connection; "" without CURVE
    recovered_seq: int = -1  # frames up to this seq were settled by an earlier daemon
    source: str | None = None
    token: str | None = None  # of the client's session, as in `open`
    first_track_id: int = 0  # of the epoch
    zones: StreamZones = field(default_factory=StreamZones)  # as they are stored; the engine's state has the newest
    opening: bool = True  # the engine has not created the stream yet, and may fail to
    closing: bool = False
    leaving: bool = False  # with `closing`: another member of the fleet gets it, and its log stays
    ack_due: bool = False  # the client's pipe was full for the last ack, or the client waits for the outputs
    hole: str | None = None  # which settled frames a restart has found missing; told at the next `open`
    on_closed: list[Callable[[], None]] = field(default_factory=list)
    topic: bytes = field(init=False)  # of its settlements

    def __post_init__(self) -> None:
        self.topic = topic("tracks", self.name)

    @property
    def outstanding(self) -> int:
        """Frames that were accepted and cannot be acked yet."""
        settled, written = self.settled_seq, self.written_seq  # `kept_seq`, without its call for each frame
        return self.next_seq - 1 - (settled if written is None else min(settled, written))

    @property
    def kept_seq(self) -> int:
        """Frames up to this one can be acked: they are settled, and written to the outputs where acks wait for that."""
        return self.settled_seq if self.written_seq is None else min(self.settled_seq, self.written_seq)

    def grant(self) -> int:
        """Grant as much credit as the queue has room for beyond the credit that the client holds; return the number."""
        granted = max(0, self.settings.stream.queue_depth - self.outstanding - max(self.credit, 0))
        self.credit = max(self.credit, 0) + granted
        return granted


class Sessions:
    """All open streams, and the last histories of closed ones.

    Args:
        clock_s: the wall clock, s since 1970.
        highest_epoch: the highest epoch that earlier daemons have given.
    """

    def __init__(self, clock_s: Callable[[], float], highest_epoch: int = 0) -> None:
        self._clock_s = clock_s
        self._by_name: dict[str, Session] = {}
        self._by_owner: dict[bytes, set[str]] = {}
        self._last_message_ns: dict[bytes, int] = {}  # the time of each owner's last message
        self._highest_epoch = highest_epoch
        self._closed_histories: OrderedDict[str, History] = OrderedDict()
        self._closed_names: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_name.values()))

    def get(self, name: str) -> Session | None:
        """Return the open stream of this name; None where there is none."""
        return self._by_name.get(name)

    def add(self, session: Session) -> None:
        """Add an open stream."""
        self._by_name[session.name] = session
        self._by_owner.setdefault(session.owner, set()).add(session.name)

    def remove(self, session: Session) -> None:
        """Remove a closed stream. Its history stays for a while: a subscriber may lack the end."""
        if self._by_name.get(session.name) is session:
            del self._by_name[session.name]
        self._disown(session)
        if session.opening or session.leaving:  # it could not be opened, or another member has it
            return
        _remember(self._closed_histories, session.name, session.history, _REMEMBERED_HISTORIES)
        _remember(self._closed_names, session.name, None, _REMEMBERED_NAMES)

    def history(self, name: str) -> History | None:
        """Return the history of an open stream, else of one that was closed. Only the last ones have rows."""
        session = self._by_name.get(name)
        history = session.history if session is not None else self._closed_histories.get(name)
        return History(0, 0) if history is None and name in self._closed_names else history

    def hand_over(self, session: Session, owner: bytes, key: str = "") -> None:
        """Give a stream to another connection."""
        self._disown(session)
        session.owner, session.owner_key = owner, key
        self._by_owner.setdefault(owner, set()).add(session.name)

    def _disown(self, session: Session) -> None:
        names = self._by_owner.get(session.owner, set())
        names.discard(session.name)
        if not names:
            self._by_owner.pop(session.owner, None)
            self._last_message_ns.pop(session.owner, None)

    def note_message(self, owner: bytes, now_ns: int) -> None:
        """Store the time of a connection's last message, once for all of its streams."""
        if owner in self._by_owner:
            self._last_message_ns[owner] = now_ns

    def owns_any(self, owner: bytes) -> bool:
        """Return whether a connection owns a stream."""
        return owner in self._by_owner

    def silent_ns(self, session: Session, now_ns: int) -> int:
        """Return the time since the last message of a stream's owner."""
        return now_ns - max(session.last_open_ns, self._last_message_ns.get(session.owner, session.last_open_ns))

    def skip_standstill(self, began_ns: int, now_ns: int) -> None:
        """Subtract the time in which the daemon itself was stopped from the silence of every owner."""
        ns = now_ns - began_ns
        for session in self._by_name.values():
            session.last_open_ns = min(session.last_open_ns + ns, now_ns)
        for owner, last_ns in self._last_message_ns.items():
            self._last_message_ns[owner] = min(last_ns + ns, now_ns)

    def next_epoch(self, above: int = 0) -> int:
        """Return an epoch above all earlier ones of all streams here, and above one of another member.

        Epochs follow the wall clock in µs, so they also rise over a restart of a daemon that keeps no state, unless
        the clock is set back. A daemon with a journal stores the highest one, and does not depend on the clock.
        """
        self._highest_epoch = max(self._highest_epoch + 1, above + 1, int(self._clock_s() * 1e6))
        return self._highest_epoch

    def note_epoch(self, epoch: int) -> None:
        """Note the epoch of a stream that another member has opened; later ones are above it."""
        self._highest_epoch = max(self._highest_epoch, epoch)


def _remember(kept: OrderedDict[str, Any], name: str, value: Any, most: int) -> None:
    """Add a value as the latest one, and forget the earliest beyond `most`."""
    kept.pop(name, None)
    kept[name] = value
    while len(kept) > most:
        kept.popitem(last=False)


# --- a session in the journal ---


def opening_of(session: Session, state: StreamState) -> OpenRecord:
    """Return what the journal holds of a stream beside its frames and its tracker.

    Settings and zones are those of the state in the engine: the session may be ahead of them, or behind.
    """
    return OpenRecord(session.name, state.epoch, state.first_seq, _opened_map(session, state))


def _opened_map(session: Session, state: StreamState) -> dict[str, Any]:
    settings = state.settings.as_map()
    mult_thresh = settings["tracker"]["mult_thresh"]
    # Earlier versions read true or false here, and stored true where it was not set.
    settings["tracker"]["mult_thresh"] = mult_thresh is not False
    return {
        "settings": settings,
        "mult_thresh": mult_thresh,
        "zones": state.zones.as_map(),
        "opened_epoch": session.opened_epoch,
        "model": session.model,
        "model_digest": session.model_digest,
        "reply_tracks": session.reply_tracks,
        "skeleton": None if session.skeleton is None else asdict(session.skeleton),
        "frame_shape": None if session.frame_shape is None else list(session.frame_shape),
        "source": session.source,
    }


def restored_session(stored: StoredStream, history_bytes: int, now_ns: int) -> tuple[Session, Open]:
    """Return a stored stream as a session without an owner, after its last settled frame, and the `open` that made it.

    Raises:
        ConfigError: its settings are not valid in this version.
    """
    opened = stored.opened.opened
    name = stored.opened.stream
    settings = validate(StreamSettings, _stored_settings(opened), f"stream {name!r} in the journal")
    skeleton = _skeleton(opened["skeleton"])
    shape = None if opened["frame_shape"] is None else tuple(opened["frame_shape"])
    queue = StreamQueue(name, settings.stream.queue_depth)
    last_seq = stored.last_seq
    queue.settled_seq = last_seq
    history = History(settings.stream.history_frames, history_bytes)
    for record in stored.frames:
        history.append(tracks_of_record(record))
    in_epoch = [record for record in stored.frames if record.epoch == stored.opened.epoch]
    session = Session(
        name=name,
        owner=NO_OWNER,
        epoch=stored.opened.epoch,
        settings=settings,
        queue=queue,
        history=history,
        model=opened["model"],
        model_digest=opened.get("model_digest"),
        reply_tracks=opened["reply_tracks"],
        last_open_ns=now_ns,
        skeleton=skeleton,
        next_seq=last_seq + 1,
        settled_seq=last_seq,
        last_frame_index=max((record.frame_index for record in in_epoch), default=None),
        recovered_seq=last_seq,
        opening=False,
        frame_shape=shape,
        source=opened["source"],
        opened_epoch=opened.get("opened_epoch", stored.opened.epoch),
        zones=StreamZones.of_map(opened.get("zones")),
    )
    return session, Open(name, skeleton=skeleton, frame_shape=shape, source=opened["source"])


def _stored_settings(opened: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings as they were set: a `mult_thresh` of true that an earlier version stored was the default."""
    settings: dict[str, Any] = opened["settings"]
    tracker = settings["tracker"]
    if tracker.get("mult_thresh") is not True:
        return settings
    return {**settings, "tracker": {**tracker, "mult_thresh": opened.get("mult_thresh")}}


def _skeleton(stored: dict[str, Any] | None) -> Skeleton | None:
    if stored is None:
        return None
    return Skeleton(tuple(stored["nodes"]), tuple((edge[0], edge[1]) for edge in stored["edges"]))
