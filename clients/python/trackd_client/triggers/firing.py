"""What fired: one value with the fields that messages may use."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import nan


@dataclass(frozen=True, slots=True)
class Firing:
    """One firing of a rule. Its fields are those of message templates."""

    rule: str
    when: str
    stream: str
    epoch: int
    seq: int
    frame_index: int
    t_ns: int  # capture time
    track: int | None = None  # None: the rule is about the stream, such as a count
    name: str | None = None
    other: int | None = None  # the second track of a pair
    other_name: str | None = None
    x: float = nan  # the track's point, pixels; its last one if the frame has none
    y: float = nan
    value: float = nan  # what the rule compared: px, px/s, s, a count or a score
    zone: str | None = None
    line: str | None = None
    direction: str | None = None  # of a crossed line
    parent: int | None = None  # of a new track that a division began
    correction: str | None = None  # `rename`, `swap` and so on
    message: str | None = None  # the rule's `message`, with its fields filled in


FIELDS: tuple[str, ...] = tuple(field.name for field in fields(Firing))
