"""Eight streams at full rate, boxes only, clients and subscribers included: trackd and the bare loop.

    python benchmarks/sustained.py [--rounds R] [--seconds S] [--streams N] [--clients N]

It measures the bare loop of bare_loop.py and trackd in turn, so that other load slows both. A ratio is of one round;
the table has medians over the rounds. Every frame that is sent must be tracked. Our client is one `Client` with all
streams, as in a program with several cameras: one thread sends and one reads. The bare client is one thread.
`--clients 8` gives each stream a separate client and two threads in the same process.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil

from bare_client import INSTANCES
from bare_loop import running_bare
from figures import Figure
from processes import cpu_s, watched
from targets import Target
from trackd.commands.bench import Load, measure, rate
from trackd.commands.daemon_process import running_daemon

RATE = 6000.0
BARE_RATE = 11_000.0  # of the bare loop on the machine of the targets; $TRACKD_SHARED/measured.md


@dataclass
class Round:
    """The figures of one of the two in one round."""

    rate: float  # frames/s
    daemon_us: float  # CPU time of a frame
    clients_us: float


def rounds(count: int, seconds: float, streams: int, clients: int) -> tuple[list[Round], list[Round], int]:
    """Return the bare loop's rounds, trackd's rounds, and the number of trackd's frames that were lost or dropped."""
    bare, ours, lost = [], [], 0
    load = Load(streams, math.inf, INSTANCES, seconds=seconds, clients=clients)
    with (
        watched(running_daemon(["daemon.http=null"])) as (at, daemon),
        watched(running_bare()) as (bound, bare_daemon),
    ):
        for _ in range(count):
            with spent(bare_daemon) as cpu:
                frames, rate_of = bound.sustained(streams, seconds)
            bare.append(Round(rate_of, *(1e6 * each / frames for each in cpu)))
            with spent(daemon) as cpu:
                measured = measure(load, at)
            frames = sum(each.frames for each in measured)
            ours.append(Round(rate(measured), *(1e6 * each / frames for each in cpu)))
            lost += sum(each.sent - each.frames + each.dropped for each in measured)
    return bare, ours, lost


@contextmanager
def spent(daemon: psutil.Process) -> Iterator[list[float]]:
    """Measure the CPU seconds of the daemon and of this process; the list is filled when the block ends."""
    processes = (daemon, psutil.Process())
    before = [cpu_s(process) for process in processes]
    cpu: list[float] = []
    yield cpu
    cpu.extend(cpu_s(process) - start for process, start in zip(processes, before, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--clients", type=int, default=1)
    options = parser.parse_args()
    bare, ours, lost = rounds(options.rounds, options.seconds, options.streams, options.clients)
    shares = [mine.rate / least.rate for mine, least in zip(ours, bare, strict=True)]
    share, held = float(np.median(shares)), float(np.median([each.rate for each in ours]))
    print(f"{options.streams} streams x {INSTANCES} instances; {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'frames/s':20} " + " ".join(f"{f'round {number}':>8}" for number in range(1, len(ours) + 1)) + "   median")
    for name, values in (("bare loop", [each.rate for each in bare]), ("trackd", [each.rate for each in ours])):
        print(f"{name:20} " + " ".join(f"{value:8.0f}" for value in (*values, np.median(values))))
    print(f"{'trackd / bare loop':20} " + " ".join(f"{value:8.2f}" for value in (*shares, share)))
    print(f"CPU of a frame, us: {_cpu('bare daemon', bare)}; {_cpu('trackd', ours)}")
    print(f"{lost} frames lost or dropped")
    rates = [each.rate for each in ours]
    print(Figure.of(f"{options.streams} streams, rate", rates, "frames/s", more_is_better=True))
    print(Figure.of(f"{options.streams} streams, rate relative to the bare loop", shares, more_is_better=True))
    print(Figure.of(f"{options.streams} streams, CPU of a frame", [each.daemon_us for each in ours], "us"))
    print()
    what, wanted = f"{options.streams} streams, N = 10, lossless", RATE / BARE_RATE
    print(Target(what, f"≥ {RATE:.0f} frames/s", f"{held:.0f} frames/s, {lost} lost", bool(held >= RATE and not lost)))
    wanted_text = f"≥ {wanted:.2f}× ({RATE:.0f} at {BARE_RATE:.0f} of the bare loop)"
    print(
        Target(f"{what}, relative to the bare loop", wanted_text, f"{share:.2f}×", bool(share >= wanted and not lost))
    )


def _cpu(name: str, each: list[Round]) -> str:
    daemon, clients = np.median([(one.daemon_us, one.clients_us) for one in each], axis=0)
    return f"{name} {daemon:.0f} + its clients {clients:.0f}"


if __name__ == "__main__":
    main()
