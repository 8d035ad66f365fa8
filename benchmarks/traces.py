"""What `daemon.telemetry` costs: closed loop and sustained rate without it, with it, and with a share of the frames.

    python benchmarks/traces.py [--frames 1500] [--rounds 3]

A collector in a process of its own takes the spans and does nothing with them. Each figure is the median of interleaved
rounds, so that other load slows all of them.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from journal import loops
from trackd.commands.bench import walk
from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Detections

MODES = {"off": [], "telemetry": ["1.0"], "share 0.01": ["0.01"]}


class Sink(BaseHTTPRequestHandler):
    """Reads an export and forgets it."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def serve() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextmanager
def running_sink():
    with subprocess.Popen([sys.executable, __file__, "--sink"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.terminate()


def outcomes(http: str) -> dict[str, float]:
    """Return the counts of `trackd_traces_total` by outcome."""
    with urllib.request.urlopen(f"{http}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    rows = [line.rpartition(" ") for line in lines if line.startswith("trackd_traces_total{")]
    return {name.split('"')[1]: float(value) for name, _, value in rows}


def measure(overrides: list[str], count: int) -> tuple[float, float, float, float]:
    """Return p50 and p99 of the closed loop in ms, the rate of one stream, and the part of its spans that was lost."""
    boxes = walk(10, 1280, 720)
    frames = [Detections(boxes=next(boxes)) for _ in range(count)]
    with running_daemon(overrides) as at, Client(at["ingest"], at["tracks"], at["control"], timeout_s=60) as client:
        p50, p99, rate = loops(client, frames)
        lost = outcomes(at["http"])["queue_full"] / (2 * count)
    return p50, p99, rate, lost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sink", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.sink:
        return serve()
    measured: dict[str, list[tuple[float, ...]]] = {mode: [] for mode in MODES}
    with running_sink() as address:
        for _ in range(arguments.rounds):
            for mode, share in MODES.items():
                on = [f"daemon.telemetry={address}", f"daemon.telemetry_share={share[0]}"] if share else []
                measured[mode].append(measure(on, arguments.frames))
    base = np.median(measured["off"], axis=0)
    print(f"{'':12} {'p50 ms':>8} {'ratio':>6} {'p99 ms':>8} {'ratio':>6} {'frames/s':>9} {'ratio':>6} {'lost':>6}")
    for mode, rows in measured.items():
        p50, p99, rate, lost = np.median(rows, axis=0)
        print(
            f"{mode:12} {p50:8.3f} {p50 / base[0]:6.2f} {p99:8.3f} {p99 / base[1]:6.2f} {rate:9.0f} "
            f"{rate / base[2]:6.2f} {lost:6.1%}"
        )
    return None


if __name__ == "__main__":
    main()
