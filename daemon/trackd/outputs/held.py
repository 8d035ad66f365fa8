"""What a stream's outputs have still to do, and why it is not done."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Writer


class Open:
    """Begin a stream's files; done again, it begins those that could not be begun."""

    def __init__(self, kinds: Sequence[str], info: StreamInfo) -> None:
        self.kinds = list(kinds)  # still to be begun
        self.info = info
        self.tried = False


@dataclass(slots=True)
class Write:
    """Write one frame; done again, it goes to the writers that have not taken it."""

    record: OutputRecord
    done: list[Writer] = field(default_factory=list)


@dataclass(slots=True)
class Close:
    """Finish a stream's files."""


Job = Open | Write | Close


class Held:
    """A stream's jobs behind one that the disk did not take."""

    def __init__(self, first: Job, why: str) -> None:
        self.jobs: deque[Job] = deque([first])
        self.why = why
