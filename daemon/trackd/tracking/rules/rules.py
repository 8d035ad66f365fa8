"""All rules, in the order in which they apply. A new rule is one file in this folder and one line in `RULES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trackd.tracking.rules import confidence, distance, iou, orientation
from trackd.tracking.rules.rule import Rule

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

RULES: list[Rule] = [
    iou.RULE,
    distance.RULE,
    orientation.RULE,
    confidence.RULE,
]


def active_rules(config: TrackerConfig) -> tuple[Rule, ...]:
    """Return the rules that a configuration uses, in order."""
    return tuple(rule for rule in RULES if rule.is_on(config))


def need_every_pair(rules: Sequence[Rule]) -> bool:
    """Return whether a rule could make a pair match that the scorer finds unlikely."""
    return any(rule.needs_every_pair for rule in rules)
