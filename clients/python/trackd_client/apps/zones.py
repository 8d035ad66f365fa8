"""`trackd-client zones`: show the zones and lines of a stream, or replace them by those of a file."""

from __future__ import annotations

import json
from pathlib import Path

from trackd_client.apps.correct import login_name
from trackd_client.configuration import ConfigError, load_yaml, nearest
from trackd_client.replies import StreamZones
from trackd_client.stream_client import StreamClient
from trackd_client.zones import Places, Points, ZonesError, read_places

SECTIONS = ("zones", "lines")


def read_zones_file(path: Path) -> Places:
    """Return the zones and lines of a YAML or JSON file with the sections `zones` and `lines`.

    Raises:
        ConfigError: one line that names the file, the place, and what would be right.
    """
    tree = load_yaml(path)
    for key in tree:
        if key not in SECTIONS:
            raise ConfigError(f"{path}: {key}: unknown section; {nearest(str(key), SECTIONS)}")
    try:
        return read_places(tree)
    except ZonesError as error:
        raise ConfigError(f"{path}: {error}") from None


def run_zones(client: StreamClient, stream: str, places: Places | None, author: str | None, *, as_json: bool) -> str:
    """Show the zones and lines of a stream, after they were replaced if others are given; return the text to print.

    Raises:
        TrackdError: the daemon refuses, or does not answer.
    """
    if places is None:
        found = client.zones(stream)
    else:
        by = login_name() if author is None else author
        found = client.set_zones(stream, places.zones, places.lines, author=by)
    return json.dumps(found.places.as_map()) if as_json else as_text(found)


def as_text(found: StreamZones) -> str:
    """Return one line for each zone and line."""
    lines = [f"zone {name}: {_points(points)}" for name, points in found.zones.items()]
    lines += [f"line {name}: {_points(points)}" for name, points in found.lines.items()]
    return "\n".join(lines or [f"{found.stream} has no zones and no lines"])


def _points(points: Points) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
