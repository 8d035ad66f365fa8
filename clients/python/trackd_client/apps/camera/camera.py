"""A camera: each frame is grabbed, detected and sent, in this order, until the source ends or `stop` is called."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import cv2

from trackd_client.apps.camera.grabber import Grabbed, Grabber
from trackd_client.apps.camera.options import CameraOptions, Images, images_for, stream_config
from trackd_client.apps.camera.progress import Progress, Rate, Settlements
from trackd_client.apps.camera.source import spread_images
from trackd_client.apps.camera.video import RecordedVideo
from trackd_client.detections import Detections, Image
from trackd_client.detectors.detector import Detector, DetectorError
from trackd_client.errors import Timeout, TrackdError
from trackd_client.excerpt import excerpt
from trackd_client.protocol import EncodedImage
from trackd_client.sending.stream import Stream
from trackd_client.stream_client import StreamClient

logger = logging.getLogger(__name__)

LEARNED_IMAGES = 25  # of a file, for `Detector.prepare`
SLICE_S = 0.2  # the longest wait for a frame, after which progress is shown
SEND_S = 2.0  # the longest wait for a daemon that has no room
FOLLOW_S = 2.0  # the wait for the last settlements at the end
NONE_FRAMES = 150  # without any detection, after which it is said
DEFAULT_FPS = 30.0  # of a video, where the source claims no rate


class Camera:
    """Runs one source as one stream.

    Args:
        client: connected to the daemon.
        grabber: of the open source.
        detector: finds the animals.
        options: of the stream, the images and the recording.
        animals: the number of animals in view, as `max_tracks`; None: not known.

    Attributes:
        name: the stream's name.
        video: the recorded video, once `run` has begun it.
    """

    def __init__(
        self,
        client: StreamClient,
        grabber: Grabber,
        detector: Detector,
        options: CameraOptions | None = None,
        animals: int | None = None,
    ) -> None:
        self._client, self._grabber, self._detector = client, grabber, detector
        self._options = options or CameraOptions()
        self._animals = animals
        self._images = images_for(self._options.images, client.ingest_endpoint)
        self._stop = threading.Event()
        self._settlements = Settlements()
        self._rates = (Rate(), Rate())
        self._detected = self._sent = self._lost = self._rejected = self._n = 0
        self._found = False  # any animal, in any frame
        self._began_s: float | None = None
        self._ended_s: float | None = None
        self.causes: list[str] = []
        self.name = self._options.stream or grabber.source.stream
        self.video: RecordedVideo | None = None
        self.running = False

    def stop(self) -> None:
        """End `run` after the frame that it sends now. Any thread and any signal handler may call it."""
        self._stop.set()

    def run(self, on_progress: Callable[[Progress], None] | None = None) -> Progress:
        """Run the camera to its end, and close its stream and its video.

        Args:
            on_progress: called several times a second.

        Raises:
            TrackdError: the daemon refuses the stream, or the video cannot be written.
            DetectorError: the detector has failed.
            StreamLost: another client has taken the stream.
        """
        source = self._grabber.source
        if not source.is_live:
            self._detector.prepare(spread_images(source, LEARNED_IMAGES, gray=len(self._grabber.shape) == 2))
        try:
            self._begin_video()
            with self._open() as stream:
                follower = threading.Thread(target=self._follow, args=(stream.next_seq,), name="follow", daemon=True)
                follower.start()
                self._grabber.start()
                self.running = True
                try:
                    self._loop(stream, on_progress)
                finally:
                    self._ended_s = time.monotonic()
                    self._grabber.stop()
                    self._rejected, self.causes = stream.n_rejected, stream.rejection_causes
            follower.join(FOLLOW_S)
        finally:
            self._grabber.stop()
            if self.video is not None:
                self.video.close()
        return self.progress()

    def progress(self) -> Progress:
        """Return the state now."""
        grabbed = self._grabber.grabbed
        known = self._settlements.percentiles()
        until_s = self._ended_s if self._ended_s is not None else time.monotonic()
        return Progress(
            seconds=0.0 if self._began_s is None else until_s - self._began_s,
            grabbed=grabbed,
            detected=self._detected,
            sent=self._sent,
            lost=self._lost,
            rejected=self._rejected,
            grabbed_fps=self._rates[0].per_second(grabbed),
            sent_fps=self._rates[1].per_second(self._sent),
            detections=self._n,
            ids=self._settlements.ids,
            p50_ms=None if known is None else known[0],
            p99_ms=None if known is None else known[1],
            reconnects=self._grabber.reconnects,
        )

    @property
    def nothing(self) -> str | None:
        """That no frame had a detection so far, and why if the detector knows it, in one line; None if one had."""
        if self._found or not self._detected:
            return None
        why = self._detector.why_none()
        return f"no detections in {self._detected} frames" + ("" if why is None else f": {why}")

    def _begin_video(self) -> None:
        folder = self._options.record
        if folder is not None:
            fps = self._grabber.fps or DEFAULT_FPS
            self.video = RecordedVideo(folder, self.name, self._grabber.shape, fps)

    def _open(self) -> Stream:
        """Open the stream, or continue one that an earlier camera has left open, with its ids."""
        stream = self._open_once()
        if self.video is not None and stream.next_seq:
            logger.warning("stream=%s was left open; closing it, since a recording begins with frame 0", self.name)
            stream.close()
            stream = self._open_once()
        stream.logs_rejections = False  # their causes are shown at the end
        return stream

    def _open_once(self) -> Stream:
        source = self._grabber.source
        return self._client.open_stream(
            self.name,
            config=stream_config(self._options, self._animals),
            frame_shape=self._grabber.shape,
            skeleton=self._detector.skeleton,
            model=self._options.model,
            takeover=self._options.takeover,
            source=source.shown if self.video is None else str(self.video.path.resolve()),
            shared_memory=self._images is Images.SHARED,
        )

    def _loop(self, stream: Stream, on_progress: Callable[[Progress], None] | None) -> None:
        first: int | None = None
        offset = stream.last_frame_index + 1
        expected = offset
        shown_s = time.monotonic()
        while not self._stop.is_set():
            frame = self._grabber.next(SLICE_S)
            if frame is not None:
                if first is None:
                    first, self._began_s = frame.index, time.monotonic()
                index = offset + frame.index - first
                if self._process(stream, frame, index):
                    self._lost += index - expected
                    expected = index + 1
            elif self._grabber.ended:
                return
            if on_progress is not None and time.monotonic() - shown_s >= SLICE_S:
                shown_s = time.monotonic()
                self._rejected = stream.n_rejected
                on_progress(self.progress())

    def _process(self, stream: Stream, frame: Grabbed, index: int) -> bool:
        """Detect, send and record one frame; false if the daemon had no room for it."""
        if frame.image.shape != self._grabber.shape:
            raise TrackdError(
                f"{self._grabber.source.shown}: an image is {_size(frame.image.shape)}, and the first one was "
                f"{_size(self._grabber.shape)}: images of one stream have one size"
            )
        found = self._detect(frame, index)
        self._detected += 1
        self._n = len(found)
        self._found = self._found or self._n > 0
        if self._detected == NONE_FRAMES and (nothing := self.nothing) is not None:
            logger.warning("stream=%s: %s", self.name, nothing)
        image = self._image(frame.image)
        while True:
            try:
                stream.send(image, found, frame_index=index, t_ns=frame.t_ns, timeout_s=SEND_S)
                break
            except Timeout as error:
                logger.warning("%s", error.message)
                if self._stop.is_set() or self._grabber.source.is_live or not self._grabber.playing.lossless:
                    return False
            except OSError as error:
                raise TrackdError(f"images in shared memory: {error.strerror}; --images jpeg needs none") from None
        self._sent += 1
        if self.video is not None:
            self.video.write(index, frame.image)
        return True

    def _detect(self, frame: Grabbed, index: int) -> Detections:
        try:
            found = self._detector(frame.image)
        except DetectorError:
            raise
        except Exception as error:
            logger.info("the detector has failed", exc_info=True)
            text = " ".join(str(error).split())
            raise DetectorError(f"the detector failed at frame {index}: {type(error).__name__}: {text}") from error
        if not isinstance(found, Detections):
            raise DetectorError(f"the detector must return trackd_client.Detections; got {excerpt(found)}")
        return found

    def _image(self, image: Image) -> Image | EncodedImage | None:
        if self._images is Images.NONE:
            return None
        if self._images is Images.SHARED:
            return image
        bgr = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        ok, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, self._options.jpeg_quality])
        if not ok:
            raise TrackdError(f"an image of {_size(image.shape)} cannot be a JPEG")
        return EncodedImage("jpeg", data.tobytes())

    def _follow(self, from_seq: int) -> None:
        with suppress(TrackdError):  # the client was closed
            for tracks in self._client.tracks(self.name, from_seq=from_seq, until_closed=True):
                self._settlements.add(tracks)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} × {shape[0]}" + (" gray" if len(shape) == 2 else "")
