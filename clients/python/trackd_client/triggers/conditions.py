"""What each rule on places, speeds, counts and scores measures in a frame.

A condition holds the state of one rule in one stream.

Letters: n tracks of a frame. No condition has a loop over tracks: each works on all of them as arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trackd_client.triggers.geometry import Floats, Line, box_gap, pairs_within
from trackd_client.triggers.latches import Latches, Refractory
from trackd_client.triggers.places import StreamPlaces
from trackd_client.triggers.scene import Scene
from trackd_client.triggers.settings import (
    CountRule,
    DwellRule,
    LineRule,
    NearRule,
    PairRule,
    Rules,
    RuleSettings,
    ScoreRule,
    SpeedRule,
    TouchRule,
    ZoneRule,
)
from trackd_client.triggers.table import Keys, Mask, Table

_PAIR = 32  # the key of a pair: the lower id, shifted by so many bits, and the higher id
_ONLY = np.zeros(1, np.int64)  # the key of a rule about the stream


@dataclass(frozen=True, slots=True)
class Hits:
    """The tracks or pairs of one frame that fire, ascending."""

    tracks: Keys  # (h,) −1: the rule is about the stream
    others: Keys | None = None  # (h,) of pairs
    points: Floats | None = None  # (h, 2) of the tracks
    values: Floats | None = None  # (h,)
    directions: tuple[str, ...] | None = None


NO_HITS = Hits(np.empty(0, np.int64))
Chosen = Callable[[Keys], Mask] | None  # for ids: whether the rule is about these tracks; None: about all


class Condition(Protocol):
    """A rule's state in one stream."""

    def step(self, scene: Scene) -> Hits:
        """Take one frame and return what fires."""

    def forget(self, ended: Keys) -> None:
        """Delete the state of tracks that ended."""


def refractory(rule: RuleSettings) -> Refractory:
    """Return the time between two firings of a rule."""
    return Refractory(_ns(rule.refractory_s), per_rule=rule.refractory_per == "rule")


class _TrackState:
    """A state of each track that begins and ends."""

    def __init__(self, rule: Any, keypoint: int | None, chosen: Chosen, *, at_end: bool) -> None:
        self._keypoint = keypoint
        self._chosen = chosen
        self._latches = Latches(_ns(rule.for_s), at_end=at_end)
        self._refractory = refractory(rule)

    def _fired(self, ids: Keys, points: Floats, begins: Mask, ends: Mask, t_ns: int, values: Floats | None) -> Hits:
        """Return the hits. `values` None: for how long the state has held, in seconds."""
        due, held = self._latches.update(ids, begins, ends, t_ns)
        if not due.any():
            return NO_HITS
        fires = self._refractory.admit(ids, due, t_ns)
        return Hits(ids[fires], points=points[fires], values=(held / 1e9 if values is None else values)[fires])

    def _visible(self, scene: Scene) -> tuple[Keys, Floats, NDArray[np.intp] | slice]:
        return _visible(scene, self._keypoint, self._chosen)

    def forget(self, ended: Keys) -> None:
        self._latches.table.keep(~np.isin(self._latches.table.keys, ended))


class InZone(_TrackState):
    """A track is inside a zone, until it is farther outside than `hysteresis_px`.

    The state of a track stays when the zone is drawn again, and is forgotten when it is deleted.
    """

    def __init__(self, rule: ZoneRule | DwellRule, places: StreamPlaces, keypoint: int | None, chosen: Chosen) -> None:
        super().__init__(rule, keypoint, chosen, at_end=rule.when == "zone_leave")
        self._name = rule.zone
        self._zones = places.zones
        self._hysteresis = rule.hysteresis_px

    def step(self, scene: Scene) -> Hits:
        zone = self._zones[self._name]
        if zone is None:
            self._latches.forget()
            return NO_HITS
        ids, points, _ = self._visible(scene)
        inside = zone.contains(points)
        outside = ~inside
        if self._hysteresis and outside.any():
            outside[outside] = zone.distance(points[outside]) > self._hysteresis
        return self._fired(ids, points, inside, outside, scene.t_ns, None)


