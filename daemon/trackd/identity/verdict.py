"""A verdict: what was found of some fragments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trackd.identity.fragment import Fragment


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of some fragments."""

    confirmed: tuple[Fragment, ...] = ()  # they have the ids of their tracks
    moved: tuple[tuple[Fragment, int], ...] = ()  # they have these other ids
    suspected: bool = False  # `moved` is likely, not yet clear
    recognised: tuple[Fragment, str] | None = None  # a name of the gallery
    evidence: float = 0.0  # nats for `moved` over the tracker's ids, or for the name over none
    cut: int | None = None  # with `moved`: the fragments from this number on have the other ids
    since: int | None = None  # the `frame_index` of the first of them
    known: frozenset[int] = frozenset()  # ids that were known before

    def exchanges(self) -> tuple[dict[int, int], dict[int, int]]:
        """Return `moved` as ids that are exchanged, a permutation, and as ids that go on as others after that."""
        moved = {fragment.track: track for fragment, track in self.moved}
        exchanged = {old: new for old, new in moved.items() if old in self.known}
        # A track without samples gets an id that is free: it is lost, or touches another one.
        left = sorted(set(exchanged.values()) - exchanged.keys())
        free = sorted(exchanged.keys() - set(exchanged.values()))
        exchanged.update(zip(left, free, strict=True))
        return exchanged, {old: new for old, new in moved.items() if old not in self.known}

    def as_map(self) -> dict[str, Any]:
        """Return what is published of it, as plain values."""
        if self.recognised is not None:
            fragment, name = self.recognised
            return {
                "event": "recognised", "tracks": [fragment.track], "name": name, "evidence": round(self.evidence, 3),
            }  # fmt: skip
        return {
            "event": "swap_suspected" if self.suspected else "swap_corrected",
            "tracks": [fragment.track for fragment, _ in self.moved],
            "into": [track for _, track in self.moved],
            "since": min(f.frame_index for f, _ in self.moved) if self.since is None else self.since,
            "evidence": round(self.evidence, 3),
        }
