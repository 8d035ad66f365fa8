"""A fleet on a fake clock: its members lose a rack, and its clients bring the streams to other members.

The placement, the roster and the rules by which a member takes a stream are trackd's. The servers of the store, the
network and the tracking are times, of `Figures`. Times are seconds since the rack was lost.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from trackd.fleet.roster import Roster
from trackd.fleet.store import Member, Owner

_RENEWALS = 3  # in the time of a lease
_P99 = 2.326  # standard deviations
_OPENED_AT_ONCE = 100  # streams between two announcements, before the loss


@dataclass(frozen=True, slots=True)
class Figures:
    """What things take. docs/capacity.md says which of the defaults are measured, and how."""

    lease_s: float = 3.0
    soonest_gone_s: float = 0.5  # after the end of a lease until the servers delete the member's key
    latest_gone_s: float = 2.0
    poll_s: float = 0.5  # between two looks of a member at all keys: since when it knows a renewal
    polled_s: float = 50.0  # keys that a member reads each second, at most
    watch_s: float = 0.02  # until all members know of a change
    retry_s: float = 0.25  # between two questions of a client
    round_trip_s: float = 0.001  # between a client and a member
    read_s: float = 0.001  # of an owner's key
    write_p50_s: float = 0.0012  # of an append or an owner's key, without a queue
    write_p99_s: float = 0.0033
    appends_s: float = 5900.0  # that the raft group of a log takes each second, if they have no bytes
    log_bytes_s: float = 50e6  # that it takes
    claims_s: float = 1450.0  # that the raft group of the owners takes each second
    frame_bytes: float = 407.0  # in the log, with its share of the snapshots
    read_bytes_s: float = 100e6  # of a log, for takeovers
    fps: float = 30.0
    queue_frames: int = 32  # `stream.queue_depth`
    tail_frames: int = 282  # that a takeover reads: those since the last snapshot (250), and a queue before it
    replay_s: float = 0.06  # to read and track them, by the member that takes the stream over


@dataclass(frozen=True, slots=True)
class AppendLoad:
    """The appends of all streams of a log, with one in flight for each stream."""

    append_s: float  # from its start to its end
    queue_s: float  # of it, waiting for the appends of other streams
    frames: float  # that are in it
    share: float  # of the frames that the cameras make, and the log takes


def append_load(streams: int, figures: Figures) -> AppendLoad:
    """Return what the log does with frames of `streams` cameras.

    The servers write all appends one after the other: for each a fixed time, and a time for its bytes. If the streams
    make more appends than that, each waits for those of all other streams, and the next frames gather in the meantime,
    so that the appends become fewer and larger. A stream's queue bounds how many.
    """
    each_s, frame_s = 1 / figures.appends_s, figures.frame_bytes / figures.log_bytes_s
    busy = streams * figures.fps * (each_s + frame_s)
    if busy <= 1:
        return AppendLoad(figures.write_p50_s, 0.0, 1.0, 1.0)
    # All streams wait: queue_s = streams · (each_s + frames · frame_s), and frames = fps · queue_s.
    bytes_share = streams * figures.fps * frame_s
    frames = math.inf if bytes_share >= 1 else figures.fps * streams * each_s / (1 - bytes_share)
    frames = min(frames, float(figures.queue_frames))
    queue_s = streams * (each_s + frames * frame_s)
    return AppendLoad(figures.write_p50_s + queue_s, queue_s, frames, min(1.0, frames / (figures.fps * queue_s)))


class _Group:
    """Requests that are served one after the other."""

    def __init__(self, request_s: float) -> None:
        self._request_s = request_s
        self._free = -math.inf

    def serve(self, now: float, waiting_s: float = 0.0) -> float:
        """Return when a request that arrives now is done; `waiting_s` of other work is before it."""
        self._free = max(now + waiting_s, self._free) + self._request_s
        return self._free


class SimulatedFleet:
    """Members in racks, streams, and a store.

    Args:
        streams: how many.
        members: the number of the rack of each.
        capacity: of each member.
        figures: what things take.
        rng: for the phases of the renewals, the choices of the clients, and the times of writes.
    """

    def __init__(
        self, streams: int, members: list[int], capacity: int, figures: Figures, rng: np.random.Generator
    ) -> None:
        self.figures = figures
        self.racks = {f"rack{rack}-member{number}": rack for number, rack in enumerate(members)}
        self.living = [Member(name, f"{name}-1", {}, capacity) for name in self.racks]
        self.roster = Roster()
        self.owners: dict[str, Owner] = {}
        self.claimed_s: dict[str, float] = {}  # when each stream of the lost rack had an owner again
        self.opened_s: dict[str, float] = {}  # when its frames were taken again
        self.refused = 0  # claims that lost against another one
        self._rng = rng
        self._names = [f"camera-{number}" for number in range(streams)]
        self._streams: Counter[str] = Counter()  # of each member
        self._stored = {member.name: member for member in self.living}  # the members' keys
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = itertools.count()
        self._owner_group = _Group(1 / figures.claims_s)
        self._log_group = _Group(1 / figures.appends_s)
        self._queue_s = 0.0  # of an append, in the log
        self._lost_rack: int | None = None
        self._log_reads = _Group(figures.tail_frames * figures.frame_bytes / figures.read_bytes_s)
        self._replays = {name: _Group(figures.replay_s) for name in self.racks}
        self._open_all()

    @property
    def loads(self) -> dict[str, int]:
        """The number of streams of each living member."""
        owned = Counter(owner.member for owner in self.owners.values())
        return {member.name: owned[member.name] for member in self.living}

    def _open_all(self) -> None:
        for number, stream in enumerate(self._names):
            if number % _OPENED_AT_ONCE == 0:
                self._stored = {each.name: self._announced(each) for each in self.living}
                self.roster.update(self._stored)
            member = self.roster.place(stream)
            assert member is not None
            self.owners[stream] = Owner(member.name, member.instance, term=1)
            self._streams[member.name] += 1

    def _announced(self, member: Member) -> Member:
        return replace(member, streams=self._streams[member.name])

    def lose(self, rack: int) -> list[str]:
        """Kill the members of a rack, and run until no client waits; return the streams that these members owned."""
        lease_s = self.figures.lease_s
        self._lost_rack = rack
        killed = [member for member in self.living if self.racks[member.name] == rack]
        self.living = [member for member in self.living if self.racks[member.name] != rack]
        self._stored = {name: self._announced(member) for name, member in self._stored.items()}
        self.roster.update(self._stored)
        for member in killed:
            renewed_s = -float(self._rng.uniform(0, lease_s / _RENEWALS))
            # Either the servers delete its key, or the others count the lease from when they saw its last renewal.
            deleted_s = float(self._rng.uniform(self.figures.soonest_gone_s, self.figures.latest_gone_s))
            poll_s = max(self.figures.poll_s, len(self.racks) / self.figures.polled_s)
            late_s = min(deleted_s, float(self._rng.uniform(0, poll_s)))
            self._at(renewed_s + lease_s + late_s, partial(self._expire, member))
        for member in self.living:
            self._at(float(self._rng.uniform(0, lease_s / _RENEWALS)), partial(self._renew, member))
        names = {member.name for member in killed}
        lost = [stream for stream, owner in self.owners.items() if owner.member in names]
        self._queue_s = append_load(len(self.owners) - len(lost), self.figures).queue_s
        for stream in lost:
            noticed_s = float(self._rng.uniform(0, 1 / self.figures.fps))  # at its next frame
            self._at(noticed_s, partial(self._ask, stream))
        while len(self.opened_s) < len(lost):
            now, _, event = heapq.heappop(self._events)
            event(now)
        return lost

    def _at(self, time_s: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (time_s, next(self._numbers), event))

    # --- the members' keys ---

    def _renew(self, member: Member, now: float) -> None:
        self._stored[member.name] = self._announced(member)
        self._report(now)
        self._at(now + self.figures.lease_s / _RENEWALS, partial(self._renew, member))

    def _expire(self, member: Member, now: float) -> None:
        del self._stored[member.name]
        self._report(now)

    def _report(self, now: float) -> None:
        stored = dict(self._stored)
        self._at(now + self.figures.watch_s, lambda later: self.roster.update(stored))

    # --- a client, and the member that it asks ---

    def _ask(self, stream: str, now: float) -> None:
        asked = self.living[int(self._rng.integers(len(self.living)))]
        there_s = now + self.figures.round_trip_s / 2 + self.figures.read_s
        self._at(there_s, partial(self._answer, stream, asked, now))

    def _answer(self, stream: str, asked: Member, since: float, now: float) -> None:
        """Take the stream, send the client to the member that should, or name the former owner that seems to live."""
        seen = self.owners[stream]
        placed = None if self.roster.is_alive(seen) else self.roster.place(stream)
        if placed is None or self.racks[placed.name] == self._lost_rack:
            self._ask_again(stream, since, now)
        elif placed.name == asked.name:
            self._claim(stream, placed.name, seen, since, now)
        else:
            there_s = now + self.figures.round_trip_s + self.figures.read_s
            self._at(there_s, lambda later: self._claim(stream, placed.name, self.owners[stream], since, later))

    def _ask_again(self, stream: str, since: float, now: float) -> None:
        self._at(max(since + self.figures.retry_s, now), partial(self._ask, stream))

    # --- a takeover ---

    def _claim(self, stream: str, name: str, seen: Owner, since: float, now: float) -> None:
        written_s = self._owner_group.serve(now) + self._write_s()
        self._at(written_s, partial(self._own, stream, name, seen, since))

    def _own(self, stream: str, name: str, seen: Owner, since: float, now: float) -> None:
        if self.owners[stream] != seen:
            self.refused += 1
            self._ask_again(stream, since, now)
            return
        self.owners[stream] = Owner(name, f"{name}-1", seen.term + 1)
        self._streams[name] += 1
        self.claimed_s[stream] = self._log_group.serve(now, self._queue_s) + self._write_s()
        self._at(self.claimed_s[stream], partial(self._read, stream, name))

    def _read(self, stream: str, name: str, now: float) -> None:
        self._at(self._log_reads.serve(now), partial(self._replay, stream, name))

    def _replay(self, stream: str, name: str, now: float) -> None:
        self.opened_s[stream] = self._replays[name].serve(now)

    def _write_s(self) -> float:
        figures = self.figures
        spread = math.log(figures.write_p99_s / figures.write_p50_s) / _P99
        return figures.write_p50_s * math.exp(spread * float(self._rng.standard_normal()))