class Fast(_TrackState):
    """A track is faster than a speed. The speed is that between its last two frames, smoothed with a time constant."""

    def __init__(self, rule: SpeedRule, keypoint: int | None, chosen: Chosen) -> None:
        super().__init__(rule, keypoint, chosen, at_end=rule.at == "end")
        self._speed = rule.speed
        self._leave = rule.speed if rule.leave_speed is None else rule.leave_speed
        self._smooth_s = rule.smooth_s
        self._last = Table(x=np.nan, y=np.nan, t=np.int64(0), speed=np.nan)

    def step(self, scene: Scene) -> Hits:
        ids, points, _ = self._visible(scene)
        rows = self._last.rows(ids)
        x, y, t, speed = (self._last[name] for name in ("x", "y", "t", "speed"))
        seconds = (scene.t_ns - t[rows]) / 1e9
        distance = np.hypot(points[:, 0] - x[rows], points[:, 1] - y[rows])
        # NaN at a track's first frame, and where the capture time did not rise: neither threshold is met.
        now = np.where(seconds > 0, distance / np.where(seconds > 0, seconds, 1.0), np.nan)
        if self._smooth_s:
            before = speed[rows]
            weight = 1.0 - np.exp(-np.maximum(seconds, 0.0) / self._smooth_s)
            now = np.where(np.isnan(before), now, before + weight * (now - before))
        x[rows], y[rows], t[rows], speed[rows] = points[:, 0], points[:, 1], scene.t_ns, now
        return self._fired(ids, points, now > self._speed, now <= self._leave, scene.t_ns, now)

    def forget(self, ended: Keys) -> None:
        super().forget(ended)
        self._last.keep(~np.isin(self._last.keys, ended))


class Doubtful(_TrackState):
    """The score of a track is below a threshold. A new track has no score, and is neither."""

    def __init__(self, rule: ScoreRule, keypoint: int | None, chosen: Chosen) -> None:
        super().__init__(rule, keypoint, chosen, at_end=rule.at == "end")
        self._score = rule.score
        self._leave = rule.score if rule.leave_score is None else rule.leave_score

    def step(self, scene: Scene) -> Hits:
        ids, points, rows = self._visible(scene)
        scores = scene.scores[rows]
        return self._fired(ids, points, scores < self._score, scores >= self._leave, scene.t_ns, scores)


class Crossing:
    """A track passes from one side of a line to the other, between its ends.

    A track changes sides when it is farther than `hysteresis_px` on the other side. The step that counts is that from
    its last point on the old side. A line that is drawn again is another line: no track has a side of it yet.
    """

    def __init__(self, rule: LineRule, places: StreamPlaces, keypoint: int | None, chosen: Chosen) -> None:
        self._name = rule.line
        self._lines = places.lines
        self._line: Line | None = None
        self._keypoint = keypoint
        self._chosen = chosen
        self._hysteresis = rule.hysteresis_px
        self._wanted = {"left_to_right": (1,), "right_to_left": (-1,), "both": (1, -1)}[rule.direction]
        self._sides = Table(side=np.int8(0), x=np.nan, y=np.nan)
        self._refractory = refractory(rule)

    def step(self, scene: Scene) -> Hits:
        line = self._lines[self._name]
        if line is not self._line:
            self._line = line
            self._sides = Table(side=np.int8(0), x=np.nan, y=np.nan)
        if line is None:
            return NO_HITS
        ids, points, _ = _visible(scene, self._keypoint, self._chosen)
        offset = line.offset(points)
        side = np.where(np.abs(offset) > self._hysteresis, np.sign(offset), 0).astype(np.int8)
        rows = self._sides.rows(ids)
        old = self._sides["side"][rows]
        due = side * old < 0
        if due.any():
            due &= np.isin(side, self._wanted)
            before = np.stack([self._sides["x"][rows], self._sides["y"][rows]], axis=1)
            due[due] = line.is_between(before[due], points[due])
        certain = side != 0
        for name, values in (("side", side), ("x", points[:, 0]), ("y", points[:, 1])):
            self._sides[name][rows[certain]] = values[certain]
        if not due.any():
            return NO_HITS
        fires = self._refractory.admit(ids, due, scene.t_ns)
        directions = tuple("left_to_right" if to > 0 else "right_to_left" for to in side[fires].tolist())
        return Hits(ids[fires], points=points[fires], values=np.abs(offset[fires]), directions=directions)

    def forget(self, ended: Keys) -> None:
        self._sides.keep(~np.isin(self._sides.keys, ended))


class Count:
    """The number of tracks in a zone, or in the whole frame, is above or below a number."""

    def __init__(self, rule: CountRule, places: StreamPlaces, keypoint: int | None, chosen: Chosen) -> None:
        self._name = rule.zone
        self._zones = places.zones
        self._keypoint = keypoint
        self._chosen = chosen
        self._sign = 1 if rule.when == "count_above" else -1
        self._count = rule.count
        self._leave = rule.count if rule.leave_count is None else rule.leave_count
        self._latches = Latches(_ns(rule.for_s), at_end=rule.at == "end")
        self._refractory = refractory(rule)

    def step(self, scene: Scene) -> Hits:
        zone = None if self._name is None else self._zones[self._name]
        if zone is None and self._name is not None:
            self._latches.forget()
            return NO_HITS
        ids, points, _ = _visible(scene, self._keypoint, self._chosen)
        n = len(ids) if zone is None else int(zone.contains(points).sum())
        begins = np.array([self._sign * (n - self._count) > 0])
        ends = np.array([self._sign * (n - self._leave) <= 0])
        due, _ = self._latches.update(_ONLY, begins, ends, scene.t_ns)
        if not self._refractory.admit(_ONLY, due, scene.t_ns)[0]:
            return NO_HITS
        return Hits(np.array([-1]), values=np.array([float(n)]))

    def forget(self, ended: Keys) -> None:
        """Nothing: the count has no tracks."""


