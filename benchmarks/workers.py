"""Several daemons on one machine: what a frame costs in one of two, and what one set of endpoints would add.

    python benchmarks/workers.py [--rounds R] [--seconds S]

Eight streams of ten boxes, as in sustained.py, from two clients of one process. The clients share one daemon, or have
one each: both name their daemon, and nothing is between them. `pinned`: one daemon has a core and the load another;
or each of two daemons has a core, and the load uses both. All cases run in turn in each round; a ratio is of one round,
and the table has medians over the rounds. CPU is that of all threads, user and system.

The forwarder is three `zmq_proxy`s in one process: DEALER to DEALER for ingest and control, XPUB to XSUB for tracks.
It serves one client, since a proxy of ROUTER and DEALER would add an address that the daemon's replies do not have. It
reads no message, so it is the least that one set of endpoints can cost: to divide streams it would have to read names.
"""

from __future__ import annotations

import argparse
import math
import os
import select
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import zmq

from bare_client import INSTANCES
from figures import Figure
from processes import cpu_s, watched
from targets import Target
from trackd.commands.bench import Load, measure
from trackd.commands.daemon_process import running_daemon

STREAMS = 8
PACED_FPS = 100.0  # of a stream, where the rate is fixed
PER_CORE = 0.9
READY_S = 30.0
ENDPOINTS = ("ingest", "tracks", "control")
ONE, TWO, PACED_ONE, PACED_TWO = "one daemon", "two daemons", "one daemon, 800/s", "two daemons, 800/s"
PINNED_ONE, PINNED_TWO = "one daemon, pinned", "two daemons, pinned"
DIRECT, FORWARDED = "one client, direct", "one client, forwarder"


@dataclass
class Round:
    """A case in one round."""

    rate: float  # frames/s
    daemons_us: float  # CPU of a frame
    clients_us: float
    forwarder_us: float
    lost: int  # frames

    @property
    def per_core(self) -> float:
        """Frames for each second of CPU of the daemons."""
        return 1e6 / self.daemons_us


