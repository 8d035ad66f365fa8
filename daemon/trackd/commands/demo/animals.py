"""The drawings of the demo: a sandy tank from above, a stone to hide under, and fish that bend as they swim.

Everything is drawn with OpenCV from a seeded generator. Letters: A animals, P points along a spine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Canvas = NDArray[np.uint8]  # (h, w, 3) BGR

SPINE = np.linspace(0, 1, 25)  # (P,) from the snout to the root of the tail fin
HEAD, THORAX, TAIL = 0.06, 0.38, 1.0  # where the three nodes lie on it
# Half the body's width along the spine, as a fraction of its widest place.
OUTLINE = np.interp(SPINE, [0, 0.04, 0.1, 0.25, 0.42, 0.7, 0.88, 1], [0.12, 0.42, 0.7, 0.98, 1, 0.52, 0.22, 0.14])
SUBPIXEL_BITS = 4
# Back colours (BGR): close to each other, as animals of one species are.
BACKS = ((70, 104, 128), (58, 88, 150), (104, 108, 92), (64, 118, 112), (92, 86, 122), (52, 76, 104), (84, 128, 146))


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one animal, the same in all frames."""

    length_px: float
    width_px: float  # at the widest place
    back: tuple[float, float, float]  # BGR
    bands: Floats  # (bands, 2) from and to, along the spine
    spots: Floats  # (spots, 3) along the spine, across it (-1 to 1), radius in px
    band_shade: float  # below 1 darkens, above 1 lightens


def make_body(generator: np.random.Generator, number: int, height_px: int) -> Body:
    """Make the body of an individual: its size, its colour, and its pattern of bands and spots."""
    length = height_px / 480 * generator.uniform(62, 84)
    tint = generator.uniform(0.86, 1.14, 3)
    back = np.clip(np.array(BACKS[number % len(BACKS)]) * tint, 30, 190)
    starts = np.sort(generator.uniform(0.16, 0.86, generator.integers(2, 6)))
    spots = np.column_stack(
        [
            generator.uniform(0.14, 0.8, 14),
            generator.uniform(-0.7, 0.7, 14),
            length / 75 * generator.uniform(0.7, 1.7, 14),
        ]
    )
    return Body(
        length_px=float(length),
        width_px=float(length * generator.uniform(0.2, 0.25)),
        back=(float(back[0]), float(back[1]), float(back[2])),
        bands=np.column_stack([starts, starts + generator.uniform(0.025, 0.06, len(starts))]),
        spots=spots[: int(generator.integers(4, 15))],
        band_shade=float(generator.choice([0.55, 0.62, 1.35])),
    )


def spine_of(body: Body, thorax: Floats, heading: float, bend: float, beat: float) -> Floats:
    """The points (P, 2) of a body at `thorax`, with the phase of its tail's beat and the bend of its turn."""
    along = (THORAX - SPINE) * body.length_px
    reach = SPINE - THORAX
    wave = 0.085 * np.maximum(SPINE - 0.15, 0) ** 1.5 * np.sin(beat - 5.2 * SPINE)
    # In a turn, head and tail are on the inner side.
    across = body.length_px * (wave + 0.2 * bend * reach**2)
    forward = np.array([np.cos(heading), np.sin(heading)])
    left = np.array([-forward[1], forward[0]])
    points: Floats = thorax + along[:, None] * forward + across[:, None] * left
    return points


def node_positions(spine: Floats) -> Floats:
    """Head, thorax and tail (3, 2) of a spine (P, 2)."""
    return np.stack(
        [np.array([np.interp(at, SPINE, spine[:, axis]) for axis in (0, 1)]) for at in (HEAD, THORAX, TAIL)]
    )


def body_outline(body: Body, spine: Floats, scale: float = 1.0) -> Floats:
    """The closed outline (2P, 2) of a body, its width scaled."""
    left, half = _left(spine), body.width_px / 2 * OUTLINE * scale
    return np.concatenate([spine + left * half[:, None], (spine - left * half[:, None])[::-1]])


