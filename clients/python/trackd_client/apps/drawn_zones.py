"""The zones and lines that rules take from streams: checked at the start, and read again when they are changed.

The events of a stream tell each change too, and sooner. Reading them as well covers events that were lost, and streams
that were opened while nobody followed them.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping, Sequence

from trackd_client.configuration import ConfigError, nearest
from trackd_client.errors import TrackdError
from trackd_client.excerpt import yaml_excerpt
from trackd_client.replies import StreamZones
from trackd_client.stream_client import StreamClient
from trackd_client.triggers.settings import Rules
from trackd_client.zones import Places

logger = logging.getLogger(__name__)

LOOK_S = 1.0


class DrawnZones:
    """The zones and lines of a daemon's open streams, on a thread of its own.

    Args:
        client: connected to the daemon.
        streams: the names; empty: all.

    Raises:
        TrackdError: there is no daemon.
    """

    def __init__(self, client: StreamClient, streams: Sequence[str] = ()) -> None:
        self._client = client
        self._streams = frozenset(streams)
        self._known: dict[str, tuple[int, int]] = {}  # by stream: its epoch, and the number of the change
        self._found: queue.SimpleQueue[StreamZones] = queue.SimpleQueue()
        self._stop = threading.Event()
        self.first = self._changed()  # fails at once if there is no daemon
        threading.Thread(target=self._look, name="drawn zones", daemon=True).start()

    def take(self) -> list[StreamZones]:
        """Return what was changed since the last call."""
        found = []
        while not self._found.empty():
            found.append(self._found.get())
        return found

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def _changed(self) -> list[StreamZones]:
        changed = []
        for row in self._client.streams():
            wanted = not self._streams or row.stream in self._streams
            if (
                row.unavailable is not None
                or not wanted
                or self._known.get(row.stream) == (row.epoch, row.zones_number)
            ):
                continue
            if row.zones_number:
                found = self._client.zones(row.stream)
            else:
                found = StreamZones(row.stream, row.epoch, 0, Places())
            self._known[row.stream] = row.epoch, row.zones_number
            changed.append(found)
        return changed

    def _look(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                for found in self._changed():
                    self._found.put(found)
            except TrackdError as error:  # it may be restarted, or a stream was just closed
                logger.debug("the zones of the open streams are not known: %s", error)


def check_drawn(rules: Rules, found: Sequence[StreamZones]) -> None:
    """Check that the open streams have the zones and lines that rules take from them.

    A rule that names streams needs its place in each of them that is open, any other rule in one stream.

    Args:
        rules: of the file.
        found: the zones of the open streams that are followed.

    Raises:
        ConfigError: one line that names the rule, the stream, and what the stream has.
    """
    for name, key, place in rules.drawn():
        named = rules.rules[name].streams
        places = {each.stream: _of(each, key) for each in found if not named or each.stream in named}
        lacking = [stream for stream, known in places.items() if place not in known]
        if not lacking or (not named and len(lacking) < len(places)):
            continue
        if named or len(places) == 1:
            stream = lacking[0]
            hint = nearest(place, places[stream]) if places[stream] else f"it has no {key}s"
            wanted = f"stream {stream!r} has; {hint}"
        else:
            wanted = "an open stream has; none has it"
        raise ConfigError(
            f"rules.{name}.{key} should name a {key} that {wanted}; got {yaml_excerpt(place)}; "
            "draw it in the viewer, or set it by trackd-client zones"
        )


def _of(found: StreamZones, key: str) -> Mapping[str, object]:
    return found.zones if key == "zone" else found.lines
