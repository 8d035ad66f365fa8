"""What a rule is: a key of the `tracker` section that changes or judges scores after the softmax.

Letters: n instances that take part, M tracks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.tracking.scorer import Query
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

Table = NDArray[np.float32]  # (n, M) scores
IsOn = Callable[["TrackerConfig"], bool]
Weigh = Callable[[Table, Query, Slots, "TrackerConfig"], Table]
Flag = Callable[[Table, "TrackerConfig"], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; it stands in a file of its own and in one line of `rules.RULES`.

    Attributes:
        name: its key in the `tracker` section.
        is_on: whether a configuration uses it.
        weigh: returns new scores (n, M) from the scores, the query (its `rows` are the n), the slots (M,) of the
            columns and the `tracker` section. Must not write to its arguments. The scores of one row must not depend on
            other rows: a large table comes in blocks of rows.
        flag: returns whether the frame gets the flag `flag_name`, from the scores after all rules; the frame gets it if
            one block of rows does.
        flag_name: as it is published.
        needs_every_pair: a pair that the scorer finds unlikely could match under this rule, so the scorer must give a
            logit for every pair, up to `weighing.MAX_PAIRS`; beyond that it gives near ones, and the others score 0
            before the rules. False only for a rule that never raises a score.
    """

    name: str
    is_on: IsOn
    weigh: Weigh | None = None
    flag: Flag | None = None
    flag_name: str = ""
    needs_every_pair: bool = True
