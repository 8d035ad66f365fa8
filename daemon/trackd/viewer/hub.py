"""The hand-over between the three threads of the viewer: the IO thread, the viewer's own, and that of the HTTP server.

The IO thread puts each settled frame of a watched stream into that stream's slot, in place of the last one; it copies
and encodes nothing. The viewer's thread (`shower.py`) takes frames from slots. The HTTP server's thread adds and
removes pages, and puts their requests into a queue for the IO thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

from trackd.engine.outcome import Settlement
from trackd.viewer.fleet import FleetView
from trackd.viewer.messages import Ask, Change, Wish, change_of, is_changed
from trackd.viewer.pictures import AnyImage
from trackd_client.detections import IntArray, Skeleton
from trackd_client.protocol import Event, Reply, Tracks

MOST_CHANGES = 256  # of a stream that wait to be shown with its next frame
_MOST_TIMES = 512  # frames over which the latency of a stream is shown
_MOST_EVENTS = 256


@dataclass(slots=True, eq=False)  # not frozen, since it is made for each frame of a watched stream
class Settled:
    """The newest settled frame of a watched stream."""

    number: int  # counts the frames of the slot, from 1
    tracks: Tracks
    image: AnyImage | None
    masks: IntArray | None  # as in the detections


@dataclass(slots=True, eq=False)
class Encoded:
    """What the viewer's thread has made of one frame; pages that show it later get the same."""

    number: int
    files: dict[int, bytes | None] = field(default_factory=dict)  # by the picture's longest side
    outlines: list[list[bytes]] | None = None


class Slot:
    """One watched stream: its newest frame, and what changed in the last ones.

    Attributes:
        wants_image: whether a page wants its image. Images of streams that nobody watches are not kept.
        awaited: the viewer's thread waits for the next frame, and must be called.
        watches: who watches it.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.number = 0
        self.latest: Settled | None = None
        self.tracked: Settled | None = None  # the newest one that was tracked, and so has a picture
        self.encoded = Encoded(0)
        self.changes: deque[Change] = deque(maxlen=MOST_CHANGES)
        self.totals_us: deque[int] = deque(maxlen=_MOST_TIMES)
        self.wants_image = False
        self.awaited = True
        self.watches: tuple[Watch, ...] = ()

    def put(self, tracks: Tracks, settlement: Settlement) -> None:
        """Replace the newest frame; called by the IO thread for each settled frame of the stream."""
        number = self.number + 1
        if is_changed(tracks):
            self.changes.append(change_of(number, tracks))
        self.totals_us.append(tracks.timing.total)
        image = masks = None
        if self.wants_image and settlement.detections is not None:
            image, masks = getattr(settlement.head, "image", None), settlement.detections.masks
        self.latest = Settled(number, tracks, image, masks)
        if settlement.detections is not None:
            self.tracked = self.latest
        self.number = number
        if self.awaited:
            self.awaited = False
            self._call()

    def newest(self, after: int) -> Settled | None:
        """Return the newest frame with a number above `after`, a tracked one if there is one; None if there is none."""
        tracked, latest = self.tracked, self.latest
        if tracked is not None and tracked.number > after:
            return tracked
        return latest if latest is not None and latest.number > after else None


@dataclass(slots=True, eq=False)
class Watch:
    """One stream of one page.

    Attributes:
        tick: the period of the page's rate in which a frame was last handed to it.
        shown: the number of that frame.
        unsent: that frame is not sent yet, so no other one is encoded for it.
        missed: a newer frame has come meanwhile, so the viewer's thread is called once it is sent.
    """

    page: Viewing
    stream: str
    wish: Wish
    tick: int = -1
    shown: int = 0
    unsent: bool = False
    missed: bool = False

    @property
    def period_ns(self) -> int:
        """The time between two frames at the page's rate."""
        return 1_000_000_000 // self.wish.fps


class Viewing(Protocol):
    """A page as the viewer's thread uses it. Each method may be called on any thread, and does not wait."""

    def show(self, watch: Watch, message: bytes) -> None:
        """Send a frame; call the hub's `sent` afterwards."""

    def tell_streams(self, message: bytes) -> None:
        """Send the list of streams, in place of one that is not sent yet."""

    def tell_event(self, message: bytes) -> None:
        """Send an event."""


