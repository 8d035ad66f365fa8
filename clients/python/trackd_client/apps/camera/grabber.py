"""The frames of a source, grabbed on a thread of its own; a slow reader gets the newest one.

`cap.grab()` returns when a frame has arrived, so the time right after it is the capture time. A frame that waits for
the reader is replaced by the next one, except where nothing may be lost.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import cv2

from trackd_client.apps.camera.frame_numbers import FrameNumbers
from trackd_client.apps.camera.source import Source, SourceError, channels, open_capture, rate_of
from trackd_client.detections import Image

logger = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 10.0  # between two attempts to reconnect
SLICE_S = 0.1  # the longest sleep of a thread that may be stopped
JOIN_S = 3.0
MAX_SPEED = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Grabbed:
    """A frame of a source."""

    index: int  # the source's own number, from 0; rises, with gaps where frames were lost
    t_ns: int  # capture time, Unix ns; rises
    image: Image  # (h, w) gray or (h, w, 3) RGB, uint8


@dataclass(frozen=True, slots=True)
class Playing:
    """How a source is played; `speed`, `loop` and `lossless` apply to files."""

    speed: float = 1.0  # multiple of the recorded rate; infinity: as fast as the reader, without a loss
    loop: bool = False  # begin again at the end
    lossless: bool = False  # wait for the reader; else frames that it has no time for are lost
    gray: bool = False  # images with one channel


class Grabber:
    """Grabs the frames of an open source. One thread reads them with `next`; any may call `stop`.

    Args:
        source: opened here, so that a source that cannot be opened is an error at once.
        playing: how.

    Attributes:
        fps: the rate that the source claims, or None.
        shape: (h, w) or (h, w, 3) of its images.
        grabbed: the number of frames that were grabbed.
        reconnects: how often a live source has returned.

    Raises:
        SourceError: the source cannot be opened, or gives no image.
    """

    def __init__(self, source: Source, playing: Playing | None = None) -> None:
        self.source = source
        self.playing = playing or Playing()
        self.grabbed = 0
        self.reconnects = 0
        self._capture = open_capture(source)
        self.fps = rate_of(self._capture)
        self.shape = self._first_shape()
        self._waits = not source.is_live and (self.playing.lossless or self.playing.speed == MAX_SPEED)
        self._changed = threading.Condition()  # guards the fields below
        self._newest: Grabbed | None = None
        self._ended = False
        self._stopped = False
        self._last_ns = 0
        self._thread = threading.Thread(target=self._run, name=f"grab {source.shown}", daemon=True)

    def _first_shape(self) -> tuple[int, ...]:
        ok, image = self._capture.read()
        if not ok:
            self._capture.release()
            raise SourceError(f"{self.source.shown}: it gives no image")
        if not self.source.is_live:  # the first image is played too
            self._capture.release()
            self._capture = open_capture(self.source)
        return channels(image, gray=self.playing.gray).shape

    def start(self) -> None:
        """Begin to grab."""
        self._thread.start()

    def next(self, timeout_s: float | None = None) -> Grabbed | None:
        """Return the newest frame that was not returned yet; wait for one. None at the end, or after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self._ended, timeout_s)
            frame, self._newest = self._newest, None
            self._changed.notify_all()
            return frame

    @property
    def ended(self) -> bool:
        """Whether no frame will follow."""
        with self._changed:
            return self._ended and self._newest is None

    def stop(self) -> None:
        """End the thread and close the source. A frame that waits is given up."""
        with self._changed:
            self._stopped = True
            self._newest = None
            self._changed.notify_all()
        if self._thread.ident is None:
            self._capture.release()
        elif self._thread is not threading.current_thread():
            self._thread.join(JOIN_S)  # a driver may hang in grab(); the thread then ends with the process

    def _run(self) -> None:
        try:
            if self.source.is_live:
                self._grab_live()
            else:
                self._play()
        except SourceError as error:
            logger.warning("%s", error)
        finally:
            self._capture.release()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _play(self) -> None:
        period_s = 1 / ((self.fps or 30.0) * self.playing.speed)
        index = 0
        due_s = time.monotonic()
        while not self._stopped:
            begun = index
            while self._sleep_until(due_s) and self._capture.grab():
                self._put(index)
                index += 1
                # A file that is decoded too slowly is late from then on; it does not rush to catch up.
                due_s = max(due_s + period_s, time.monotonic() - period_s)
            if not self.playing.loop or index == begun:
                return
            # Opening again is exact for every container, and a seek is not.
            self._capture.release()
            self._capture = open_capture(self.source)

    def _grab_live(self) -> None:
        numbers = FrameNumbers()
        clock = _SourceClock()
        while not self._stopped:
            if self._capture.grab():
                now_s = time.monotonic()
                self._put(numbers.next(clock.seconds(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3, now_s)))
            elif not self._reconnect():
                return
            else:
                clock = _SourceClock()

    def _reconnect(self) -> bool:
        """Open the source again, as often as needed; false if stopped meanwhile."""
        logger.warning("%s gives no frames; reconnecting", self.source.shown)
        pause_s = FIRST_PAUSE_S
        while True:
            self._capture.release()
            if not self._sleep_until(time.monotonic() + pause_s):
                return False
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            try:
                self._capture = open_capture(self.source)
            except SourceError as error:
                logger.info("%s", error)
                continue
            self.reconnects += 1
            logger.warning("%s is back", self.source.shown)
            return True

    def _sleep_until(self, due_s: float) -> bool:
        """Sleep; return whether the grabber goes on."""
        while not self._stopped:
            left_s = due_s - time.monotonic()
            if left_s <= 0:
                return True
            time.sleep(min(left_s, SLICE_S))
        return False

    def _put(self, index: int) -> None:
        """Give the frame that was grabbed to the reader."""
        self._last_ns = t_ns = max(time.time_ns(), self._last_ns + 1)
        ok, image = self._capture.retrieve()
        if not ok:  # damaged; its number is a gap
            return
        frame = Grabbed(index, t_ns, channels(image, gray=self.playing.gray))
        with self._changed:
            self.grabbed += 1
            if self._waits:
                self._changed.wait_for(lambda: self._newest is None or self._stopped)
            if not self._stopped:
                self._newest = frame
            self._changed.notify_all()


class _SourceClock:
    """The times of frames: the source's own, if it rises, since this thread may be late; else this host's.

    Both count from an unknown beginning, so a source's times are shifted to the host's at the first frame.
    """

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last_s = -1.0
        self._usable = True

    def seconds(self, source_s: float, now_s: float) -> float:
        """Return the time of a frame."""
        if self._first is None:
            self._first = (source_s, now_s)
        elif source_s <= self._last_s or abs((source_s - self._first[0]) - (now_s - self._first[1])) > 1.0:
            self._usable = False  # it stands still, as of a stream without times, or counts something else
        self._last_s = source_s
        return self._first[1] + source_s - self._first[0] if self._usable else now_s
