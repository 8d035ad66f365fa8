"""Random and mutated messages to each socket: the daemon survives, the witness loses no frame, refusals are counted."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zmq
from fault_tools import (
    SOAK,
    FaultDaemon,
    GoodClient,
    imbalances,
    progress,
    refused,
    rounds,
    within,
    zmq_context,
    zmtp,
    zmtp_part,
)
from raw_client import RawClient

FUZZER = Path(__file__).with_name("fuzzer.py")
N_MESSAGES = rounds(2_000, 100_000)
# Without a limit, a fuzzer on a small machine takes the CPU that the daemon needs.
PER_SECOND = float(os.environ.get("TRACKD_FUZZ_PER_S", 500))
ALONE_S = rounds(1, 30)  # the witness without the fuzzer, before and after it
CAMERA_FPS = 30
LEAST_OF_RATE = 0.8 if SOAK else 0.5
LEAST_CODES = {"ingest": 6, "control": 3, "tracks": 1}


@pytest.fixture(scope="module")
def daemon():
    with FaultDaemon() as process:
        yield process
        assert process.healthy()[0] == 200


@within(120, 1800)
@pytest.mark.parametrize("name", ["ingest", "control", "tracks"])
def test_beside_a_fuzzer_a_camera_keeps_its_rate_and_its_frames_and_each_refusal_is_counted_by_code(daemon, name):
    """The camera waits for each frame's ids before it sends the next one, at 30 frames a second if possible."""
    at_first = daemon.metrics()
    with GoodClient(daemon.addresses, f"beside_{name}", fps=CAMERA_FPS) as witness:
        figures: list[str] = []

        def rate_while(condition) -> float:
            first, began = witness.frames, time.monotonic()
            while condition():
                assert witness.fault is None, witness.fault
                time.sleep(0.1)
            rate = (witness.frames - first) / (time.monotonic() - began)
            p50, p99 = np.quantile(witness.latencies[first:], [0.5, 0.99]) * 1000
            figures.append(f"{rate:.1f} fps (round trip {p50:.1f} ms, p99 {p99:.1f})")
            return rate

        def for_a_while():
            until = time.monotonic() + ALONE_S
            return lambda: time.monotonic() < until

        alone = rate_while(for_a_while())
        command = [sys.executable, str(FUZZER), name, daemon.addresses[name], "1", str(N_MESSAGES), str(PER_SECOND)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as fuzzer:
            try:
                beside = rate_while(lambda: fuzzer.poll() is None)
            finally:
                fuzzer.kill()
            report = json.loads(fuzzer.stdout.read())
        alone_again = rate_while(for_a_while())
        metrics = daemon.metrics()
        assert daemon.healthy()[0] == 200
        codes = report["codes"]
        progress(
            f"{name}: {N_MESSAGES} messages at {N_MESSAGES / report['seconds']:.0f}/s; camera {figures[0]} before, "
            f"{figures[1]} beside, {figures[2]} after; refused {codes}"
        )
        assert imbalances(metrics) == []
        if name == "ingest":  # on the other sockets the daemon still answers the fuzzer after its end
            assert metrics["trackd_unsent_replies_total"] == at_first["trackd_unsent_replies_total"]
        assert codes.get("internal", 0) == 0, [line for line in daemon.log if "Error" in line][-5:]
        assert len(codes) >= LEAST_CODES[name], codes
        assert refused(metrics) - refused(at_first) == codes
        lost = metrics[f'trackd_frames_received_total{{stream="{witness.stream}"}}'] - witness.frames
        assert -2 <= lost <= 2  # frames in flight between the two readings; the witness itself checks every seq
        assert beside >= LEAST_OF_RATE * (alone + alone_again) / 2, (alone, beside, alone_again)


def environment() -> dict[str, str]:
    """Return the environment of the fuzzer's process, which imports the raw client."""
    import raw_client

    folder = str(Path(raw_client.__file__).parent)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])}


def test_sockets_of_the_wrong_kinds_affect_no_client(daemon):
    with GoodClient(daemon.addresses, "beside_wrong_sockets"), zmq_context() as context:
        kinds = ("PUB", "PUSH", "REQ", "ROUTER", "SUB", "PAIR")
        for name, kind in itertools.product(("ingest", "tracks", "control"), kinds):
            wrong = context.socket(getattr(zmq, kind))
            wrong.linger, wrong.sndtimeo = 0, 50
            if kind == "SUB":
                wrong.subscribe(b"")
            wrong.connect(daemon.addresses[name])
            for i in range(20):
                try:
                    wrong.send_multipart([b"", b"garbage", b"%d" % i])
                except zmq.ZMQError:
                    break
        time.sleep(0.2)
        assert daemon.healthy()[0] == 200