@dataclass(frozen=True, slots=True, eq=False)
class PageRequest:
    """A request of a page, for the IO thread.

    Attributes:
        client: the page's name in the budget of handling time.
        control: the page may act.
        answer: sends the reply; called once.
        answer_with_rows: sends a list of settlements as the reply.
    """

    client: str
    control: bool
    ask: Ask
    answer: Callable[[Reply], None]
    answer_with_rows: Callable[[list[Tracks]], None]


@dataclass(frozen=True, slots=True)
class StreamRow:
    """An open stream as the IO thread knows it."""

    stream: str
    epoch: int
    model: str
    next_seq: int
    skeleton: Skeleton | None = None
    frame_shape: tuple[int, ...] | None = None
    queue_depth: int = 0
    unavailable: str | None = None
    zones_number: int = 0  # of the last change of its zones and lines
    recording: Mapping[str, Any] | None = None  # what is told of its recording


@dataclass(slots=True)
class Hub:
    """What the three threads share.

    Attributes:
        watched: the slot of each stream that a page watches; empty nearly always.
        pages: those that are admitted.
        due: requests of pages that wait for the IO thread; None asks it for the rows of `streams`.
        rows: the open streams, as the IO thread last listed them.
        fleet: the streams of the other members; None where this daemon is in no fleet.
        events: of streams, not told yet.
        wake_io: wakes the IO thread.
    """

    watched: dict[str, Slot] = field(default_factory=dict)
    pages: tuple[Viewing, ...] = ()
    due: deque[PageRequest | None] = field(default_factory=deque)
    rows: list[StreamRow] | None = None
    fleet: FleetView | None = None
    events: deque[Event] = field(default_factory=lambda: deque(maxlen=_MOST_EVENTS))
    calls: SimpleQueue[None] = field(default_factory=SimpleQueue)
    wake_io: Callable[[], None] = lambda: None

    def call(self) -> None:
        """Let the viewer's thread look at the slots."""
        self.calls.put(None)

    # --- the IO thread ---

    def tell(self, event: Event) -> None:
        """Tell all pages an event; a stream that opens or closes changes their list of streams."""
        self.events.append(event)
        self.due.append(None)
        self.calls.put(None)

    def list_streams(self, rows: list[StreamRow], fleet: FleetView | None = None) -> None:
        """Hand over the open streams, and those of the other members of a fleet."""
        self.fleet = fleet  # before the rows: they are what the viewer's thread looks for
        self.rows = rows
        self.calls.put(None)

    # --- the HTTP server's thread ---

    def add(self, page: Viewing) -> None:
        """Admit a page."""
        self.pages = (*self.pages, page)
        self.request(None)

    def remove(self, page: Viewing) -> None:
        """Forget a page."""
        self.watch(page, {})
        self.pages = tuple(other for other in self.pages if other is not page)

    def request(self, request: PageRequest | None) -> None:
        """Hand a request to the IO thread; a page bounds how many of its own wait."""
        self.due.append(request)
        self.wake_io()

    def sent(self, watch: Watch) -> None:
        """Note that the frame of a watch is sent."""
        watch.unsent = False
        if watch.missed:  # after `unsent`: the viewer's thread writes and reads them in the other order
            watch.missed = False
            self.call()

    def watch(self, page: Viewing, wishes: Mapping[str, Wish]) -> None:
        """Show a page these streams, in place of those before. What is the same goes on as it is."""
        for name in {*self.watched, *wishes}:
            slot = self.watched.get(name)
            watches = () if slot is None else slot.watches
            old = next((watch for watch in watches if watch.page is page), None)
            wish = wishes.get(name)
            if wish is None and old is None:
                continue
            if slot is None:
                slot = Slot(self.call)
            if wish is None:
                watches = tuple(watch for watch in watches if watch is not old)
            elif old is None:
                watches = (*watches, Watch(page, name, wish, shown=slot.number))
            else:
                old.wish = wish
            slot.watches = watches
            slot.wants_image = any(watch.wish.image for watch in watches)
            if watches:
                self.watched[name] = slot
            else:
                del self.watched[name]
        self.call()
