"""Which member gets a stream, and which streams move so that each member has its share. No clocks, no sockets.

The members agree without asking each other, since each computes the same from the same list of members. Where their
lists differ for a moment, so may their answers; the claim decides then.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from trackd.fleet.store import Member, Owner

_HASH_BITS = 52  # of 64: the highest number that leaves every hash, as a float, strictly between 0 and 1
_FULL = 1e-6  # weight of a full member for each stream of its capacity: a million of them are as one free place


@dataclass(frozen=True, slots=True)
class Move:
    """A stream that another member should get."""

    stream: str
    source: str  # name of the member that owns it
    target: str


def place(stream: str, members: Iterable[Member]) -> Member | None:
    """Return the member that a stream without an owner belongs to.

    Weighted rendezvous hashing: each member has the score −w / ln(h), with its weight w and a hash h of the stream and
    its name, uniform in (0, 1); the highest score wins. A member wins a stream with the probability w / Σw. While the
    weights stay, a member that leaves changes the place of its own streams only, and one that joins takes only those
    that it wins. Sources: D. Thaler and C. Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM
    Transactions on Networking 6(1), 1998, for the hash; C. Schindelhauer and G. Schomaker, "Weighted distributed hash
    tables", SPAA 2005, the logarithmic method, for the weights.

    The weight is the free capacity: capacity − streams. A full member has a weight of a millionth of its capacity, so
    that it gets streams only where no member has room: an overloaded stream is better than one that nobody has.

    Args:
        stream: its name.
        members: the living members, in any order; each name once.

    Returns:
        A member that is not draining and has a capacity above 0; None where there is none.
    """
    taking = (member for member in members if _weight(member) > 0)
    return max(taking, key=lambda each: (_score(stream, each.name, _weight(each)), each.name), default=None)


def _weight(member: Member) -> float:
    if member.draining or member.capacity <= 0:
        return 0.0
    return max(float(member.capacity - member.streams), _FULL * member.capacity)


def _score(stream: str, name: str, weight: float) -> float:
    digest = blake2b(f"{stream}\0{name}".encode(), digest_size=8).digest()  # the built-in hash differs by process
    uniform = ((int.from_bytes(digest, "big") >> (64 - _HASH_BITS)) + 0.5) / 2**_HASH_BITS
    return -weight / math.log(uniform)


def rebalance(owners: Mapping[str, Owner], members: Iterable[Member]) -> list[Move]:
    """Return the fewest moves after which each member has its share of the streams, rounded down or up.

    A member's share is by capacity. Streams whose owner is gone are left out, since their clients bring them to another
    member; so are the streams of draining members, which these move themselves.

    Args:
        owners: of all streams, by stream.
        members: the living members, in any order; each name once.

    Returns:
        The moves, by source and then by stream; the same for the same arguments, in whatever order they are.
    """
    taking = {member.name: member for member in sorted(members, key=lambda each: each.name) if not member.draining}
    held: dict[str, list[str]] = {name: [] for name in taking}
    for stream, owner in sorted(owners.items()):
        if owner.member in taking and taking[owner.member].instance == owner.instance:
            held[owner.member].append(stream)
    targets = _targets({name: len(streams) for name, streams in held.items()}, taking)
    missing = {name: wanted - len(held[name]) for name, wanted in targets.items() if wanted > len(held[name])}
    moves = []
    for source, wanted in targets.items():
        for stream in held[source][wanted:]:
            target = max(missing, key=lambda name: (_score(stream, name, missing[name]), name))
            moves.append(Move(stream, source, target))
            missing[target] -= 1
            if missing[target] == 0:
                del missing[target]
    return moves


def _targets(counts: Mapping[str, int], members: Mapping[str, Member]) -> dict[str, int]:
    """Return how many streams each member should have: the sum of `counts`, shared by capacity."""
    total = sum(counts.values())
    capacities = {name: max(member.capacity, 0) for name, member in members.items()}
    capacity = sum(capacities.values())
    if capacity == 0:
        return dict(counts)
    targets = {name: total * each // capacity for name, each in capacities.items()}
    rests = {name: total * each % capacity for name, each in capacities.items()}
    # A share that is rounded up saves a move where the member has more than the share rounded down.
    upwards = [name for name, rest in rests.items() if rest]
    upwards.sort(key=lambda name: (counts[name] <= targets[name], -rests[name], name))
    for name in upwards[: total - sum(targets.values())]:
        targets[name] += 1
    return targets
