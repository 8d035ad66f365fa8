"""`trackd-client trigger`: rules on live tracks that send messages to other programs and devices."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import typer

from trackd_client.actions.actions import open_action
from trackd_client.actions.outlet import Outlet
from trackd_client.actions.settings import ActionSettings, read_actions
from trackd_client.apps.drawn_zones import DrawnZones, check_drawn
from trackd_client.apps.live_streams import LiveStreams
from trackd_client.apps.signals import until_a_signal
from trackd_client.configuration import ConfigError, load_yaml, nearest
from trackd_client.errors import TrackdError
from trackd_client.protocol import Event, EventName
from trackd_client.replies import StreamZones
from trackd_client.stream_client import StreamClient
from trackd_client.triggers.engine import MOST_STREAMS, Engine
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.settings import Rules, read_rules

logger = logging.getLogger(__name__)

SECTIONS = ("rules", "actions", "zones", "lines", "keypoints")
SLICE_S = 0.1  # the longest wait of one step


@dataclass(frozen=True, slots=True)
class RulesFile:
    """A checked rules file."""

    rules: Rules
    actions: Mapping[str, ActionSettings]

    @property
    def streams(self) -> tuple[str, ...]:
        """The streams that the rules name; empty: a rule is about all streams."""
        rules = self.rules.rules.values()
        if not all(rule.streams for rule in rules):
            return ()
        return tuple(dict.fromkeys(stream for rule in rules for stream in rule.streams))


def read_rules_file(path: Path) -> RulesFile:
    """Return the rules of a YAML file.

    Raises:
        ConfigError: one line that names the file, the rule, the key, the value, and what would be right.
    """
    return check_rules(load_yaml(path), str(path))


def check_rules(tree: Mapping[Any, Any], where: str = "rules") -> RulesFile:
    """Return the rules in the content of a rules file.

    Raises:
        ConfigError: as `read_rules_file`.
    """
    try:
        for key in tree:
            if key not in SECTIONS:
                raise ConfigError(f"{key}: unknown section; {nearest(str(key), SECTIONS)}")
        actions = read_actions(tree)
        return RulesFile(read_rules(tree, actions), actions)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


class Trigger:
    """Evaluates rules on the live tracks of a daemon, and sends what fires.

    Args:
        client: connected to the daemon.
        file: the rules and actions.
        streams: the streams to follow; empty: those that the rules name, or all.

    Raises:
        ConfigError: a stream does not have a zone or line that a rule takes from it.
        TrackdError: an action cannot be opened, or the daemon cannot be followed.
    """

    def __init__(self, client: StreamClient, file: RulesFile, streams: Sequence[str] = ()) -> None:
        self.fired = 0
        self.too_old = 0
        self._file = file
        self._engine = Engine(file.rules)
        self._said_crowded = False
        self._missing: dict[str, list[str]] = {}  # by stream, as it was said last
        self._drawn: DrawnZones | None = None
        used = {action for rule in file.rules.rules.values() for action in rule.do}
        self.outlets: dict[str, Outlet] = {}
        try:
            if file.rules.drawn():
                self._drawn = DrawnZones(client, streams or file.streams)
                check_drawn(file.rules, self._drawn.first)
                self._draw(self._drawn.first)
            for name, settings in file.actions.items():
                if name in used:
                    self.outlets[name] = Outlet(name, open_action(name, settings), settings.queue)
            self._live = LiveStreams(client, streams or file.streams, self._on_event)
        except BaseException:
            if self._drawn is not None:
                self._drawn.close()
            for outlet in self.outlets.values():
                outlet.close(0.0)
            raise

    def step(self, timeout_s: float = SLICE_S) -> list[Firing]:
        """Wait for the next settlement, at most `timeout_s`; evaluate it, send what fires, and return it."""
        if self._drawn is not None:
            self._draw(self._drawn.take())
        tracks = self._live.next(timeout_s)
        if tracks is None:
            return []
        firings = self._engine.tracks(tracks)
        if firings:
            self._send(firings)
        if self._engine.crowded and not self._said_crowded:
            self._said_crowded = True
            logger.warning("stream=%s seq=%d: too many pairs of tracks: rules on pairs wait", tracks.stream, tracks.seq)
        return firings

    def report(self) -> list[str]:
        """Return a line for the rules and one for each action: counts and latencies."""
        old = f", {self.too_old} too old to send" if self.too_old else ""
        return [f"fired {self.fired}{old}", *(outlet.report() for outlet in self.outlets.values())]

    def close(self, timeout_s: float = 1.0) -> None:
        """End the subscription, and send what is queued for at most `timeout_s` for each action."""
        if self._drawn is not None:
            self._drawn.close()
        self._live.close()
        for outlet in self.outlets.values():
            outlet.close(timeout_s)

    def __enter__(self) -> Trigger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _on_event(self, event: Event) -> None:
        if firings := self._engine.event(event):
            self._send(firings)
        if self._drawn is not None and event.event in (EventName.ZONES, EventName.OPENED):
            self._say_missing(event.stream)

    def _draw(self, changed: Sequence[StreamZones]) -> None:
        for each in changed:
            self._engine.draw(each.stream, each.epoch, each.number, each.places)
            self._say_missing(each.stream)

    def _say_missing(self, stream: str) -> None:
        missing, before = self._engine.missing(stream), self._missing.get(stream)
        if missing == before:
            return
        if len(self._missing) >= MOST_STREAMS:
            self._missing.clear()
        self._missing[stream] = missing
        if missing:  # a stream that never had it may not be meant
            level = logging.INFO if before is None else logging.WARNING
            logger.log(level, "stream=%s: it has no %s: rules on it wait", stream, ", no ".join(missing))

    def _send(self, firings: list[Firing]) -> None:
        received_ns = self._live.received_ns
        self.fired += len(firings)
        for firing in firings:
            rule = self._file.rules.rules[firing.rule]
            if rule.max_age_s is not None and time.time_ns() - firing.t_ns > rule.max_age_s * 1e9:
                self.too_old += 1
                continue
            for name in rule.do:
                self.outlets[name].send(firing, received_ns)


def run_trigger(client: StreamClient, file: RulesFile, streams: Sequence[str], report_s: float) -> None:
    """Evaluate rules until SIGINT or SIGTERM, and report at intervals and at the end."""
    with Trigger(client, file, streams) as trigger, until_a_signal() as ended:
        typer.echo(f"ready rules={len(file.rules.rules)} actions={len(trigger.outlets)}", err=True)
        reported, said = time.monotonic(), 0
        while not ended.is_set():
            trigger.step()
            if report_s and time.monotonic() - reported >= report_s:
                reported = time.monotonic()
                if trigger.fired != said:
                    said = trigger.fired
                    _show(trigger)
    _show(trigger)


def check_packages(file: RulesFile) -> None:
    """Import the optional packages that the actions of a file need.

    Raises:
        TrackdError: one is not installed; the text names the extra.
    """
    from trackd_client.actions.action import optional

    needed = {"osc": "pythonosc", "mqtt": "paho.mqtt.client", "serial": "serial"}
    for name, action in file.actions.items():
        if (module := needed.get(action.kind)) is not None:
            try:
                optional(module, action.kind)
            except TrackdError as error:
                raise TrackdError(f"actions.{name}: {error.message}") from None


def _show(trigger: Trigger) -> None:
    for line in trigger.report():
        typer.echo(line, err=True)
    sys.stderr.flush()
