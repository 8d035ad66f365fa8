"""No message within the limits holds the IO thread for longer than 5 ms on an idle machine.

The time is the processor time of this thread, which does the work of the IO thread, so other processes do not change
it. The limit is four times 5 ms, for slower machines.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator

import msgpack
import pytest
import zmq
from heavy_messages import frame, opens, requests

from trackd.config import Config
from trackd.daemon import Daemon
from trackd.engine.outcome import CommandResult
from trackd_client.configuration import validate

MOST_MS = 20.0


class Bench:
    """A daemon without its IO thread: the test hands messages to its parts, and measures each."""

    def __init__(self) -> None:
        endpoints = {name: f"inproc://{name}" for name in ("ingest", "tracks", "control")}
        self.daemon = Daemon(validate(Config, {"daemon": {"http": None, "endpoints": endpoints}}))
        self.clients = []
        for name in ("ingest", "control"):
            client = self.daemon.context.socket(zmq.DEALER)
            client.identity, client.linger, client.rcvhwm = b"me", 0, 0
            client.connect(f"inproc://{name}")
            client.send(b"")
            getattr(self.daemon._sockets, name).recv_multipart()
            self.clients.append(client)
        self.daemon._start("engine", self.daemon._engine.run)
        self.daemon._start("lane", self.daemon._engine.run_lane)
        self.daemon._start("outputs", self.daemon._outputs.run)
        self.server = self.daemon._server
        self.longest: dict[str, float] = {}

    def measure(self, name: str, work: Callable[[], object], times: int = 2) -> None:
        """Store the processor time of work in ms, the best of some runs."""
        best = min(self._time(work) for _ in range(times))
        self.longest[name] = max(self.longest.get(name, 0.0), best)

    def _time(self, work: Callable[[], object]) -> float:
        started = time.thread_time()
        work()
        took_ms = (time.thread_time() - started) * 1e3
        self.settle()
        return took_ms

    def ingest(self, *parts: bytes) -> None:
        self.server._ingest.handle(b"me", parts)

    def control(self, *parts: bytes) -> None:
        self.server._control.handle([b"me"], parts)

    def settle(self) -> None:
        """Do the rest of the IO thread's turns, and measure what may be long in them."""
        server = self.server
        while not self.daemon._inbox.idle or server._outbox or server._control.is_answering:
            server._engine.step_inline()
            time.sleep(0)
            self.daemon._inbox.wake()
            for outcome, stored_ns in server._outbox.take():
                if isinstance(outcome, CommandResult):
                    started = time.thread_time()
                    outcome.done(outcome.result, outcome.error)
                    self._note("a reply of the engine", started)
                elif (session := server._publish(outcome, stored_ns)) is not None:
                    server._publisher.ack(session)
            started = time.thread_time()
            server._control.continue_replies()
            self._note("a part of a long reply", started)
            server._budget._full_at.clear()
        for client in self.clients:
            while client.poll(0):
                client.recv_multipart()

    def _note(self, name: str, started: float) -> None:
        took_ms = (time.thread_time() - started) * 1e3
        self.longest[name] = max(self.longest.get(name, 0.0), took_ms)

    def assert_none_is_long(self) -> None:
        long = {name: round(ms, 1) for name, ms in self.longest.items() if ms > MOST_MS}
        worst = sorted(self.longest.items(), key=lambda item: -item[1])[:5]
        print(f"{len(self.longest)} messages; the longest: {worst}")
        assert not long, long


def request(method: str, **params: object) -> bytes:
    return msgpack.packb({"v": 1, "kind": "request", "id": 1, "method": method, "params": params})


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    made = Bench()
    gc.collect()
    gc.freeze()  # as `trackd serve` does
    yield made
    gc.unfreeze()
    made.daemon._inbox.stop()
    made.daemon._outputs.stop()
    for thread in made.daemon._threads:
        thread.join(10)
    made.daemon._sockets.close()
    made.daemon.context.destroy(linger=0)


@pytest.fixture(autouse=True)
def _fresh(bench: Bench) -> None:
    bench.longest.clear()


def test_no_open_within_the_limits_is_long(bench):
    for name, header in opens():
        bench.measure(name, lambda header=header: bench.ingest(header), times=1)
        if bench.server._sessions.get("x") is not None:
            bench.ingest(msgpack.packb({"v": 1, "kind": "close", "stream": "x"}))
            bench.settle()
    bench.assert_none_is_long()


def test_no_request_within_the_limits_is_long(bench):
    bench.ingest(msgpack.packb({"v": 1, "kind": "open", "stream": "s"}))
    bench.settle()
    for name, header in requests("s"):
        bench.measure(name, lambda header=header: bench.control(header), times=1)
    bench.assert_none_is_long()


def test_no_reply_is_long(bench):
    """`status` of many streams, `history` of many rows and of large ones, `tracks.live` of thousands of tracks."""
    streams = bench.daemon._server._streams._limits.streams
    for i in range(streams - 1):
        bench.ingest(msgpack.packb({"v": 1, "kind": "open", "stream": f"many{i}", "config": {"queue_depth": 4096}}))
    bench.settle()
    bench.measure("status", lambda: bench.control(request("status")))
    for name, count, n, keypoints, dtype in (
        ("many0", 1100, 3, 0, "<f4"), ("many1", 300, 24, 17, "<f8"), ("many2", 2, 1000, 256, "<f8"),
        ("many3", 2, 4096, 0, "<f4"),
    ):  # fmt: skip
        for seq in range(count):
            parts = frame(name, seq, n, keypoints, dtype)
            bench.measure(f"frame of {n} x {keypoints}", lambda parts=parts: bench.ingest(*parts), times=1)
        assert bench.server._sessions.get(name).settled_seq == count - 1
        history = request("history", stream=name, limit=1024)
        bench.measure(f"history of {n} x {keypoints}", lambda history=history: bench.control(history))
        bench.measure(f"tracks.live of {n}", lambda name=name: bench.control(request("tracks.live", stream=name)))
    bench.assert_none_is_long()