class Pair:
    """Two tracks are close, or their boxes overlap. Only pairs for which this holds have state."""

    def __init__(self, rule: PairRule, keypoint: int | None, chosen: Chosen, chosen_others: Chosen) -> None:
        self._keypoint = keypoint
        self._chosen, self._chosen_others = chosen, chosen_others
        self._distance, self._leave = 0.0, 0.0
        if isinstance(rule, NearRule):
            self._distance = rule.distance
            self._leave = rule.distance if rule.leave_distance is None else rule.leave_distance
        elif isinstance(rule, TouchRule):
            self._leave = rule.hysteresis_px
        self._by_boxes = isinstance(rule, TouchRule)
        self._latches = Latches(_ns(rule.for_s), at_end=rule.at == "end")
        self._refractory = refractory(rule)
        self.crowded = 0  # frames that had too many pairs to examine

    def step(self, scene: Scene) -> Hits:
        ids, points, rows = _visible(scene, self._keypoint, None)
        boxes = scene.boxes[rows] if self._by_boxes else np.concatenate([points, points], axis=1)
        found = pairs_within(boxes, self._leave)
        if found is None:
            self.crowded += 1
            return NO_HITS
        first, second = np.minimum(*found), np.maximum(*found)  # the ids ascend with the rows
        if self._chosen is not None or self._chosen_others is not None:
            near = self._is_chosen(ids[first], ids[second])
            first, second = first[near], second[near]
        keys = (ids[first] << _PAIR) | ids[second]
        held = self._latches.table.keys
        if len(held):
            a, b = held >> _PAIR, held & ((1 << _PAIR) - 1)
            keys = np.union1d(keys, held[np.isin(a, ids) & np.isin(b, ids)])
        else:
            keys = np.sort(keys)
        if not len(keys):
            return NO_HITS
        a, b = keys >> _PAIR, keys & ((1 << _PAIR) - 1)
        i, j = np.searchsorted(ids, a), np.searchsorted(ids, b)
        gap = box_gap(boxes[i], boxes[j]) if self._by_boxes else np.hypot(*(points[i] - points[j]).T)
        due, _ = self._latches.update(keys, gap <= self._distance, gap > self._leave, scene.t_ns)
        fires = self._refractory.admit(keys, due, scene.t_ns)
        self._latches.forget_idle()
        return Hits(a[fires], b[fires], points[i[fires]], gap[fires])

    def forget(self, ended: Keys) -> None:
        keys = self._latches.table.keys
        self._latches.table.keep(~(np.isin(keys >> _PAIR, ended) | np.isin(keys & ((1 << _PAIR) - 1), ended)))

    def _is_chosen(self, a: Keys, b: Keys) -> Mask:
        """Return for pairs whether one of them is the rule's track and the other its other track."""
        first, other = self._chosen or _all, self._chosen_others or _all
        return (first(a) & other(b)) | (first(b) & other(a))


def condition(
    rule: RuleSettings, rules: Rules, places: StreamPlaces, chosen: Chosen, chosen_others: Chosen
) -> Condition | None:
    """Return the condition of a rule; None for a rule on what the daemon reports, such as `new`.

    Args:
        rule: one of `rules`.
        rules: the file.
        places: the zones and lines of the stream.
        chosen: the tracks that the rule is about.
        chosen_others: the same for the other track of a pair.
    """
    keypoint = rules.keypoint(rule)
    if isinstance(rule, ZoneRule | DwellRule):
        return InZone(rule, places, keypoint, chosen)
    if isinstance(rule, LineRule):
        return Crossing(rule, places, keypoint, chosen)
    if isinstance(rule, CountRule):
        return Count(rule, places, keypoint, chosen)
    if isinstance(rule, PairRule):
        return Pair(rule, keypoint, chosen, chosen_others)
    if isinstance(rule, SpeedRule):
        return Fast(rule, keypoint, chosen)
    return Doubtful(rule, keypoint, chosen) if isinstance(rule, ScoreRule) else None


def _all(keys: Keys) -> Mask:
    return np.ones(len(keys), bool)


def _visible(scene: Scene, keypoint: int | None, chosen: Chosen) -> tuple[Keys, Floats, NDArray[np.intp] | slice]:
    """Return the ids and points of the tracks that a rule is about, and their rows in the scene."""
    if keypoint is None and chosen is None:
        return scene.ids, scene.centres, slice(None)
    points, visible = scene.points(keypoint)
    rows = np.flatnonzero(visible if chosen is None else visible & chosen(scene.ids))
    return scene.ids[rows], points[rows], rows


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
