"""All rules, in the order in which they apply. A new rule is one file in this folder and one line in `RULES`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trackd.tracking.rules import confidence, distance, iou, orientation
from trackd.tracking.rules.rule import Rule
from trackd.tracking.scorer import NEGLIGIBLE

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


def need_every_pair(rules: Sequence[Rule], config: TrackerConfig) -> bool:
    """Return whether a pair that the scorer finds unlikely could still match."""
    return config.overlap_thresh < NEGLIGIBLE or any(rule.needs_every_pair for rule in rules)