def draw_fish(canvas: Canvas, body: Body, spine: Floats, beat: float) -> None:
    """Draw a fish from above: fins, a body that is lighter along the middle, its pattern, its eyes."""
    back = np.array(body.back)
    left = _left(spine)
    backwards = spine[-1] - spine[-4]
    backwards /= np.linalg.norm(backwards) + 1e-9
    side = np.array([-backwards[1], backwards[0]])
    fan = spine[-1] + body.length_px * (0.17 * backwards + 0.05 * np.sin(beat - 6.2) * side)
    spread = body.width_px * 0.3 * side
    _fill(canvas, np.stack([spine[-2], fan + spread, fan - 0.25 * (fan - spine[-1]), fan - spread]), back * 0.8 + 30)
    for sign in (-1, 1):
        root, flap = spine[8], 0.75 + 0.25 * np.sin(beat * 0.7 + sign)
        tip = root + sign * left[8] * body.width_px * flap + (spine[13] - root) * 1.1
        _fill(canvas, np.stack([root, tip, spine[12]]), back * 0.75 + 35)
    for scale, shade in ((1.0, 0.55), (0.86, 0.8), (0.62, 1.0), (0.36, 1.16), (0.14, 1.3)):
        _fill(canvas, body_outline(body, spine, scale), back * shade)
    half = body.width_px / 2 * OUTLINE
    for start, stop in body.bands:
        at = np.linspace(start, min(stop, 0.95), 4)
        centre = _along(spine, at)
        reach = (_along(left, at).T * np.interp(at, SPINE, half) * 0.82).T
        _fill(canvas, np.concatenate([centre + reach, (centre - reach)[::-1]]), back * body.band_shade)
    for at, across, radius in body.spots:
        where = np.array([at])
        centre = _along(spine, where)[0] + _along(left, where)[0] * across * np.interp(at, SPINE, half)
        _dot(canvas, centre, radius, back * 0.5)
    for sign in (-1, 1):
        eye = spine[2] + sign * left[2] * half[2] * 0.85
        _dot(canvas, eye, body.length_px * 0.024, np.array([225.0, 232, 235]))
        _dot(canvas, eye, body.length_px * 0.015, np.array([18.0, 16, 16]))


def sandy_ground(generator: np.random.Generator, width: int, height: int) -> Canvas:
    """Draw a tank's floor: sand in soft waves and grains, some pebbles, darker towards the walls."""
    soft = sum(_noise(generator, width, height, cells) / (i + 1) for i, cells in enumerate((5, 12, 30)))
    grain = generator.normal(0, 5.5, (height, width)) + 5 * _noise(generator, width, height, 120)
    level = 168 + 15 * soft + grain
    ground = np.clip(level[..., None] * np.array([0.80, 0.93, 1.0]), 0, 255).astype(np.uint8)
    for _ in range(70):
        centre = generator.uniform([0, 0], [width, height])
        axes = generator.uniform(2, 6.5, 2) * height / 480
        tone = generator.uniform(85, 205) * np.array([0.88, 0.95, 1.0])
        angle = float(generator.uniform(0, 180))
        _ellipse(ground, centre + 1.2, axes * 1.1, angle, tone * 0.55)
        _ellipse(ground, centre, axes, angle, tone)
        _ellipse(ground, centre - axes * 0.25, axes * 0.45, angle, np.minimum(tone * 1.15, 255))
    ground = cv2.GaussianBlur(ground, (0, 0), 0.8).astype(np.uint8)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade = 1 - 0.3 * np.clip(np.maximum(np.abs(x), np.abs(y)) - 0.45, 0, 1) ** 1.5
    shaded: Canvas = (ground * shade[..., None]).astype(np.uint8)
    return shaded


@dataclass(frozen=True, slots=True, eq=False)
class Stone:
    """A place to hide; it is drawn over the animals."""

    centre: Floats  # (2,)
    radius_px: float
    picture: Canvas  # (h, w, 3)
    cover: Floats  # (h, w, 1) opacity

    def hides(self, point: Floats) -> bool:
        """Whether a point is under the stone, not only at its edge."""
        return bool(np.linalg.norm(point - self.centre) < 0.86 * self.radius_px)

    def lay_over(self, canvas: Canvas) -> Canvas:
        """Draw the stone on a canvas, and return the canvas."""
        reach = 1.2 * self.radius_px
        (left, top), (right, bottom) = (np.maximum(self.centre + d, 0).astype(int) for d in (-reach, reach))
        part = (slice(top, bottom), slice(left, right))
        mixed = canvas[part] + (self.picture[part].astype(np.float32) - canvas[part]) * self.cover[part]
        canvas[part] = mixed.astype(np.uint8)
        return canvas