@dataclass(frozen=True)
class Rig:
    """The processes, which all cases share; those that a case does not use are idle."""

    daemons: list[tuple[dict[str, str], psutil.Process]]
    forwarder: tuple[dict[str, str], psutil.Process]

    def run(self, at: Sequence[Mapping[str, str]], seconds: float, fps: float = math.inf, clients: int = 2) -> Round:
        """Put the streams on the daemons at these addresses, in equal parts."""
        processes = [[process for _, process in self.daemons], [psutil.Process()], [self.forwarder[1]]]
        load = Load(STREAMS // len(at), fps, INSTANCES, seconds=seconds, clients=clients // len(at))
        before = [sum(map(cpu_s, group)) for group in processes]
        with ThreadPoolExecutor(len(at)) as pool:
            found = [each for part in pool.map(lambda one: measure(load, dict(one)), at) for each in part]
        spent = [sum(map(cpu_s, group)) - start for group, start in zip(processes, before, strict=True)]
        frames = sum(each.frames for each in found)
        lost = sum(each.sent - each.frames + each.dropped + each.rejected for each in found)
        daemons_us, clients_us, forwarder_us = (1e6 * each / frames for each in spent)
        return Round(frames / max(each.seconds for each in found), daemons_us, clients_us, forwarder_us, lost)

    @contextmanager
    def pinned(self, load: set[int], *daemons: set[int]) -> Iterator[None]:
        """Bind the load and the daemons to cores."""
        all_cores = os.sched_getaffinity(0)
        bind(os.getpid(), load)
        for (_, process), cores in zip(self.daemons, daemons, strict=False):
            bind(process.pid, cores)
        try:
            yield
        finally:
            for pid in (os.getpid(), *(process.pid for _, process in self.daemons)):
                bind(pid, all_cores)


def bind(pid: int, cores: set[int]) -> None:
    """Bind every thread of a process to cores; threads that it starts later inherit this."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # it ended meanwhile
            os.sched_setaffinity(int(thread.name), cores)


def closed_loop_ms(at: Mapping[str, str], seconds: float) -> float:
    """Return the median round trip of one stream."""
    load = Load(fps=math.inf, instances=INSTANCES, seconds=seconds, closed_loop=True)
    (measured,) = measure(load, dict(at))
    return float(1e3 * np.median(measured.round_trips_s[10:]))


# --- the forwarder ---


def forward(addresses: Sequence[str]) -> None:
    """Forward between a client and the daemon at these ingest, tracks and control addresses, until the parent ends."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
    bound = []
    for name, address in zip(ENDPOINTS, addresses, strict=True):
        kinds = (zmq.XPUB, zmq.XSUB) if name == "tracks" else (zmq.DEALER, zmq.DEALER)
        front, back = (context.socket(kind) for kind in kinds)
        front.bind("tcp://127.0.0.1:*")
        back.connect(address)
        bound.append(front.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"))
        threading.Thread(target=zmq.proxy, args=(front, back), daemon=True).start()
    print("ready", *bound, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)  # the proxies do not end


@contextmanager
def running_forwarder(at: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run a forwarder before a daemon; yield its addresses."""
    command = [sys.executable, __file__, "forward", *(at[name] for name in ENDPOINTS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], READY_S)
            words = process.stdout.readline().split() if readable else []
            if len(words) != 1 + len(ENDPOINTS):
                raise RuntimeError(f"the forwarder was not ready within {READY_S:g} s")
            yield dict(zip(ENDPOINTS, words[1:], strict=True))
        finally:
            process.kill()
            process.wait(READY_S)


# --- the cases ---


def rounds(count: int, seconds: float) -> tuple[dict[str, list[Round]], dict[str, list[float]]]:
    """Return all rounds of each case, and the medians of the closed loop, ms."""
    found: dict[str, list[Round]] = defaultdict(list)
    loops: dict[str, list[float]] = defaultdict(list)
    first, second, *_ = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        daemons = [stack.enter_context(watched(running_daemon(["daemon.http=null"]))) for _ in range(2)]
        (one, _), (other, _) = daemons
        rig = Rig(daemons, stack.enter_context(watched(running_forwarder(one))))
        before, _ = rig.forwarder
        for _ in range(count):
            found[ONE].append(rig.run([one], seconds))
            found[TWO].append(rig.run([one, other], seconds))
            found[PACED_ONE].append(rig.run([one], seconds, PACED_FPS))
            found[PACED_TWO].append(rig.run([one, other], seconds, PACED_FPS))
            with rig.pinned({second}, {first}):
                found[PINNED_ONE].append(rig.run([one], seconds))
            with rig.pinned({first, second}, {first}, {second}):
                found[PINNED_TWO].append(rig.run([one, other], seconds))
            found[DIRECT].append(rig.run([one], seconds, clients=1))
            found[FORWARDED].append(rig.run([before], seconds, clients=1))
            loops[DIRECT].append(closed_loop_ms(one, seconds / 2))
            loops[FORWARDED].append(closed_loop_ms(before, seconds / 2))
    return found, loops


def ratio(found: Mapping[str, list[Round]], name: str, case: str, to: str) -> np.ndarray:
    """Return a quantity of one case relative to another, by round."""
    return np.array([getattr(a, name) / getattr(b, name) for a, b in zip(found[case], found[to], strict=True)])


def main() -> None:
    if sys.argv[1:2] == ["forward"]:
        forward(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("workers.py needs two cores")
    found, loops = rounds(options.rounds, options.seconds)
    print(f"{STREAMS} streams x {INSTANCES} instances; medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"{'':22} frames/s   CPU of a frame, us: daemons  clients  forwarder   frames/s a core of the daemons")
    for case, each in found.items():
        names = ("rate", "daemons_us", "clients_us", "forwarder_us", "per_core")
        rate, daemons, clients, forwarder, per_core = (
            float(np.median([getattr(one, name) for one in each])) for name in names
        )
        print(f"{case:22} {rate:8.0f} {daemons:28.0f} {clients:8.0f} {forwarder:10.0f} {per_core:33.0f}")
    for case, times in loops.items():
        print(f"{case:22} closed loop p50 {np.median(times):.3f} ms")
    print(f"{sum(one.lost for each in found.values() for one in each)} frames lost, dropped or rejected")
    full, paced, pinned = (
        ratio(found, "per_core", *pair) for pair in ((TWO, ONE), (PACED_TWO, PACED_ONE), (PINNED_TWO, PINNED_ONE))
    )
    hop_us = np.array([one.forwarder_us for one in found[FORWARDED]])
    total = [one.daemons_us + one.clients_us for one in found[DIRECT]]
    hop = np.array([one.daemons_us + one.clients_us + one.forwarder_us for one in found[FORWARDED]]) / total - 1
    later = np.array(loops[FORWARDED]) - np.array(loops[DIRECT])
    slower = np.array(loops[FORWARDED]) / np.array(loops[DIRECT]) - 1
    print()
    print(f"two daemons / one, frames a core: {np.median(full):.2f} at full rate, {np.median(paced):.2f} at 800/s")
    print(
        f"forwarder: {np.median(hop_us):.0f} us of a frame itself; daemon, client and forwarder {np.median(hop):+.0%}"
    )
    print(f"forwarder: closed loop p50 {np.median(later):+.3f} ms, {np.median(slower):+.0%}")
    print(Figure.of("two daemons, frames a core relative to one, pinned", pinned, more_is_better=True))
    print(Figure.of("forwarder, CPU of a frame", hop_us, "us"))
    print(Figure.of("forwarder, closed loop p50", later, "ms"))
    print()
    grown = float(np.median(pinned))
    print(Target("two daemons, frames/s a core, relative to one daemon, pinned", f"≥ {PER_CORE}×",
                 f"{grown:.2f}×", grown >= PER_CORE))  # fmt: skip


if __name__ == "__main__":
    main()
