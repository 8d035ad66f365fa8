"""Drawn animals with distinct looks, of which two meet unseen and turn back: a tracker takes them for each other."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trackd_client import Detections
from trackd_client.protocol import Tracks

SIDE, SHAPE = 24, (160, 400)
MEET = 90  # the moment in which the first two animals meet and turn back
GONE, BACK, END = MEET - 15, MEET + 16, 170  # nobody sees them in between
LEARNS = ("tracker.learn_identities=true", "tracker.use_vis_feats=false", "tracker.max_tracks=3")
PATTERNS = np.random.default_rng(0).integers(40, 220, (3, 6, 6)).astype(np.uint8)


def places(moment: int) -> np.ndarray:
    """The left upper corners (3, 2): the first two move towards each other and turn back, the third one stays away."""
    reach = 158 - 1.6 * abs(moment - MEET)
    return np.array([[20 + reach, 40.0], [SHAPE[1] - 20 - SIDE - reach, 40.0], [60 + 0.8 * moment, 120.0]])


def drawn(moment: int, random: np.random.Generator, patterns: np.ndarray = PATTERNS):
    """An image of three patterned squares, their boxes, and which animal each box is."""
    shown = [2] if GONE <= moment < BACK else [0, 1, 2]
    corners = places(moment)
    image = random.normal(128, 4, SHAPE).clip(0, 255).astype(np.uint8)
    boxes = []
    for animal in shown:
        x, y = corners[animal].round().astype(int)
        pattern = np.kron(patterns[animal], np.ones((4, 4))) + random.normal(0, 6, (SIDE, SIDE))
        image[y : y + SIDE, x : x + SIDE] = pattern.clip(0, 255)
        boxes.append([x, y, x + SIDE, y + SIDE])
    return image, Detections(boxes=np.array(boxes, np.float32)), shown


def send(stream, first: int, last: int) -> list[tuple[dict[int, int], Tracks]]:
    """Send a frame of each moment; its index is the moment. Returns the ids by animal, and the settlement."""
    return send_moments(stream, range(first, last), first)


def send_moments(
    stream, moments: Iterable[int], first_index: int, patterns: np.ndarray = PATTERNS
) -> list[tuple[dict[int, int], Tracks]]:
    """Send frames of some moments, with indices that rise by one; the same as `send`."""
    found = []
    for index, moment in enumerate(moments, first_index):
        image, detections, shown = drawn(moment, np.random.default_rng(index), patterns)
        tracks = stream.track(image, detections, frame_index=index, t_ns=round(index / 30 * 1e9))
        assert tracks.track_ids is not None
        found.append((dict(zip(shown, tracks.track_ids.tolist(), strict=True)), tracks))
    return found