def make_stone(generator: np.random.Generator, width: int, height: int) -> Stone:
    """Make a round mossy stone in the lower right of the tank."""
    centre, radius = np.array([0.7 * width, 0.64 * height]), 0.125 * height
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    edge = radius * (1 + 0.05 * np.sin(3 * turn + 1) + 0.04 * np.sin(5 * turn) + generator.normal(0, 0.008, 48))
    outline = centre + np.column_stack([np.cos(turn), np.sin(turn)]) * edge[:, None]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [_fixed(outline)], 255, cv2.LINE_AA, SUBPIXEL_BITS)
    y, x = np.mgrid[:height, :width]
    dome = 1 - ((x - centre[0] + 0.3 * radius) ** 2 + (y - centre[1] + 0.35 * radius) ** 2) / (2.6 * radius**2)
    level = (
        62 + 78 * np.clip(dome, 0, 1) + 9 * _noise(generator, width, height, 60) + generator.normal(0, 4, mask.shape)
    )
    moss = np.clip(_noise(generator, width, height, 24) * 0.5, 0, 0.6)[..., None]
    stone = level[..., None] * ((1 - moss) * np.array([0.95, 0.98, 1.0]) + moss * np.array([0.55, 0.98, 0.72]))
    return Stone(
        centre=centre,
        radius_px=float(radius),
        picture=np.clip(stone, 0, 255).astype(np.uint8),
        cover=(mask.astype(np.float32) / 255)[..., None],
    )


def cast_shadows(ground: Canvas, outlines: list[Floats], offset_px: float) -> Canvas:
    """Return the ground with soft shadows of the outlines."""
    mask = np.zeros(ground.shape[:2], np.uint8)
    for outline in outlines:
        cv2.fillPoly(mask, [_fixed(outline + offset_px)], 105, cv2.LINE_AA, SUBPIXEL_BITS)
    soft = cv2.GaussianBlur(mask, (0, 0), 2.5)
    light = cv2.cvtColor(255 - soft, cv2.COLOR_GRAY2BGR)
    return np.asarray(cv2.multiply(ground, light, scale=1 / 255), np.uint8)


def _left(spine: Floats) -> Floats:
    """Unit normals (P, 2) to the left of a spine."""
    tangent = np.gradient(spine, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-9
    return np.column_stack([-tangent[:, 1], tangent[:, 0]])


def _along(values: Floats, at: Floats) -> Floats:
    """Values (P, 2) along the spine, interpolated at the given places."""
    return np.column_stack([np.interp(at, SPINE, values[:, axis]) for axis in (0, 1)])


def _noise(generator: np.random.Generator, width: int, height: int, cells: int) -> Floats:
    """Smooth noise (h, w) of about unit deviation, with `cells` bumps across."""
    rows = max(2, round(cells * height / width))
    coarse = generator.normal(0, 1, (rows, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))


def _fixed(points: Floats) -> NDArray[np.int32]:
    """Points in OpenCV's fixed-point pixels: with whole pixels slow animals would move in jumps."""
    return np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _tone(tone: Floats) -> tuple[float, float, float]:
    clipped = np.clip(tone, 0, 255)
    return float(clipped[0]), float(clipped[1]), float(clipped[2])


def _fill(canvas: Canvas, outline: Floats, tone: Floats) -> None:
    cv2.fillPoly(canvas, [_fixed(outline)], _tone(tone), cv2.LINE_AA, SUBPIXEL_BITS)


def _dot(canvas: Canvas, centre: Floats, radius: float, tone: Floats) -> None:
    x, y = _fixed(centre)
    cv2.circle(
        canvas, (int(x), int(y)), round(radius * (1 << SUBPIXEL_BITS)), _tone(tone), -1, cv2.LINE_AA, SUBPIXEL_BITS
    )


def _ellipse(canvas: Canvas, centre: Floats, axes: Floats, angle: float, tone: Floats) -> None:
    (x, y), (a, b) = _fixed(centre), _fixed(axes)
    cv2.ellipse(canvas, (int(x), int(y)), (int(a), int(b)), angle, 0, 360, _tone(tone), -1, cv2.LINE_AA, SUBPIXEL_BITS)
