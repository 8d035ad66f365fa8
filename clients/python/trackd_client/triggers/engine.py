"""The rules engine: settlements and events of streams in, firings out. It has no sockets, threads or clock.

All times are capture times. The state of a stream ends with its epoch, and that of a track with the track.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from trackd_client.protocol import Event, Status, Tracks
from trackd_client.triggers.conditions import Chosen, Condition, Hits, condition, refractory
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.latches import Refractory
from trackd_client.triggers.places import StreamPlaces
from trackd_client.triggers.scene import Known, Scene
from trackd_client.triggers.settings import PairRule, Rules, RuleSettings
from trackd_client.triggers.table import Keys, Mask
from trackd_client.triggers.templates import Template
from trackd_client.triggers.tentative import WithoutTentative
from trackd_client.zones import Places, ZonesError, read_places

MOST_STREAMS = 4096
LISTS = {
    "new": "new_tracks", "lost": "lost_tracks", "found": "found_tracks", "ended": "ended_tracks",
    "restored": "restored_tracks",
}  # fmt: skip


class Engine:
    """Evaluates the rules of a file.

    Args:
        rules: from `read_rules`.
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._messages = {
            name: Template(rule.message, but=("message",)) for name, rule in rules.rules.items() if rule.message
        }
        self._streams: dict[str, _Stream] = {}
        self._places: dict[str, StreamPlaces] = {}  # they outlive epochs

    def tracks(self, tracks: Tracks) -> list[Firing]:
        """Take a settlement and return what fires, in the order of the file's rules."""
        return self._with_messages(self._stream(tracks.stream, tracks.epoch).tracks(tracks))

    def event(self, event: Event) -> list[Firing]:
        """Take an event and return what fires."""
        match str(event.event):
            case "closed":
                self._streams.pop(event.stream, None)
            case "opened":
                self.draw(event.stream, event.epoch, 0, Places())
            case "zones":
                number = event.detail.get("number")
                with suppress(ZonesError):  # of a daemon with other limits
                    self.draw(
                        event.stream, event.epoch, number if type(number) is int else 0, read_places(event.detail)
                    )
            case "corrected":
                return self._with_messages(self._stream(event.stream, event.epoch).corrected(event))
        return []

    def draw(self, stream: str, epoch: int, number: int, places: Places) -> None:
        """Take the zones and lines that a stream has, unless a later change of them is known.

        Args:
            stream: its name.
            epoch: of the stream.
            number: of the change.
            places: all of them.
        """
        self._places_of(stream).draw(epoch, number, places)

    def missing(self, stream: str) -> list[str]:
        """Return what the rules on a stream take from it and it does not have, such as `zone 'feeder'`."""
        places = self._places_of(stream)
        known: dict[str, Mapping[str, object]] = {"zone": places.zones, "line": places.lines}
        lacking = {
            f"{key} {place!r}"
            for name, key, place in self.rules.drawn()
            if known[key][place] is None and stream in (self.rules.rules[name].streams or (stream,))
        }
        return sorted(lacking)

    @property
    def crowded(self) -> int:
        """How many times a rule on pairs was not evaluated, because a frame had too many pairs."""
        return sum(stream.crowded for stream in self._streams.values())

    def _places_of(self, stream: str) -> StreamPlaces:
        places = self._places.get(stream)
        if places is None:
            while len(self._places) >= MOST_STREAMS:
                self._places.pop(next(iter(self._places)))
            places = self._places[stream] = StreamPlaces(self.rules)
        return places

    def _stream(self, name: str, epoch: int) -> _Stream:
        stream = self._streams.get(name)
        if stream is None or stream.epoch != epoch:
            while len(self._streams) >= MOST_STREAMS:
                self._streams.pop(next(iter(self._streams)))
            stream = self._streams[name] = _Stream(self.rules, self._places_of(name), name, epoch)
        return stream

    def _with_messages(self, firings: list[Firing]) -> list[Firing]:
        messages = self._messages
        return [
            replace(firing, message=messages[firing.rule].text(firing)) if firing.rule in messages else firing
            for firing in firings
        ]


