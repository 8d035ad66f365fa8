"""What a client knows of a fleet: the members to ask, the place of each stream, and the highest terms."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from trackd_client.fleet.place import Place, read_place
from trackd_client.protocol import ProtocolError
from trackd_client.protocol.fields import ENDPOINT_LETTERS

MOST_MEMBERS = 256  # that a client asks


class Directory:
    """Without I/O; every method may be called from any thread.

    Args:
        members: control endpoints of members; at least one.

    Raises:
        ValueError: there is none.
    """

    def __init__(self, members: Sequence[str]) -> None:
        if isinstance(members, str) or not members:
            raise ValueError("members must be a list of control endpoints, at least one")
        self._given = tuple(dict.fromkeys(members))
        self._order = list(self._given)  # the order in which they are asked
        self._places: dict[str, Place] = {}
        self._terms: dict[str, int] = {}  # the highest that was seen of each stream
        self._answers: dict[str, dict[str, str]] = {}  # by stream and control endpoint: why it is not found there
        self._lock = threading.Lock()

    @property
    def members(self) -> list[str]:
        """The control endpoints of the members, in the order in which to ask them."""
        with self._lock:
            return list(self._order)

    def place(self, stream: str) -> Place | None:
        """Return where a stream was when it was located last; None if it is to be located."""
        with self._lock:
            return self._places.get(stream)

    def forget(self, stream: str, place: Place) -> None:
        """Locate a stream again at its next use, unless it was found elsewhere since."""
        with self._lock:
            if self._places.get(stream) == place:
                del self._places[stream]

    def accept(self, stream: str, place: Place) -> bool:
        """Store where a stream is. Return false for a term below the highest one seen: that is from before a move."""
        with self._lock:
            highest = self._terms.get(stream, 0)
            if place.owned and place.term < highest:
                self._answers.setdefault(stream, {})[place.control] = (
                    f"term {place.term}, but the stream has had term {highest}"
                )
                return False
            self._terms[stream] = max(highest, place.term)
            self._places[stream] = place
            return True

    def answered(self, stream: str, endpoint: str, answer: str) -> None:
        """Note why a member did not lead to the stream."""
        with self._lock:
            self._answers.setdefault(stream, {})[endpoint] = answer
            self._ask_last(endpoint)

    def located(self, stream: str, endpoint: str, result: Any) -> Place | None:
        """Read a member's answer to `locate`, and learn the other members from it.

        Returns:
            Where the stream is; None if the answer is not valid, or from before a move.
        """
        try:
            place = read_place(result) if isinstance(result, Mapping) else None
        except ProtocolError as error:
            self.answered(stream, endpoint, f"an answer that is not valid: {error.message}")
            return None
        if place is None:
            self.answered(stream, endpoint, "no member")
            return None
        self._learn(result.get("fleet"))
        if not self.accept(stream, place):
            with self._lock:
                self._ask_last(endpoint)
            return None
        with self._lock:
            at = f"at member {place.member!r}, {place.ingest}, term {place.term}"
            state = at if place.owned else f"owned by nobody, to be opened at member {place.member!r}, {place.ingest}"
            self._answers.setdefault(stream, {})[endpoint] = state
        return place

    def found(self, stream: str) -> None:
        """Note that a stream was reached: what members answered before has no meaning any more."""
        with self._lock:
            self._answers.pop(stream, None)

    def failure(self, stream: str | None, what: str, limit_s: float) -> str:
        """Return the text of an error: nobody has the stream, and what each member answered."""
        with self._lock:
            known = self._answers.get(stream or "", {})
            answers = "; ".join(f"{each}: {known.get(each, 'not asked')}" for each in self._order[:8])
            more = f"; and {len(self._order) - 8} more" if len(self._order) > 8 else ""
        return f"no member of the fleet {what} within {limit_s:g} s: {answers}{more}"

    def _learn(self, fleet: Any) -> None:
        if not isinstance(fleet, list):
            return
        living = [each for each in fleet if isinstance(each, str) and 0 < len(each) <= ENDPOINT_LETTERS]
        with self._lock:
            wanted = dict.fromkeys([*self._given, *living][:MOST_MEMBERS])
            kept = [each for each in self._order if each in wanted]
            self._order = [*kept, *(each for each in wanted if each not in kept)]

    def _ask_last(self, endpoint: str) -> None:
        if endpoint in self._order:
            self._order.remove(endpoint)
            self._order.append(endpoint)
