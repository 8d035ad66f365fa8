"""The bound for the daemon's speed: a minimal tracking daemon with this wire protocol.

    python benchmarks/bare_loop.py [--rounds R] [--seconds S]

The bare daemon has an IO thread with ROUTER and PUB and a second thread that computes an IoU matrix and scipy's
assignment to the previous frame. Its messages are those of the wire protocol, through `encode` and `decode`. It has no
tracks, no checks, no credit, no metrics and no history. The bare echo returns every message unchanged. The clients are
raw DEALERs and SUBs on one thread. Run alone it prints the bound; closed_loop.py, sustained.py and images.py measure
trackd and the bound in the same run.
"""

from __future__ import annotations

import argparse
import os
import select
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import zmq
from scipy.optimize import linear_sum_assignment

from bare_client import Bound, frame_bytes
from trackd.tracking.rules.iou import iou
from trackd_client.protocol import DEFAULT_LIMITS, Ack, Frame, Open, Opened, Status, Tracks, decode, encode, topic

CREDIT = 32  # the daemon's default queue_depth
BURST = 64  # messages that are read before the answers are sent
SWITCH_INTERVAL_S = 5e-4  # the daemon's
READY_S = 30.0


class BareDaemon:
    """Two threads and two sockets, with only what is necessary."""

    def __init__(self) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context.instance()
        self.ingest, self.tracks = context.socket(zmq.ROUTER), context.socket(zmq.PUB)
        for socket in (self.ingest, self.tracks):
            socket.bind("tcp://127.0.0.1:*")
        self._inbox: SimpleQueue[tuple[bytes, Frame]] = SimpleQueue()
        self._outbox: deque[tuple[bytes, Frame, np.ndarray]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._replies: dict[bytes, bool] = {}  # whether an owner gets its tracks

    def run(self) -> None:
        """Run the IO thread; it ends with the process that started it."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        threading.Thread(target=self._associate, daemon=True).start()
        poller = zmq.Poller()
        poller.register(self.ingest, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        parent = os.getppid()
        while os.getppid() == parent:
            ready = dict(poller.poll(1000))
            if self._wake in ready:
                os.eventfd_read(self._wake)
            while self._outbox:
                self._settle(*self._outbox.popleft())
            if self.ingest in ready:
                self._receive()

    def _receive(self) -> None:
        for _ in range(BURST):
            try:
                owner, *parts = self.ingest.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            message = decode(parts, DEFAULT_LIMITS, ("open", "frame"))
            if isinstance(message, Frame):
                self._inbox.put((owner, message))
            elif isinstance(message, Open):
                self._replies[owner] = message.reply == "tracks"
                self.ingest.send_multipart([owner, *encode(Opened(message.stream, 0, 0, CREDIT))])

    def _associate(self) -> None:
        """Run the engine thread."""
        last: dict[bytes, np.ndarray] = {}
        while True:
            owner, frame = self._inbox.get()
            boxes = frame.detections.boxes
            assert boxes is not None
            ids = np.arange(len(boxes), dtype=np.int32)
            if owner in last:
                rows, columns = linear_sum_assignment(iou(boxes, last[owner]), maximize=True)
                ids[rows] = columns
            last[owner] = boxes
            self._outbox.append((owner, frame, ids))
            os.eventfd_write(self._wake, 1)

    def _settle(self, owner: bytes, frame: Frame, ids: np.ndarray) -> None:
        scores = np.ones(len(ids), np.float32)
        parts = encode(
            Tracks(
                frame.stream, 0, frame.seq, frame.frame_index, frame.t_ns, Status.TRACKED,
                track_ids=ids, track_scores=scores, boxes=frame.detections.boxes,
            )
        )  # fmt: skip
        self.tracks.send_multipart([topic("tracks", frame.stream), *parts])
        if self._replies[owner]:
            self.ingest.send_multipart([owner, *parts])
        self.ingest.send_multipart([owner, *encode(Ack(frame.stream, frame.seq, 1))])


def echo() -> None:
    """Return every message, on one thread."""
    socket = zmq.Context.instance().socket(zmq.ROUTER)
    socket.bind("tcp://127.0.0.1:*")
    _print_ready(socket)
    parent = os.getppid()
    while os.getppid() == parent:
        if socket.poll(1000):
            socket.send_multipart(socket.recv_multipart(copy=False), copy=False)


def _print_ready(ingest: zmq.Socket[bytes], tracks: zmq.Socket[bytes] | None = None) -> None:
    addresses = [socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0") for socket in (ingest, tracks or ingest)]
    print("ready", *addresses, flush=True)


@contextmanager
def running_bare(what: str = "daemon") -> Iterator[Bound]:
    """Run a bare daemon (`what` "daemon") or echo ("echo") in a separate process; yield its client."""
    with subprocess.Popen([sys.executable, __file__, "serve", what], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            readable, _, _ = select.select([process.stdout], [], [], READY_S)
            words = process.stdout.readline().split() if readable else []
            if len(words) != 3:
                raise RuntimeError(f"the bare {what} was not ready within {READY_S:g} s")
            yield Bound(*words[1:])
        finally:
            process.terminate()
            process.wait(READY_S)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        if sys.argv[2] == "echo":
            echo()
            return
        daemon = BareDaemon()
        _print_ready(daemon.ingest, daemon.tracks)
        daemon.run()
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    closed, echoes, rates = [], [], []
    with running_bare() as bare, running_bare("echo") as echoing:
        for _ in range(options.rounds):
            echoes.append(np.percentile(echoing.echo(frame_bytes(), options.seconds / 2), [50, 99]))
            closed.append(np.percentile(bare.closed_loop(options.seconds), [50, 99]))
            rates.append(bare.sustained(8, options.seconds)[1])
    print(f"medians of {options.rounds} rounds; 10 instances, boxes only, tcp loopback")
    for name, rows in (("echo of a frame's bytes", echoes), ("closed loop", closed)):
        p50, p99 = np.median(rows, axis=0)
        print(f"{name:24} p50 {p50:7.3f} ms   p99 {p99:7.3f} ms")
    print(f"{'8 streams':24} {np.median(rates):10.0f} frames/s")


if __name__ == "__main__":
    main()
