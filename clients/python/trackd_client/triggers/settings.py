"""The rules file: every key, its range and its error text.

Each rule is checked by the model of its `when`, so that an error names the rule, the key, the value, and what would be
right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from trackd_client.configuration import ConfigError, Section, nearest, validate
from trackd_client.excerpt import yaml_excerpt
from trackd_client.protocol.fields import STREAM_NAME
from trackd_client.triggers.templates import Template, TemplateError
from trackd_client.zones import Points, ZonesError, line, polygon

MOST_RULES = 256
MOST_NAME = 64
OF_STREAM = "stream"  # in place of points: the zone or line of this name that the stream has
LONGEST_S = 1e6
CENTRE = "centre"

Seconds = Annotated[float, Field(ge=0, le=LONGEST_S, allow_inf_nan=False)]
Pixels = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Some = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Score = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]


class RuleSettings(Section):
    """The keys of every rule."""

    when: str
    do: list[str] = Field(min_length=1)
    streams: list[str] = Field(default=[])  # empty: all
    tracks: list[int] = Field(default=[])  # empty: all
    names: list[str] = Field(default=[])
    refractory_s: Seconds = 0.0
    refractory_per: Literal["track", "rule"] = "track"
    max_age_s: Seconds | None = None
    message: str | None = None

    @field_validator("streams")
    @classmethod
    def _are_streams(cls, names: list[str]) -> list[str]:
        for name in names:
            if not STREAM_NAME.fullmatch(name):
                raise ValueError("should hold names of 1 to 128 of letters, digits, '.', '_' and '-'")
        return names

    @field_validator("message")
    @classmethod
    def _is_template(cls, text: str | None) -> str | None:
        return text if text is None else _checked_template(text, but=("message",))


class TrackRule(RuleSettings):
    """A track begins, is lost, is found again, ends, or is restored by the undo of a correction that had ended it."""

    when: Literal["new", "lost", "found", "ended", "restored"]


class CorrectionRule(RuleSettings):
    """A track gets another name, or a correction of any kind is made."""

    when: Literal["renamed", "corrected"]


class PlaceRule(RuleSettings):
    """A rule on a point of each track."""

    point: str | int = CENTRE  # or the name or number of a keypoint


class LineRule(PlaceRule):
    """A track crosses a line."""

    when: Literal["line_crossed"]
    line: str
    direction: Literal["both", "left_to_right", "right_to_left"] = "both"
    hysteresis_px: Pixels = 0.0


class ZoneRule(PlaceRule):
    """A track enters or leaves a zone."""

    when: Literal["zone_enter", "zone_leave"]
    zone: str
    hysteresis_px: Pixels = 0.0
    for_s: Seconds = 0.0


class DwellRule(PlaceRule):
    """A track stays in a zone for a time."""

    when: Literal["dwell"]
    zone: str
    for_s: Annotated[float, Field(gt=0, le=LONGEST_S, allow_inf_nan=False)]
    hysteresis_px: Pixels = 0.0


class StateRule(PlaceRule):
    """A rule on a state that begins and ends."""

    at: Literal["begin", "end"] = "begin"
    for_s: Seconds = 0.0


class CountRule(StateRule):
    """The number of tracks, in a zone or everywhere."""

    when: Literal["count_above", "count_below"]
    count: Count
    leave_count: Count | None = None  # the count at which the state ends; None: as it begins
    zone: str | None = None

    @model_validator(mode="after")
    def _ends_beyond(self) -> CountRule:
        if self.leave_count is not None:
            above = self.when == "count_above"
            if (self.leave_count > self.count) if above else (self.leave_count < self.count):
                least = "at most" if above else "at least"
                raise ValueError(f"leave_count should be {least} count ({self.count}); got {self.leave_count}")
        return self


class SpeedRule(StateRule):
    """A track is faster than a speed, by capture time."""

    when: Literal["speed_above"]
    speed: Some  # px/s
    leave_speed: Some | None = None
    smooth_s: Seconds = 0.0  # time constant of the smoothing

    @model_validator(mode="after")
    def _ends_below(self) -> SpeedRule:
        if self.leave_speed is not None and self.leave_speed > self.speed:
            raise ValueError(f"leave_speed should be at most speed ({self.speed:g}); got {self.leave_speed:g}")
        return self


class ScoreRule(StateRule):
    """A track's score is low."""

    when: Literal["low_confidence"]
    score: Score
    leave_score: Score | None = None

    @model_validator(mode="after")
    def _ends_above(self) -> ScoreRule:
        if self.leave_score is not None and self.leave_score < self.score:
            raise ValueError(f"leave_score should be at least score ({self.score:g}); got {self.leave_score:g}")
        return self


class PairRule(StateRule):
    """A rule on two tracks: `tracks` and `names` choose one of them, these keys the other."""

    with_tracks: list[int] = Field(default=[])
    with_names: list[str] = Field(default=[])


class NearRule(PairRule):
    """Two tracks are closer than a distance."""

    when: Literal["near"]
    distance: Some
    leave_distance: Some | None = None

    @model_validator(mode="after")
    def _ends_beyond(self) -> NearRule:
        if self.leave_distance is not None and self.leave_distance < self.distance:
            raise ValueError(
                f"leave_distance should be at least distance ({self.distance:g}); got {self.leave_distance:g}"
            )
        return self


class TouchRule(PairRule):
    """The boxes of two tracks overlap."""

    when: Literal["touching"]
    hysteresis_px: Pixels = 0.0


