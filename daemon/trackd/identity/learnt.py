"""All that was learnt of a stream's animals up to a frame, as flat arrays and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from trackd.identity.arrays import Arrays, integers
from trackd.identity.fragment import fragments_of, put_fragments
from trackd.identity.fragments import MAX_JOINED, Fragments
from trackd.identity.gallery import Gallery
from trackd.identity.identities import Identities


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What was learnt, and what later frames depend on beside it."""

    identities: Identities
    fragments: Fragments  # as they were then
    named: frozenset[int]  # ids that are not recognised
    trusted: frozenset[int]  # ids that people have corrected, which the identities do not know yet
    last: tuple[int, int]  # of the last frame, ns: its capture time, and the time between it and the one before

    def arrays(self) -> Arrays | None:
        """Return it, between two calls of `Identities.learn`; None: nothing was learnt, or too many tracks are live."""
        if len(self.fragments.tracks) > MAX_JOINED or (found := self.identities.snapshot()) is None:
            return None
        found |= self.fragments.snapshot()
        put_fragments(found, self.identities.fragments + self.fragments.all)
        found["named"], found["trusted"] = integers(sorted(self.named)), integers(sorted(self.trusted))
        found["last"] = integers(self.last)
        return found

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], gallery: Gallery | None) -> Learnt:
        """Return what arrays were made of.

        Args:
            arrays: as `arrays` returned them.
            gallery: of the stream.

        Raises:
            KeyError, ValueError: something is missing or does not belong together.
        """
        by_number = fragments_of(arrays)
        identities = Identities(gallery)
        identities.restore(arrays, by_number)
        t_ns, spacing_ns = arrays["last"].tolist()
        return cls(
            identities,
            Fragments.restored(arrays, by_number),
            frozenset(arrays["named"].tolist()),
            frozenset(arrays["trusted"].tolist()),
            (t_ns, spacing_ns),
        )
