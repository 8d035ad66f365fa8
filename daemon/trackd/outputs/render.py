"""Video of tracks over the images: boxes or poses, ids, and fading trails, as an .mp4.

Letters: h × w the frame, n instances, k keypoints.
"""

from __future__ import annotations

import colorsys
import logging
from collections import deque
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from trackd.outputs.h264 import Canvas, H264Video
from trackd.outputs.records import Floats, OutputRecord
from trackd_client.detections import Image, Skeleton

logger = logging.getLogger(__name__)

Colour = tuple[int, int, int]  # BGR

GOLDEN_RATIO = 0.618033988749895
UNASSIGNED: Colour = (150, 150, 150)
LABEL_INK: Colour = (20, 20, 20)
DESIGN_SIDE = 480  # of a picture, in pixels, for which the widths and sizes below are given
SMALLEST_SCALE, LARGEST_SCALE = 1.0, 16.0  # smaller labels cannot be read, and thinner lines lose their colour
FONT_SCALE = 0.45


def scale_of(canvas: Canvas) -> float:
    """The factor of all widths and sizes in a picture: its shorter side, compared with `DESIGN_SIDE`."""
    return float(np.clip(min(canvas.shape[:2]) / DESIGN_SIDE, SMALLEST_SCALE, LARGEST_SCALE))


def colour_of(track_id: int) -> Colour:
    """An id's colour: bright, the same in every frame and file, and unlike that of neighbouring ids."""
    if track_id < 0:
        return UNASSIGNED
    # Steps of the golden ratio spread any range of ids evenly over the hues.
    red, green, blue = colorsys.hsv_to_rgb((0.08 + track_id * GOLDEN_RATIO) % 1, 0.72, 1.0)
    return int(blue * 255), int(green * 255), int(red * 255)


class TrackDrawing:
    """Draws frame after frame; keeps the positions of each track for `trail_frames` frames."""

    def __init__(self, skeleton: Skeleton | None = None, *, trail_frames: int = 45) -> None:
        self._skeleton = skeleton
        self._trail_frames = trail_frames
        self._trails: dict[int, deque[tuple[int, tuple[float, float]]]] = {}

    def draw(self, image: Image, record: OutputRecord) -> Canvas:
        """Return a copy of `image` (h, w) or (h, w, 3) RGB with the record's tracks drawn on it."""
        canvas = _canvas(image)
        scale = scale_of(canvas)
        self._extend_trails(record)
        for track_id, trail in self._trails.items():
            self._draw_trail(canvas, colour_of(track_id), trail, record.frame_index, scale)
        posed = record.keypoints is not None and record.keypoints.shape[1] > 1
        for row, track_id in enumerate(record.track_ids):
            box = record.boxes[row]
            if not np.isfinite(box).all():
                continue
            colour = colour_of(int(track_id))
            if posed and record.keypoints is not None:
                _draw_pose(canvas, colour, record.keypoints[row], self._skeleton, scale)
            else:
                cv2.rectangle(canvas, _pixel(box[:2]), _pixel(box[2:]), colour, _width(2, scale), cv2.LINE_AA)
            if track_id >= 0:
                points = record.keypoints[row] if posed and record.keypoints is not None else None
                name = record.names.get(int(track_id), str(int(track_id)))
                _draw_label(canvas, colour, name, _label_place(box, points, scale), scale)
        return canvas

    def _extend_trails(self, record: OutputRecord) -> None:
        centres = (record.boxes[:, :2] + record.boxes[:, 2:]) / 2
        for track_id, (x, y) in zip(record.track_ids, centres, strict=True):
            if track_id >= 0 and np.isfinite([x, y]).all():
                trail = self._trails.setdefault(int(track_id), deque(maxlen=self._trail_frames))
                trail.append((record.frame_index, (float(x), float(y))))
        oldest = record.frame_index - self._trail_frames
        for track_id, trail in list(self._trails.items()):
            while trail and trail[0][0] < oldest:
                trail.popleft()
            if not trail:
                del self._trails[track_id]

    def _draw_trail(
        self, canvas: Canvas, colour: Colour, trail: deque[tuple[int, tuple[float, float]]], now: int, scale: float
    ) -> None:
        points = list(trail)
        for (_, start), (frame_index, end) in pairwise(points):
            strength = 0.85 * max(0.0, 1 - (now - frame_index) / self._trail_frames)
            # A mix with the pixel below looks like transparency, and needs no second layer.
            x, y = np.clip(_pixel(end), 0, (canvas.shape[1] - 1, canvas.shape[0] - 1))
            mixed = strength * np.array(colour) + (1 - strength) * canvas[y, x]
            width = 3 if strength > 0.5 else 2 if strength > 0.2 else 1
            shade = (int(mixed[0]), int(mixed[1]), int(mixed[2]))
            cv2.line(canvas, _pixel(start), _pixel(end), shade, _width(width, scale), cv2.LINE_AA)


