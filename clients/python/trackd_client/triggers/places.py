"""The zones and lines that the rules of a file use in one stream."""

from __future__ import annotations

from collections.abc import Mapping

from trackd_client.triggers.geometry import Line, Polygon
from trackd_client.triggers.settings import Rules
from trackd_client.zones import Places, Points


class StreamPlaces:
    """The places of the file, and those that a person draws on the stream's picture while the rules run.

    A place that is drawn again is another object, and one that stays as it was is the same: rules compare objects.

    Attributes:
        zones: by name; None while the stream has no zone of this name.
        lines: the same.
    """

    def __init__(self, rules: Rules) -> None:
        self.zones = {name: None if corners is None else Polygon(corners) for name, corners in rules.zones.items()}
        self.lines = {name: None if ends is None else Line(*ends) for name, ends in rules.lines.items()}
        self._drawn_zones: dict[str, Points] = {name: () for name, zone in self.zones.items() if zone is None}
        self._drawn_lines: dict[str, Points] = {name: () for name, line in self.lines.items() if line is None}
        self._version = (-1, -1)

    def draw(self, epoch: int, number: int, places: Places) -> None:
        """Take the places of the stream, unless a later change of them is known.

        Args:
            epoch: of the stream.
            number: of the change.
            places: all of the stream.
        """
        if (epoch, number) <= self._version:
            return
        self._version = epoch, number
        for name in _changed(self._drawn_zones, places.zones):
            corners = self._drawn_zones[name]
            self.zones[name] = Polygon(corners) if corners else None
        for name in _changed(self._drawn_lines, places.lines):
            ends = self._drawn_lines[name]
            self.lines[name] = Line(*ends) if ends else None


def _changed(known: dict[str, Points], drawn: Mapping[str, Points]) -> list[str]:
    """Take the points of the known names; return the names of those that differ. () stands for none."""
    changed = [name for name, points in known.items() if drawn.get(name, ()) != points]
    known.update({name: drawn.get(name, ()) for name in changed})
    return changed
