"""A stream as the IO thread sees it: whose it is, which seq comes next, how much credit is out."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from trackd.config import StreamSettings
from trackd.engine.queue import StreamQueue
from trackd.server.history import History
from trackd_client.detections import Skeleton
from trackd_client.protocol import topic

_REMEMBERED_EPOCHS = 4096
_REMEMBERED_HISTORIES = 8


@dataclass(slots=True, eq=False)
class Session:
    """One open stream; only the IO thread touches it."""

    name: str
    owner: bytes  # the connection's routing id
    epoch: int
    settings: StreamSettings
    queue: StreamQueue
    history: History
    model: str
    reply_tracks: bool
    last_heard_ns: int  # monotonic, when it was last opened; `Sessions.silent_ns` knows of its owner's other messages
    skeleton: Skeleton | None = None
    frame_shape: tuple[int, ...] | None = None  # as `open` gave it
    next_seq: int = 0
    settled_seq: int = -1
    credit: int = 0  # what the client holds; below 0 where a drop policy lets it send without
    last_frame_index: int | None = None
    owner_key: str = ""  # the public key of the connection; "" without CURVE
    recovered_seq: int = -1  # frames up to it were settled by a daemon before this one
    source: str | None = None
    opening: bool = True  # the engine has not taken it up yet; it may still fail to
    closing: bool = False
    ack_due: bool = False  # the last ack found no room in the client's pipe, or is to say that the outputs caught up
    on_closed: list[Callable[[], None]] = field(default_factory=list)
    topic: bytes = field(init=False)  # of its settlements

    def __post_init__(self) -> None:
        self.topic = topic("tracks", self.name)

    @property
    def outstanding(self) -> int:
        """Frames that were accepted and are not settled."""
        return self.next_seq - 1 - self.settled_seq

    def grant(self) -> int:
        """Credit that can be given now, so that the client holds what the queue has room for."""
        granted = max(0, self.settings.stream.queue_depth - self.outstanding - max(self.credit, 0))
        self.credit = max(self.credit, 0) + granted
        return granted


class Sessions:
    """All open streams, and the epochs of those that were."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._by_name: dict[str, Session] = {}
        self._by_owner: dict[bytes, set[str]] = {}
        self._heard_ns: dict[bytes, int] = {}  # of owners
        self._epochs: OrderedDict[str, int] = OrderedDict()
        self._closed_histories: OrderedDict[str, History] = OrderedDict()

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._by_name.values()))

    def get(self, name: str) -> Session | None:
        """The open stream of that name."""
        return self._by_name.get(name)

    def add(self, session: Session) -> None:
        """Take an open stream in."""
        self._by_name[session.name] = session
        self._by_owner.setdefault(session.owner, set()).add(session.name)

    def remove(self, session: Session) -> None:
        """Forget a closed stream, but for its epoch and, for a while, its history: a subscriber may lack the end."""
        if self._by_name.get(session.name) is session:
            del self._by_name[session.name]
        self._disown(session)
        self._closed_histories.pop(session.name, None)
        self._closed_histories[session.name] = session.history
        while len(self._closed_histories) > _REMEMBERED_HISTORIES:
            self._closed_histories.popitem(last=False)

    def remember_epoch(self, name: str, epoch: int) -> None:
        """Note the epoch of a stream that a daemon before this one opened."""
        self._epochs[name] = epoch

    def history(self, name: str) -> History | None:
        """The settlements of an open stream, else of one that was closed lately."""
        session = self._by_name.get(name)
        return session.history if session is not None else self._closed_histories.get(name)

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
            self._heard_ns.pop(session.owner, None)

    def heard(self, owner: bytes, now_ns: int) -> None:
        """Note a sign of life of a connection: one for all of its streams."""
        if owner in self._by_owner:
            self._heard_ns[owner] = now_ns

    def silent_ns(self, session: Session, now_ns: int) -> int:
        """For how long nothing was heard of a stream's owner."""
        return now_ns - max(session.last_heard_ns, self._heard_ns.get(session.owner, session.last_heard_ns))

    def skip_standstill(self, ns: int) -> None:
        """Leave a time in which the daemon itself stood still out of every owner's silence."""
        for session in self._by_name.values():
            session.last_heard_ns += ns
        for owner in self._heard_ns:
            self._heard_ns[owner] += ns

    def next_epoch(self, name: str) -> int:
        """An epoch above all earlier ones of this stream.

        It follows the wall clock, so that it rises over a restart of a daemon that keeps no state too.
        """
        epoch = max(self._epochs.pop(name, 0) + 1, int(self._clock_s()))
        self._epochs[name] = epoch
        while len(self._epochs) > _REMEMBERED_EPOCHS:
            self._epochs.popitem(last=False)
        return epoch