class RenderedVideo:
    """An .mp4 of drawn frames. It is opened at the first frame, and has a temporary name until `close`."""

    def __init__(self, path: Path, fps: float, skeleton: Skeleton | None = None) -> None:
        self.path = path
        self._fps = fps
        self._drawing = TrackDrawing(skeleton)
        self._temporary = path.with_name(f".{path.stem}.partial.mp4")
        self._writer: H264Video | None = None

    def write(self, image: Image, record: OutputRecord) -> None:
        """Add one frame.

        Raises:
            OSError: the file cannot be written.
        """
        canvas = self._drawing.draw(image, record)
        if self._writer is None:
            self._writer = H264Video(self._temporary, self._fps, (canvas.shape[1], canvas.shape[0]))
        self._writer.write(canvas)

    def close(self) -> None:
        """Finish the file; without a frame there is no file.

        Raises:
            OSError: the file does not hold all frames, as on a full disk.
        """
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.close()
            n_frames = cv2.VideoCapture(str(self._temporary)).get(cv2.CAP_PROP_FRAME_COUNT)
            if n_frames != writer.n_frames:
                raise OSError(f"{n_frames:.0f} of its {writer.n_frames} frames are in the file; is the disk full?")
        except OSError:
            self._temporary.unlink(missing_ok=True)
            raise
        self._temporary.replace(self.path)

    def __enter__(self) -> RenderedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _canvas(image: Image) -> Canvas:
    eight_bits = image.astype(np.uint8) if image.dtype == np.uint8 else _eight_bits(image)
    if eight_bits.ndim == 2 or eight_bits.shape[2] == 1:
        return np.asarray(cv2.cvtColor(eight_bits, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.asarray(cv2.cvtColor(eight_bits[..., :3], cv2.COLOR_RGB2BGR), np.uint8)


def _eight_bits(image: Image) -> NDArray[np.uint8]:
    """A 16-bit image, its range of values stretched to 8 bits: microscopes use a small part of the 16 bits."""
    low, high = np.percentile(image[::4, ::4], (0.5, 99.8))
    if high <= low:
        return (image >> 8).astype(np.uint8)
    return np.asarray(np.clip((image - low) * (255 / (high - low)), 0, 255).astype(np.uint8))


def _pixel(point: Floats | tuple[float, float]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _width(pixels: float, scale: float) -> int:
    """A line's width or a circle's radius in this picture, at least one pixel."""
    return max(round(pixels * scale), 1)


def _draw_pose(canvas: Canvas, colour: Colour, points: Floats, skeleton: Skeleton | None, scale: float) -> None:
    """Draw the visible nodes of (k, 2) and the edges between them, with a dark rim for contrast."""
    visible = np.asarray(np.isfinite(points).all(axis=1))
    edges = skeleton.edges if skeleton is not None else ()
    for rim, ink in ((4, LABEL_INK), (2, colour)):
        for first, second in edges:
            if visible[first] and visible[second]:
                cv2.line(canvas, _pixel(points[first]), _pixel(points[second]), ink, _width(rim, scale), cv2.LINE_AA)
    for point in points[visible]:
        cv2.circle(canvas, _pixel(point), _width(4, scale), LABEL_INK, -1, cv2.LINE_AA)
        cv2.circle(canvas, _pixel(point), _width(3, scale), colour, -1, cv2.LINE_AA)


def _label_place(box: Floats, points: Floats | None, scale: float) -> tuple[int, int]:
    """The position of an id's label: above the box, or above the topmost node of a pose."""
    if points is None:
        return _pixel((box[0], box[1] - 4 * scale))
    visible = points[np.isfinite(points).all(axis=1)]
    if not len(visible):
        return _pixel((box[0], box[1] - 4 * scale))
    top = visible[np.argmin(visible[:, 1])]
    return _pixel((top[0] + 8 * scale, top[1] - 10 * scale))


def _draw_label(canvas: Canvas, colour: Colour, text: str, place: tuple[int, int], scale: float) -> None:
    """Draw dark text on a rectangle of the track's colour, inside the frame."""
    font, stroke, margin = FONT_SCALE * scale, _width(1, scale), _width(3, scale)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font, stroke)
    x = int(np.clip(place[0], 0, max(canvas.shape[1] - width - 2 * margin, 0)))
    y = int(np.clip(place[1], height + 2 * margin, canvas.shape[0]))
    corner = (x + width + 2 * margin, y)
    cv2.rectangle(canvas, (x, y - height - 2 * margin), corner, colour, -1, cv2.LINE_AA)
    cv2.putText(canvas, text, (x + margin, y - margin), cv2.FONT_HERSHEY_SIMPLEX, font, LABEL_INK, stroke, cv2.LINE_AA)
