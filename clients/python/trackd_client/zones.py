"""The zones and lines of a stream: polygons and lines by name, in pixels of its frames, y downwards."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trackd_client.excerpt import yaml_excerpt

MOST_PLACES = 64  # zones and lines of a stream together
MOST_CORNERS = 256  # of a zone
MOST_POINTS = 512  # of all zones and lines of a stream together
MOST_NAME = 64  # characters
FARTHEST_PX = 1e7  # as of the coordinates of detections

Points = tuple[tuple[float, float], ...]  # x y


class ZonesError(ValueError):
    """Zones or lines that are not valid. The text is one line that names the place and what would be right."""


class TooManyError(ZonesError):
    """More places or points than a stream may have."""


@dataclass(frozen=True, slots=True)
class Places:
    """Zones and lines by name.

    Attributes:
        zones: polygons; what is inside is decided by the even-odd rule.
        lines: from the first to the second point.
    """

    zones: Mapping[str, Points] = field(default_factory=dict)
    lines: Mapping[str, Points] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.zones or self.lines)

    def as_map(self) -> dict[str, Any]:
        """Return them as plain values, as the wire has them."""
        return {
            "zones": {name: [list(point) for point in points] for name, points in self.zones.items()},
            "lines": {name: [list(point) for point in points] for name, points in self.lines.items()},
        }


def read_places(tree: Mapping[Any, Any]) -> Places:
    """Return the zones and lines under the keys `zones` and `lines`; an absent or null key means none.

    Raises:
        TooManyError: more than a stream may have.
        ZonesError: anything else that is not valid.
    """
    sections = {key: _named(tree, key) for key in ("zones", "lines")}
    count = sum(map(len, sections.values()))
    if count > MOST_PLACES:
        raise TooManyError(f"a stream has at most {MOST_PLACES} zones and lines; got {count}")
    points = sum(len(value) for section in sections.values() for value in section.values() if isinstance(value, list))
    if points > MOST_POINTS:
        raise TooManyError(f"the zones and lines of a stream have at most {MOST_POINTS} points together; got {points}")
    return Places(
        {name: polygon(f"zones.{name}", corners) for name, corners in sections["zones"].items()},
        {name: line(f"lines.{name}", ends) for name, ends in sections["lines"].items()},
    )


def polygon(where: str, value: Any) -> Points:
    """Return a list of 3 to 256 points as the corners of a zone.

    Args:
        where: what the error text begins with, such as `zones.feeder`.
        value: unchecked.

    Raises:
        ZonesError: it is no such list, or encloses no area.
    """
    corners = _points(where, value, 3, MOST_CORNERS)
    following = (*corners[1:], corners[0])
    if all(corner == corners[0] for corner in corners) or (
        len(corners) == 3
        and math.isclose(sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(corners, following, strict=True)), 0.0)
    ):
        raise ZonesError(f"{where} should enclose an area; got {yaml_excerpt(value)}")
    return corners


def line(where: str, value: Any) -> Points:
    """Return a list of two points as the ends of a line.

    Args:
        where: what the error text begins with, such as `lines.door`.
        value: unchecked.

    Raises:
        ZonesError: it is no such list, or both ends are the same.
    """
    ends = _points(where, value, 2, 2)
    if ends[0] == ends[1]:
        raise ZonesError(f"{where} should have two different ends; got {yaml_excerpt(value)}")
    return ends


def check_name(what: str, name: Any) -> None:
    """Check the name of a zone or line.

    Raises:
        ZonesError: it is no text of 1 to 64 printable characters without spaces at its ends.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
        raise ZonesError(f"{what} should have names of 1 to {MOST_NAME} characters; got {yaml_excerpt(name)}")
    if not name.isprintable() or name != name.strip():
        raise ZonesError(f"{what} should have printable names without spaces at their ends; got {name!a}")


def _named(tree: Mapping[Any, Any], key: str) -> dict[str, Any]:
    section = tree.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ZonesError(f"{key} should be a section of named entries; got {yaml_excerpt(section)}")
    for name in list(section)[: MOST_PLACES + 1]:
        check_name(key, name)
    return section


def _points(where: str, value: Any, least: int, most: int) -> Points:
    example = "[[10, 10], [90, 10], [90, 60]]" if most > 2 else "[[10, 10], [90, 10]]"
    is_list = isinstance(value, list) and least <= len(value) <= most
    if not is_list or not all(map(_is_point, value)):
        count = f"{least} to {most}" if most > least else str(least)
        raise ZonesError(f"{where} should be a list of {count} points, such as {example}; got {yaml_excerpt(value)}")
    return tuple((float(x), float(y)) for x, y in value)


def _is_point(point: Any) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(type(x) in (int, float) and abs(x) <= FARTHEST_PX for x in point)  # false for NaN and infinity
    )