class _Stream:
    """The state of all rules in one epoch of one stream."""

    def __init__(self, rules: Rules, places: StreamPlaces, name: str, epoch: int) -> None:
        self.epoch = epoch
        self._without_tentative = WithoutTentative()
        self._known = Known()
        self._conditions: list[tuple[str, RuleSettings, Condition]] = []
        self._reports: list[tuple[str, RuleSettings, Refractory, Chosen]] = []
        self._last: Tracks | None = None
        self._ids: Keys = np.empty(0, np.int64)  # of the last frame
        for rule_name, rule in rules.rules.items():
            if rule.streams and name not in rule.streams:
                continue
            chosen = self._chooser(rule.tracks, rule.names)
            others = self._chooser(rule.with_tracks, rule.with_names) if isinstance(rule, PairRule) else chosen
            made = condition(rule, rules, places, chosen, others)
            if made is None:
                self._reports.append((rule_name, rule, refractory(rule), chosen))
            else:
                self._conditions.append((rule_name, rule, made))
        self._order = {rule_name: place for place, rule_name in enumerate(rules.rules)}

    @property
    def crowded(self) -> int:
        return sum(getattr(made, "crowded", 0) for _, _, made in self._conditions)

    def tracks(self, tracks: Tracks) -> list[Firing]:
        firings: list[Firing] = []
        tracks = self._last = self._without_tentative.of(tracks)
        if tracks.status is Status.TRACKED:
            scene = Scene(tracks)
            # The same array for the same ids: tables find their rows by it (`Table.rows`).
            if np.array_equal(scene.ids, self._ids):
                scene.ids = self._ids
            self._ids = scene.ids
            self._known.see(scene, tracks)
            for name, rule, made in self._conditions:
                hits = made.step(scene)
                if len(hits.tracks):
                    firings += self._measured(name, rule, tracks, hits)
        for name, rule, limit, chosen in self._reports:
            listed: tuple[int, ...] = getattr(tracks, LISTS[rule.when]) if rule.when in LISTS else ()
            if listed:
                firings += self._reported(name, rule, limit, chosen, tracks, listed)
        if tracks.ended_tracks:
            ended = np.array(tracks.ended_tracks, np.int64)
            self._known.forget(ended)
            for _, _, made in self._conditions:
                made.forget(ended)
        if len(firings) > 1:
            firings.sort(key=lambda firing: self._order[firing.rule])
        return firings

    def corrected(self, event: Event) -> list[Firing]:
        detail = event.detail
        action = detail.get("action")
        listed = detail.get("tracks")
        ids = [track for track in listed if type(track) is int] if isinstance(listed, list | tuple) else []
        name = detail.get("name")
        if action == "rename" and ids and (name is None or isinstance(name, str)):
            self._known.rename(ids[0], name)
        t_ns = self._last.t_ns if self._last is not None else 0
        firings = []
        for rule_name, rule, limit, chosen in self._reports:
            if rule.when != "corrected" and not (rule.when == "renamed" and action == "rename"):
                continue
            keys = np.array(ids[:1] or [-1], np.int64)
            if not limit.admit(keys, np.ones(1, bool) if chosen is None else chosen(keys), t_ns)[0]:
                continue
            track, other = [*ids, None, None][:2]
            x, y = self._known.place(track) if track is not None else (np.nan, np.nan)
            firings.append(
                Firing(
                    rule_name,
                    rule.when,
                    event.stream,
                    event.epoch,
                    event.last_seq,
                    self._last.frame_index if self._last is not None else -1,
                    t_ns,
                    track,
                    self._name(track),
                    other,
                    self._name(other),
                    x,
                    y,
                    correction=action if isinstance(action, str) else None,
                )
            )
        return firings

    def _measured(self, name: str, rule: RuleSettings, tracks: Tracks, hits: Hits) -> Iterable[Firing]:
        for place, key in enumerate(hits.tracks.tolist()):
            track = key if key >= 0 else None
            other = int(hits.others[place]) if hits.others is not None else None
            x, y = hits.points[place].tolist() if hits.points is not None else (np.nan, np.nan)
            yield Firing(
                name, rule.when, tracks.stream, tracks.epoch, tracks.seq, tracks.frame_index, tracks.t_ns,
                track, self._name(track), other, self._name(other), x, y,
                float(hits.values[place]) if hits.values is not None else np.nan,
                getattr(rule, "zone", None), getattr(rule, "line", None),
                hits.directions[place] if hits.directions is not None else None,
            )  # fmt: skip

    def _reported(
        self,
        name: str,
        rule: RuleSettings,
        limit: Refractory,
        chosen: Chosen,
        tracks: Tracks,
        listed: tuple[int, ...],
    ) -> Iterable[Firing]:
        keys = np.unique(np.array(listed, np.int64))
        fires = limit.admit(keys, np.ones(len(keys), bool) if chosen is None else chosen(keys), tracks.t_ns)
        parents = dict(zip(tracks.new_tracks, tracks.parents, strict=True)) if tracks.parents else {}
        for track in keys[fires].tolist():
            x, y = self._known.place(track)
            parent = parents.get(track, -1) if rule.when == "new" else -1
            yield Firing(
                name, rule.when, tracks.stream, tracks.epoch, tracks.seq, tracks.frame_index, tracks.t_ns,
                track, self._name(track), x=x, y=y, parent=parent if parent >= 0 else None,
            )  # fmt: skip

    def _name(self, track: int | None) -> str | None:
        return self._known.names.get(track) if track is not None else None

    def _chooser(self, ids: list[int], names: list[str]) -> Chosen:
        """Return the filter of a rule: the ids listed, and the tracks with a name listed; without both, all."""
        if not ids and not names:
            return None
        listed = np.array(sorted(ids), np.int64)
        wanted = set(names)
        of_names: dict[int, str] | None = None
        chosen = listed

        def choose(keys: Keys) -> Mask:
            nonlocal of_names, chosen
            if wanted and of_names is not self._known.names:
                of_names = self._known.names
                named = [track for track, name in of_names.items() if name in wanted]
                chosen = np.array(sorted({*ids, *named}), np.int64)
            return np.isin(keys, chosen)

        return choose