def test_garbage_on_plain_tcp_affects_no_client(daemon):
    rng = random.Random(4)
    with GoodClient(daemon.addresses, "beside_garbage"):
        before = daemon.ps.num_fds()
        greeting = b"\xff" + bytes(8) + b"\x7f"
        for i in range(rounds(90, 3000)):
            address = daemon.addresses[("ingest", "tracks", "control")[i % 3]]
            host, port = address.removeprefix("tcp://").split(":")
            with socket.create_connection((host, int(port)), timeout=5) as raw:
                junk = rng.choice([b"", b"GET / HTTP/1.1\r\n\r\n", greeting, greeting + b"\x03\x00NULL"])
                raw.sendall(junk + rng.randbytes(rng.choice([0, 1, 63, 5000])))
        assert daemon.healthy()[0] == 200
        deadline = time.monotonic() + 5
        while daemon.ps.num_fds() > before + 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert daemon.ps.num_fds() <= before + 3


def test_invalid_zmtp_frames_after_a_valid_handshake_affect_no_client(daemon):
    rng = random.Random(5)
    with GoodClient(daemon.addresses, "beside_invalid_frames"):
        for i in range(rounds(40, 1000)):
            name, kind = rng.choice([("ingest", "DEALER"), ("control", "REQ"), ("tracks", "SUB")])
            with zmtp(daemon.addresses[name], kind) as raw:
                invalid = [
                    b"\x02" + (2**63 - 1).to_bytes(8, "big") + b"x",  # announces 8 EiB
                    b"\x02" + (200_000_000).to_bytes(8, "big") + b"x",  # beyond limits.message_bytes
                    zmtp_part(b"half", more=True),  # and no further part
                    zmtp_part(b"\x01" * 9, more=True) * 100 + zmtp_part(b""),
                    b"\x04\x05\x04PING",
                    b"\x06" + (3).to_bytes(8, "big") + b"\x02XY",
                    rng.randbytes(200),
                ]
                raw.sendall(invalid[i % len(invalid)])
        assert daemon.healthy()[0] == 200
        with RawClient(daemon.addresses) as client:
            assert client.open("after")["kind"] == "opened"


def test_a_client_killed_in_the_middle_of_a_message_leaves_nothing_of_it():
    script = (
        "import os, sys, time, zmq, msgpack\n"
        "s = zmq.Context().socket(zmq.DEALER); s.connect(sys.argv[1])\n"
        "s.send(msgpack.packb({'v': 1, 'kind': 'open', 'stream': sys.argv[2]}))\n"
        "s.recv(); s.send(b'head', zmq.SNDMORE); s.send(b'x' * 1000000, zmq.SNDMORE)\n"
        "print('now', flush=True); time.sleep(30)\n"
    )
    with FaultDaemon("stream.idle_timeout_s=1.5") as daemon, GoodClient(daemon.addresses):
        for i in range(rounds(1, 30)):
            child = subprocess.Popen([sys.executable, "-c", script, daemon.ingest, f"half{i}"], stdout=subprocess.PIPE)
            assert child.stdout.readline() == b"now\n"
            child.kill()
            child.wait(5)
            child.stdout.close()
        with RawClient(daemon.addresses) as client:
            rows = client.request("status")["result"]["streams"]
            received = {row["received"] for row in rows if row["stream"].startswith("half")}
            assert received == {0}  # those of the first children may be closed already
            deadline = time.monotonic() + 6
            while len(client.request("status")["result"]["streams"]) > 1:
                assert time.monotonic() < deadline, "the dead client's stream is still open"
                time.sleep(0.1)
        assert refused(daemon.metrics()) == {}


def test_a_subscription_larger_than_any_topic_costs_nothing():
    with FaultDaemon() as daemon:
        with zmtp(daemon.tracks, "SUB") as raw:
            before = daemon.rss_mb
            with contextlib.suppress(ConnectionError):  # the daemon may refuse it
                raw.sendall(zmtp_part(b"\x01" + b"x" * 3_000_000))
            time.sleep(0.5)
            after = daemon.rss_mb
        assert after - before < 20
