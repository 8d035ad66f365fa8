"""The causes of frames that were not tracked: one text and one count for each, however many frames there are."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_CAUSES = 32
OTHER = "other causes"
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(slots=True)
class Cause:
    """The frames of one cause."""

    text: str  # as given for the first frame
    first: int
    last: int
    count: int = 0

    @property
    def line(self) -> str:
        """The cause in one line: how many frames, which ones, and why."""
        if self.count == 1:
            return f"1 frame ({self.first}): {self.text}"
        return f"{self.count} frames ({self.first} to {self.last}): {self.text}"


class Causes:
    """Counts frames by cause. Texts that differ in their numbers alone are one cause."""

    def __init__(self) -> None:
        self._by_text: dict[str, Cause] = {}

    def add(self, frame: int, text: str) -> Cause:
        """Count a frame, by its number; return its cause so far."""
        key = _NUMBER.sub("#", text)
        if key not in self._by_text and len(self._by_text) >= MOST_CAUSES:
            key = text = OTHER
        cause = self._by_text.setdefault(key, Cause(text, frame, frame))
        cause.last = frame
        cause.count += 1
        return cause

    @property
    def lines(self) -> list[str]:
        """One line for each cause, in the order of their first frames."""
        return [cause.line for cause in self._by_text.values()]
