"""1080p gray frames with 10 instances, one stream, tcp loopback, `motion` with appearance: its rate, and p99 at 60 fps.

    python benchmarks/images.py [--rounds R] [--seconds S]

It measures in turn, so that other load slows all three: the bare echo of such a frame's bytes, trackd as fast as credit
allows, trackd at 60 fps. Latency is from a frame's due time until its subscriber has the ids. The targets are for a
machine on which that echo took `ECHO_MS`, so each is also given as a number of echoes.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from bare_client import INSTANCES, frame_bytes
from bare_loop import running_bare
from figures import Figure
from targets import Target
from trackd.commands.bench import Load, measure, rate
from trackd.commands.daemon_process import running_daemon

WIDTH, HEIGHT, FPS = 1920, 1080, 60.0
RATE, P99_MS = 300.0, 10.0
ECHO_MS = 0.68  # the slower of the figures in $TRACKD_SHARED/measured.md, which is stricter


def rounds(count: int, seconds: float) -> tuple[np.ndarray, int]:
    """Return rows (rounds, 4) of echo ms, frames/s, p50 and p99 ms at 60 fps; and the number of lost frames."""
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH), np.uint8)
    rows, lost = [], 0
    fast = Load(1, math.inf, INSTANCES, WIDTH, HEIGHT, seconds)
    paced = Load(1, FPS, INSTANCES, WIDTH, HEIGHT, seconds)
    with running_daemon(["daemon.http=null"]) as at, running_bare("echo") as echoing:
        for _ in range(count):
            echo = float(np.median(echoing.echo(frame_bytes(image), seconds / 4)))
            ours, steady = measure(fast, at), measure(paced, at)
            lost += sum(each.sent - each.frames + each.dropped for each in (*ours, *steady))
            p50, p99 = np.percentile(1e3 * np.array(steady[0].latencies_s[10:]), [50, 99])
            rows.append((echo, rate(ours), p50, p99))
    return np.array(rows), lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    rows, lost = rounds(options.rounds, options.seconds)
    echo, held, p50, p99 = np.median(rows, axis=0)
    print(f"medians of {options.rounds} rounds of {options.seconds:g} s")
    print(f"bare echo of a frame        {echo:8.2f} ms p50")
    print(f"trackd at full rate         {held:8.0f} frames/s")
    print(f"trackd at 60 fps            {p50:8.2f} ms p50  {p99:.2f} ms p99, due time to ids")
    print(f"{lost} frames lost or dropped")
    print(Figure.of("1080p, rate", rows[:, 1], "frames/s", more_is_better=True))
    print(Figure.of("1080p, time of a frame in echoes", 1e3 / rows[:, 1] / rows[:, 0]))
    print(Figure.of("1080p at 60 fps, p99 in echoes", rows[:, 3] / rows[:, 0]))
    print()
    what = "1080p mono, N = 10, appearance"
    print(Target(f"{what}, rate", f"≥ {RATE:.0f} frames/s", f"{held:.0f} frames/s", bool(held >= RATE and not lost)))
    print(_in_echoes(f"{what}, time of a frame", 1e3 / RATE, 1e3 / rows[:, 1], rows[:, 0]))
    print(Target(f"{what}, p99 at 60 fps", f"≤ {P99_MS:g} ms", f"{p99:.2f} ms", bool(p99 <= P99_MS and not lost)))
    print(_in_echoes(f"{what}, p99 at 60 fps", P99_MS, rows[:, 3], rows[:, 0]))


def _in_echoes(what: str, most_ms: float, times_ms: np.ndarray, echo_ms: np.ndarray) -> Target:
    most, count = most_ms / ECHO_MS, float(np.median(times_ms / echo_ms))
    wanted = f"≤ {most:.1f} ({most_ms:.3g} ms at an echo of {ECHO_MS})"
    return Target(f"{what}, in echoes of its bytes", wanted, f"{count:.1f}", count <= most)


if __name__ == "__main__":
    main()
