"""The faults of a network, drawn from a seed: loss, delay, duplication and reordering."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to messages. The probabilities are of each message, 0 to 1."""

    seed: int = 0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0  # the message is sent after the next one
    delay_ns: int = 0  # the largest delay; the order stays


class Fate(Enum):
    """What happens to a message."""

    SENT = "sent"
    LOST = "lost"
    HELD = "held"  # at its own time it is not sent
    LATE = "late"  # a held message is sent now, after its successor


@dataclass(frozen=True, slots=True)
class Planned(Generic[T]):
    """What happens at a time."""

    due_ns: int
    item: T
    fate: Fate
    copies: int = 0  # to send now


def planned(items: Iterable[tuple[int, T]], faults: Faults) -> Iterator[Planned[T]]:
    """Yield the plan for messages.

    Args:
        items: for each message its time, ascending, and the message.
        faults: the same seed gives the same plan. Each message takes four draws, so those of one message do not depend
            on what happened to another.

    Yields:
        The plan in the order of time: each message once as sent, lost or held, and each held one again as late.
    """
    draw = random.Random(faults.seed)
    last_ns = 0
    held: Planned[T] | None = None
    for at_ns, item in items:
        is_lost, is_double = draw.random() < faults.loss, draw.random() < faults.duplicate
        is_held, delay = draw.random() < faults.reorder, draw.random()
        last_ns = max(last_ns, at_ns + int(delay * faults.delay_ns))
        copies = 2 if is_double else 1
        if is_lost:
            yield Planned(last_ns, item, Fate.LOST)
        elif is_held and held is None:
            held = Planned(last_ns, item, Fate.LATE, copies)
            yield Planned(last_ns, item, Fate.HELD)
        else:
            yield Planned(last_ns, item, Fate.SENT, copies)
            if held is not None:
                yield replace(held, due_ns=last_ns)
                held = None
    if held is not None:
        yield replace(held, due_ns=last_ns)
