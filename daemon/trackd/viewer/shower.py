"""The viewer's thread: encodes the newest frames of watched streams, and tells pages of streams and events.

A frame is encoded at most once for each size that pages ask for, and only if a page can take it: the page's rate allows
it, and its last frame of that stream is sent. Otherwise the frame is skipped; nothing is queued. While frames wait for
their steps, pages get fewer pictures: the processor time belongs to tracking.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from queue import Empty

from trackd.engine.inbox import Inbox
from trackd.viewer.figures import Figures
from trackd.viewer.hub import Encoded, Hub, Settled, Slot, Watch
from trackd.viewer.messages import event_message, frame_message, streams_message
from trackd.viewer.outlines import outlines_of
from trackd.viewer.pictures import PictureError, picture

logger = logging.getLogger(__name__)

# Higher values mean less processor time. A thread of the lowest priority may be preempted while it holds the
# interpreter lock, and then the IO thread waits for it.
_NICE = 5
_IDLE_NS = 500_000_000  # without a call
_BEHIND = 2  # frames that wait in one stream: the daemon is behind
_BEHIND_NS = 200_000_000  # at least, between two frames of a stream for a page, while the daemon is behind


class Shower:
    """Encodes frames and lists for all pages.

    Args:
        hub: the hand-over.
        inbox: the counts of all streams.
        clock: monotonic ns.
    """

    def __init__(self, hub: Hub, inbox: Inbox, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._hub = hub
        self._inbox = inbox
        self._figures = Figures(inbox)
        self._clock = clock
        self._stopping = False

    def run(self) -> None:
        """Run the viewer's thread until `stop`."""
        if sys.platform == "linux":  # elsewhere the priority is that of the whole process
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICE)
        wait_s = 0.0
        while not self._stopping:
            with contextlib.suppress(Empty):
                self._hub.calls.get(timeout=wait_s)
                while True:
                    self._hub.calls.get_nowait()
            try:
                wait_s = self.turn()
            except Exception:
                # A fault of the viewer must not end the daemon; the pause bounds the log.
                logger.exception("the viewer could not show a frame")
                time.sleep(_IDLE_NS / 1e9)

    def stop(self) -> None:
        """Make `run` return."""
        self._stopping = True
        self._hub.call()

    def turn(self) -> float:
        """Show all that is due; return the seconds until more may be due without a call."""
        self._tell()
        now = self._clock()
        slots = list(self._hub.watched.values())
        least_ns = _BEHIND_NS if slots and self._inbox.backlog >= _BEHIND else 0
        due_ns = min((self._show(slot, now, least_ns) for slot in slots), default=now + _IDLE_NS)
        return max(0, due_ns - self._clock()) / 1e9

    def _tell(self) -> None:
        hub = self._hub
        while hub.events:
            message = event_message(hub.events.popleft())
            for page in hub.pages:
                page.tell_event(message)
        rows, hub.rows = hub.rows, None
        if rows is not None:
            shown, figures = self._figures.of(rows, hub.watched, self._clock())
            fleet = hub.fleet
            others = None if fleet is None else fleet.message({row.stream for row in rows})
            message = streams_message(shown, figures, others)
            for page in hub.pages:
                page.tell_streams(message)

    def _show(self, slot: Slot, now: int, least_ns: int) -> int:
        """Show a stream's newest frame to all pages that can take it; return when it may be due for another one.

        Args:
            slot: the stream.
            now: monotonic ns.
            least_ns: at least, between two frames for a page.
        """
        slot.awaited = True  # before the frame is read: a later one calls
        awaited = False
        due_ns = now + _IDLE_NS
        for watch in slot.watches:
            settled = slot.newest(watch.shown)
            if settled is None:
                awaited = True
                continue
            if watch.unsent:
                watch.missed = True
                if watch.unsent:  # else it was sent just now
                    continue
            tick = now // watch.period_ns
            skipped = -(-least_ns // watch.period_ns) or 1  # periods from one frame to the next
            first = tick - tick % skipped  # pages of one rate get the same frames, so that each is encoded once
            if watch.tick >= first:
                due_ns = min(due_ns, (first + skipped) * watch.period_ns)
            else:
                self._hand_over(slot, watch, settled)
                watch.tick = tick
                awaited = True
        slot.awaited = awaited
        return due_ns

    def _hand_over(self, slot: Slot, watch: Watch, settled: Settled) -> None:
        image = file = outlines = None
        if slot.encoded.number != settled.number:
            slot.encoded = Encoded(settled.number)
            if settled.masks is not None:
                slot.encoded.outlines = outlines_of(settled.masks, settled.tracks.boxes)
        if watch.wish.image:
            image, outlines, files = settled.image, slot.encoded.outlines, slot.encoded.files
            if watch.wish.width not in files:
                files[watch.wish.width] = _file(settled, watch.wish.width)
            file = files[watch.wish.width]
        changes = [change for change in list(slot.changes) if watch.shown < change[0] <= settled.number]
        message = frame_message(settled.tracks, image, file, changes, outlines)
        watch.shown, watch.unsent = settled.number, True
        watch.page.show(watch, message)


def _file(settled: Settled, width: int) -> bytes | None:
    if settled.image is None:
        return None
    try:
        return picture(settled.image, width)
    except PictureError as error:
        logger.debug("stream=%s seq=%d: not shown: %s", settled.tracks.stream, settled.tracks.seq, error)
        return None
