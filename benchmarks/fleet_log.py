"""The store of a fleet on three real NATS servers on loopback: appends, claims, reads, and the end of a lease.

    python benchmarks/fleet_log.py [--streams N] [--seconds S]

Each stream has one append in flight, as in a daemon; all are sent by this process. The servers write each message to
the disk before they acknowledge it. All of it shares this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from trackd.commands.demo.nats_servers import NatsServers
from trackd.fleet.jetstream import JetStreamStore
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import Member

SIZES = (400, 4_000, 32_000)  # bytes of an append
READ = 4096  # messages of a log that is read: those of a full history
TAIL = 282  # of them a takeover reads: since the last snapshot (250 frames), and a queue before it (32)
LEASES = 5
MEMBER = Member("bench", "bench-1", {}, 64)


async def appends(store: JetStreamStore, streams: int, size: int, seconds: float) -> tuple[np.ndarray, float, float]:
    """Append to streams at the same time; return s of each, appends/s, and us of this process's CPU time for each."""
    tag, data, times = secrets.token_hex(4), secrets.token_bytes(size), []
    claimed = await asyncio.gather(*(store.claim(f"{tag}-{number}", MEMBER, None) for number in range(streams)))
    began, cpu_s = time.perf_counter(), time.process_time()

    async def write(number: int) -> None:
        last = claimed[number].sequence
        while time.perf_counter() - began < seconds:
            started = time.perf_counter()
            last = await store.append(f"{tag}-{number}", claimed[number].term, last, data)
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(write(number) for number in range(streams)))
    spent_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu_s
    return np.array(times), len(times) / spent_s, 1e6 * cpu_s / len(times)


async def claims(store: JetStreamStore, count: int) -> float:
    """Return claims/s of streams that are claimed at the same time."""
    tag, began = secrets.token_hex(4), time.perf_counter()
    await asyncio.gather(*(store.claim(f"{tag}-{number}", MEMBER, None) for number in range(count)))
    return count / (time.perf_counter() - began)


async def read(store: JetStreamStore, streams: int, size: int) -> list[tuple[int, float, float]]:
    """Read the logs of streams at the same time: whole, and from where a takeover reads them.

    Returns:
        Of both: the messages of each, seconds, and this process's CPU time, s.
    """
    tag, data = secrets.token_hex(4), secrets.token_bytes(size)

    async def write(stream: str) -> list[int]:
        claimed = await store.claim(stream, MEMBER, None)
        sequences = [claimed.sequence]
        for _ in range(READ - 1):
            sequences.append(await store.append(stream, claimed.term, sequences[-1], data))
        return sequences

    async def count(stream: str, last: int, first: int) -> int:
        return len([message async for message in store.read(stream, last, first)])

    names = [f"{tag}-{number}" for number in range(streams)]
    written = dict(zip(names, await asyncio.gather(*(write(name) for name in names)), strict=True))
    times = []
    for messages in (READ, TAIL):
        began, cpu_s = time.perf_counter(), time.process_time()
        found = await asyncio.gather(*(count(name, at[-1], at[-messages]) for name, at in written.items()))
        times.append((messages, time.perf_counter() - began, time.process_time() - cpu_s))
        assert found == [messages] * streams
    return times


async def expiries(settings: FleetSettings, store: JetStreamStore) -> list[float]:
    """Return how long after the end of its lease each of several members is gone for another one, s."""
    living: dict[str, Member] = {}
    gone_s: dict[str, float] = {}

    def changed(members: dict[str, Member]) -> None:
        for name in living.keys() - members.keys():
            gone_s[name] = time.monotonic()
        living.update(members)

    await store.watch_members(changed)
    ends_s = {}
    for number in range(LEASES):
        name = f"member-{number}"
        other = JetStreamStore(settings, name, f"{name}-1")
        await other.open()
        await other.announce(Member(name, f"{name}-1", {}, 64))
        ends_s[name] = time.monotonic() + settings.lease_s
        await other.close()
        await asyncio.sleep(0.37)  # so that the leases end at different parts of a second
    deadline = time.monotonic() + 10 * settings.lease_s
    while len(gone_s) < LEASES and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    return [gone_s[name] - end for name, end in ends_s.items()]


async def measure(servers: NatsServers, streams: int, seconds: float, table: Table) -> None:
    settings = FleetSettings(tuple(servers.urls), "bench", monitoring=tuple(servers.monitors))
    store = JetStreamStore(settings, MEMBER.name, MEMBER.instance)
    await store.open()
    for count in (1, streams):
        for size in SIZES:
            times, rate, cpu_us = await appends(store, count, size, seconds)
            p50, p99 = 1e3 * np.percentile(times, (50, 99))
            took = f"p50 {p50:.1f} ms, p99 {p99:.1f} ms, {rate:.0f}/s, {rate * size / 1e6:.1f} MB/s"
            table.add_row(f"{count} streams, appends of {size} bytes", f"{took}, {cpu_us:.0f} us CPU each")
    table.add_row("claims of 500 streams at once", f"{await claims(store, 500):.0f}/s")
    for count in (1, 8):
        for messages, spent_s, cpu_s in await read(store, count, SIZES[0]):
            table.add_row(
                f"{count} reads of {messages} messages of {SIZES[0]} bytes", f"{spent_s:.3f} s, {cpu_s:.3f} s CPU"
            )
    late = await expiries(settings, store)
    table.add_row("a member is gone after the end of its lease", f"{min(late):.2f} to {max(late):.2f} s")
    await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each size")
    options = parser.parse_args()
    table = Table("store of three servers, one machine", "", box=None)
    with tempfile.TemporaryDirectory() as folder, NatsServers(Path(folder)) as servers:
        asyncio.run(measure(servers, options.streams, options.seconds, table))
    Console().print(table)


if __name__ == "__main__":
    main()
