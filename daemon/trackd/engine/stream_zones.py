"""The zones and lines that people have drawn on a stream's picture; they stay over resets, and end with the stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trackd_client.zones import Places, read_places


@dataclass(frozen=True, slots=True)
class StreamZones:
    """All zones and lines of a stream, as they were last changed.

    Attributes:
        number: of the change, from 1 while the stream is open; 0: there was none.
        places: the zones and lines.
        author: who changed them, as the client says.
        t_ns: when it was asked for, Unix ns.
    """

    number: int = 0
    places: Places = field(default_factory=Places)
    author: str = ""
    t_ns: int = 0

    def as_map(self) -> dict[str, Any]:
        """Return what is published and stored of it, as plain values."""
        return {"number": self.number, "author": self.author, "t_ns": self.t_ns, **self.places.as_map()}

    @classmethod
    def of_map(cls, stored: Mapping[str, Any] | None) -> StreamZones:
        """Return what `as_map` was made of; None, as of earlier versions: no zones.

        Raises:
            ValueError, KeyError, TypeError: the map is damaged.
        """
        if stored is None:
            return cls()
        return cls(int(stored["number"]), read_places(stored), str(stored["author"]), int(stored["t_ns"]))