_KINDS: tuple[type[RuleSettings], ...] = (
    TrackRule, CorrectionRule, LineRule, ZoneRule, DwellRule, CountRule, SpeedRule, ScoreRule, NearRule, TouchRule,
)  # fmt: skip
MODELS: dict[str, type[RuleSettings]] = {
    when: kind
    for kind in _KINDS
    for when in kind.model_fields["when"].annotation.__args__  # type: ignore[union-attr]
}


@dataclass(frozen=True, slots=True)
class Rules:
    """A checked rules file, without its actions."""

    rules: Mapping[str, RuleSettings]
    zones: Mapping[str, Points | None]  # None: each stream's own zone of this name
    lines: Mapping[str, Points | None]
    keypoints: tuple[str, ...] = ()  # the nodes of the poses, in their order

    def keypoint(self, rule: RuleSettings) -> int | None:
        """Return the number of the keypoint that a rule measures; None: the centre of the box."""
        point = getattr(rule, "point", CENTRE)
        if isinstance(point, int):
            return point
        return None if point == CENTRE else self.keypoints.index(point)

    def drawn(self) -> list[tuple[str, str, str]]:
        """Return the rules on zones and lines that streams have: the rule's name, `zone` or `line`, and its name."""
        return [
            (name, key, place)
            for name, rule in self.rules.items()
            for key, places in (("zone", self.zones), ("line", self.lines))
            if (place := getattr(rule, key, None)) is not None and places[place] is None
        ]


def read_rules(tree: Mapping[str, Any], actions: Iterable[str]) -> Rules:
    """Return the rules, zones and lines of a rules file.

    Args:
        tree: the content of the YAML.
        actions: the names of the file's actions.

    Raises:
        ConfigError: one line about the first error.
    """
    try:
        zones = {name: _place(polygon, f"zones.{name}", value) for name, value in _named(tree, "zones").items()}
        lines = {name: _place(line, f"lines.{name}", value) for name, value in _named(tree, "lines").items()}
    except ZonesError as error:
        raise ConfigError(str(error)) from None
    keypoints = tree.get("keypoints") or []
    if not isinstance(keypoints, list) or not all(isinstance(name, str) and name for name in keypoints):
        raise ConfigError(f"keypoints should be a list of names, such as [nose, tail]; got {yaml_excerpt(keypoints)}")
    trees = _named(tree, "rules")
    if not trees:
        raise ConfigError("rules: is required, with at least one rule, such as {seen: {when: new, do: [show]}}")
    if len(trees) > MOST_RULES:
        raise ConfigError(f"rules should have at most {MOST_RULES} rules; got {len(trees)}")
    rules = {name: _rule(f"rules.{name}", rule) for name, rule in trees.items()}
    known = {"zone": zones, "line": lines}
    names = list(actions)
    for name, rule in rules.items():
        for key, places in known.items():
            if (place := getattr(rule, key, None)) is not None:
                _check_known(f"rules.{name}.{key}", place, places, f"{key}s")
        for action in rule.do:
            _check_known(f"rules.{name}.do", action, names, "actions")
        point = getattr(rule, "point", CENTRE)
        if isinstance(point, int) and not 0 <= point < 256:
            raise ConfigError(f"rules.{name}.point should be a keypoint from 0 to 255; got {point}")
        if isinstance(point, str) and point != CENTRE:
            _check_known(f"rules.{name}.point", point, [CENTRE, *keypoints], "keypoints")
    return Rules(rules, zones, lines, tuple(keypoints))


def _rule(where: str, tree: Any) -> RuleSettings:
    if not isinstance(tree, dict):
        raise ConfigError(f"{where} should be a section, such as {{when: new, do: [show]}}; got {yaml_excerpt(tree)}")
    if "when" not in tree:
        raise ConfigError(f"{where}.when: is required; known: {', '.join(sorted(MODELS))}")
    when = tree["when"]
    if not isinstance(when, str) or when not in MODELS:
        raise ConfigError(f"{where}.when: unknown; {nearest(str(when), MODELS)}; got {yaml_excerpt(when)}")
    return validate(MODELS[when], tree, where)


def _named(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    section = tree.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise ConfigError(f"{key} should be a section of named entries; got {yaml_excerpt(section)}")
    for name in section:
        if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME:
            raise ConfigError(f"{key} should have names of 1 to {MOST_NAME} characters; got {yaml_excerpt(name)}")
    return section


def _place(check: Callable[[str, Any], Points], where: str, value: Any) -> Points | None:
    if isinstance(value, str):
        if value != OF_STREAM:
            raise ConfigError(f"{where} should be a list of points, or {OF_STREAM}; got {yaml_excerpt(value)}")
        return None
    return check(where, value)


def _check_known(where: str, name: str, known: Iterable[str], what: str) -> None:
    known = list(known)
    if name not in known:
        hint = nearest(name, known) if known else f"the file has no {what}"
        drawn = f"; `{what}: {{NAME: {OF_STREAM}}}` is one that the stream has" if what in ("zones", "lines") else ""
        raise ConfigError(f"{where} should name one of the file's {what}; {hint}; got {yaml_excerpt(name)}{drawn}")


def _checked_template(text: str, but: tuple[str, ...] = ()) -> str:
    try:
        Template(text, but=but)
    except TemplateError as error:
        raise ValueError(str(error)) from None
    return text
