"""How long after a stream's `tracks` a rule's message arrives, over UDP, OSC and ZeroMQ on loopback.

    python benchmarks/triggers.py [--frames 1000] [--rate 100] [--instances 10]

A daemon, a camera (this process) and `trackd-client trigger` run as processes of their own. In each frame every box is
inside or outside a zone; so all tracks enter the zone in each second frame, and `near`, `speed_above`, `touching` and
`line_crossed` are evaluated too. A thread of this process subscribes to `tracks` and receives the messages.
`behind tracks` is from its receipt of the settlement to that of the message: it includes the way to the program and
back, and the decoding of the settlement by both. `own` is what the program reports, from its receipt of `tracks` to the
end of its send. Before that, the CPU time of the same work within one process, which other load does not change: to
evaluate the rules, and to send the message.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import zmq

from targets import Target
from trackd.commands.daemon_process import running_daemon
from trackd_client import Client, Detections
from trackd_client.actions.actions import open_action
from trackd_client.apps.trigger import read_rules_file
from trackd_client.protocol import Status, Tracks, decode
from trackd_client.triggers.engine import Engine
from trackd_client.triggers.firing import Firing

GOAL_MS = 1.0
KINDS = ("udp", "osc", "zmq")


def rules(folder: Path, kind: str, port: int) -> Path:
    actions = {
        "udp": {"kind": "udp", "to": f"127.0.0.1:{port}", "message": "{seq}"},
        "osc": {"kind": "osc", "to": f"127.0.0.1:{port}", "args": ["{seq}"]},
        "zmq": {"kind": "zmq", "endpoint": f"tcp://127.0.0.1:{port}", "socket": "push", "message": "{seq}"},
    }
    one = {"refractory_per": "rule", "refractory_s": 1e-9}  # one message a frame
    tree = {
        "zones": {"zone": [[0, 0], [5000, 0], [5000, 400], [0, 400]]},
        "lines": {"line": [[0, 1000], [5000, 1000]]},
        "actions": {"out": actions[kind], "quiet": {"kind": "udp", "to": "127.0.0.1:9"}},
        "rules": {
            "enter": {"when": "zone_enter", "zone": "zone", "do": ["out"], **one},
            "near": {"when": "near", "distance": 1, "do": ["quiet"]},
            "touch": {"when": "touching", "do": ["quiet"]},
            "fast": {"when": "speed_above", "speed": 1e9, "do": ["quiet"]},
            "cross": {"when": "line_crossed", "line": "line", "do": ["quiet"]},
        },
    }  # fmt: skip
    path = folder / f"{kind}.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    return path


def cpu_us(instances: int, repeats: int = 2000) -> tuple[float, float]:
    """Return the CPU time in µs to evaluate a frame in which the rules measure but none fires, and to send by UDP."""
    with tempfile.TemporaryDirectory() as folder:
        file = read_rules_file(rules(Path(folder), "udp", 9))
    engine = Engine(file.rules)
    x = np.arange(instances) * 30.0
    boxes = np.stack([x, np.full(instances, 400.0), x + 20, np.full(instances, 420.0)], axis=1).astype(np.float32)
    ids, scores = np.arange(instances, dtype=np.int32), np.full(instances, 0.9, np.float32)
    frames = [
        Tracks(
            "bench", 1, seq, seq, seq * 10**7, Status.TRACKED, track_ids=ids, track_scores=scores, boxes=boxes + seq % 2
        )
        for seq in range(repeats)
    ]
    start = time.thread_time_ns()
    for tracks in frames:
        engine.tracks(tracks)
    evaluated = time.thread_time_ns()
    action = open_action("out", file.actions["out"])
    firing = Firing("enter", "zone_enter", "bench", 1, 1, 1, 1, 1)
    sending = time.thread_time_ns()
    for _ in range(repeats):
        action.send(firing)
    sent = time.thread_time_ns()
    action.close()
    return (evaluated - start) / repeats / 1e3, (sent - sending) / repeats / 1e3


class Receivers(threading.Thread):
    """Receives settlements and messages, and notes their times, on one thread."""

    def __init__(self, context: zmq.Context, tracks: str, kind: str) -> None:
        super().__init__(daemon=True)
        self.tracks: dict[int, int] = {}
        self.messages: dict[int, int] = {}
        self.stopped = threading.Event()
        self._subscriber = context.socket(zmq.SUB)
        self._subscriber.connect(tracks)
        self._subscriber.setsockopt(zmq.SUBSCRIBE, b"tracks/bench/")
        self._kind = kind
        self._poller = zmq.Poller()
        self._poller.register(self._subscriber, zmq.POLLIN)
        if kind == "zmq":
            self._pull = context.socket(zmq.PULL)
            self.port = self._pull.bind_to_random_port("tcp://127.0.0.1")
            self._poller.register(self._pull, zmq.POLLIN)
        else:
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._udp.bind(("127.0.0.1", 0))
            self.port = self._udp.getsockname()[1]
            self._poller.register(self._udp, zmq.POLLIN)

    def run(self) -> None:
        while not self.stopped.is_set():
            for ready, _ in self._poller.poll(100):
                now = time.monotonic_ns()
                if ready is self._subscriber:
                    message = decode(self._subscriber.recv_multipart()[1:])
                    if isinstance(message, Tracks):
                        self.tracks[message.seq] = now
                    continue
                data = self._pull.recv() if self._kind == "zmq" else self._udp.recv(65536)
                seq = int.from_bytes(data[-4:], "big") if self._kind == "osc" else int(data)
                self.messages[seq] = now
        self._subscriber.close(0)
        if self._kind == "zmq":
            self._pull.close(0)
        else:
            self._udp.close()


def measure(daemon: dict[str, str], kind: str, frames: int, rate: float, instances: int) -> tuple[np.ndarray, str]:
    """Return the delays in milliseconds, and the program's own report."""
    context = zmq.Context()
    receivers = Receivers(context, daemon["tracks"], kind)
    receivers.start()
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(daemon["ingest"]) as client,
        client.open_stream("bench") as stream,
    ):
        words = ["trigger", str(rules(Path(folder), kind, receivers.port)), "--stream", "bench"]
        endpoints = ["--tracks", daemon["tracks"], "--control", daemon["control"]]
        command = [sys.executable, "-m", "trackd_client.apps.cli", *words, *endpoints]
        program = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert program.stderr is not None
        program.stderr.readline()  # ready
        x = np.arange(instances) * 30.0
        start = time.monotonic()
        for number in range(frames):
            y = 390.0 if number % 2 else 410.0
            boxes = np.stack([x, np.full(instances, y - 10), x + 20, np.full(instances, y + 10)], axis=1)
            time.sleep(max(0.0, start + number / rate - time.monotonic()))
            stream.send(None, Detections(boxes=boxes.astype(np.float32)))
        stream.flush()
        time.sleep(0.5)
        program.send_signal(signal.SIGINT)
        _, err = program.communicate(timeout=30)
    receivers.stopped.set()
    receivers.join()
    context.term()
    delays = [receivers.messages[seq] - receivers.tracks[seq] for seq in receivers.messages if seq in receivers.tracks]
    own = re.search(r"action=out: .*", err)
    return np.array(delays[20:]) / 1e6, own[0] if own else err


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--instances", type=int, default=10)
    options = parser.parse_args()
    targets: list[Target] = []
    for instances in (options.instances, 100, 1000):
        evaluated, sent = cpu_us(instances)
        print(f"CPU of {instances} boxes and five rules: {evaluated:.0f} µs to evaluate, {sent:.0f} µs to send by UDP")
    with running_daemon(["daemon.http=null"]) as daemon:
        for kind in KINDS:
            delays, own = measure(daemon, kind, options.frames, options.rate, options.instances)
            p50, p99 = np.percentile(delays, [50, 99])
            print(f"{kind}: {len(delays)} messages, behind tracks p50 {p50:.2f} ms, p99 {p99:.2f} ms; own: {own}")
            what = f"a rule's message over {kind}, behind `tracks`, p50"
            targets.append(Target(what, f"≤ {GOAL_MS:g} ms", f"{p50:.2f} ms", bool(p50 <= GOAL_MS)))
    for target in targets:
        print(target)


if __name__ == "__main__":
    main()
