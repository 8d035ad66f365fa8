"""Random and mutated messages for each of the daemon's sockets; a program, so that it takes no time from a test.

    python fuzzer.py ingest|control|tracks ADDRESS SEED COUNT MESSAGES_PER_SECOND

sends them at that rate, reads every answer, and prints one line of JSON: `codes` (the received errors by code; for
`tracks`, which sends no errors, the number of parts that were not subscriptions) and `seconds`.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from typing import Any

import msgpack
import zmq
from raw_client import walking_boxes

FUZZED = [f"fuzz{i}" for i in range(8)]
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 0.0, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "träck", "\u202e\U0001f41f", "a" * 200, "..", "../x", "fuzz0", "ack", b"", b"\xff" * 9, [],
    {}, [[]], [0] * 50, {"part": 1},
    [2**31 - 1, 2**31 - 1], [2**63, 2**63], [-1, 4], [0, 4], {"dtype": "O", "shape": [1]},
    msgpack.Timestamp(1, 2),
]  # fmt: skip


def nested(depth: int) -> Any:
    value: Any = 1
    for i in range(depth):
        value = [value] if i % 2 else {"k": value}
    return value


def valid(rng: random.Random, seqs: dict[str, int]) -> tuple[dict[str, Any], list[bytes]]:
    """Return a valid message of a random kind."""
    stream = rng.choice(FUZZED)
    kind = rng.choices(["open", "frame", "close", "ping", "request"], [1, 6, 0.5, 1, 0.5])[0]
    if kind == "open":
        config = rng.choice([{}, {"window_size": 4}, {"on_overload": "drop_oldest"}, {"tracker": {"max_gap": 3}}])
        seqs[stream] = 0
        header = {"stream": stream, "config": config, "reply": rng.choice(["ack", "tracks"])}
        if rng.random() < 0.3:
            header["skeleton"] = {"nodes": ["head", "tail"], "edges": [[0, 1]]}
        return {"v": 1, "kind": kind, **header}, []
    if kind == "frame":
        seq = seqs.get(stream, 0)
        seqs[stream] = seq + (rng.random() < 0.9)
        n = rng.choice([0, 1, 3, 20])
        boxes = walking_boxes(seq, n)
        detections: dict[str, Any] = {"boxes": {"dtype": "<f4", "shape": [n, 4], "part": 1}}
        parts = [boxes.tobytes()]
        if rng.random() < 0.3:
            detections["keypoints"] = {"dtype": "<f4", "shape": [n, 2, 2], "part": 2}
            parts.append(rng.randbytes(n * 16))
        image = None
        if rng.random() < 0.2:
            parts.append(rng.randbytes(32 * 32))
            image = {"encoding": "raw", "data": {"dtype": "|u1", "shape": [32, 32], "part": len(parts)}}
        header = {"stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq, "image": image}
        return {"v": 1, "kind": kind, **header, "detections": detections}, parts
    if kind == "request":
        method = rng.choice(["status", "history", "tracks.live", "stream.reset", "stream.configure", "models"])
        params = {"stream": stream, "config": {}, "limit": 2}
        return {"v": 1, "kind": kind, "id": rng.choice(ODD), "method": method, "params": params}, []
    return {"v": 1, "kind": kind, "stream": stream, "t_ns": 5}, []


def mutated(rng: random.Random, header: dict[str, Any], parts: list[bytes]) -> list[bytes]:
    """Return the message with a random fault, in most cases."""
    choice = rng.random()
    if choice < 0.4:  # a value anywhere in the header
        holder: Any = header
        while True:
            key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
            inner = holder[key]
            if not (isinstance(inner, dict | list) and len(inner)) or rng.random() < 0.3:
                break
            holder = inner
        holder[key] = rng.choice([*ODD, nested(rng.choice([5, 40, 600]))])
    elif choice < 0.5:
        header.pop(rng.choice(list(header)))
    elif choice < 0.55:
        header[rng.choice(["config", "x", "detections"])] = {str(rng.choice(ODD))[:80]: rng.choice(ODD)}
    elif choice < 0.7 and parts:  # parts cut, swapped, doubled or emptied
        parts = rng.choice(
            [parts[1:], parts[::-1], parts * rng.choice([2, 9, 40]), [p[:-1] for p in parts], [b""] * len(parts)]
        )
    try:
        packed = msgpack.packb(header)
    except (ValueError, RecursionError):
        packed = b"\x81" * 2000
    if 0.7 <= choice < 0.85:  # bits
        raw = bytearray(packed)
        for _ in range(rng.randint(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        packed = bytes(raw)
    elif choice >= 0.95:
        packed = rng.choice([b"", packed[: len(packed) // 2], rng.randbytes(rng.randint(1, 500)), packed * 300])
    return [packed, *parts]


def collect(replies: list[list[bytes]], codes: Counter[str]) -> bool:
    """Count errors by code; return whether the answer to the closing message was among the replies."""
    done = False
    for parts in replies:
        header = msgpack.unpackb(parts[-1] if parts[0] == b"" else parts[0], strict_map_key=False)
        assert header["v"] == 1
        if header["kind"] == "error":
            codes[header["code"]] += 1
            assert header["message"]
        elif header["kind"] == "reply" and "error" in header:
            codes[header["error"]["code"]] += 1
        done |= header.get("t_ns") == 424_242 or header.get("id") == 424_242
    return done


CLOSING = {
    "ingest": {"kind": "ping", "t_ns": 424_242},
    "control": {"kind": "request", "id": 424_242, "method": "status", "params": {}},
}


def fuzz(name: str, address: str, seed: int, count: int, per_second: float) -> Counter[str]:
    """Send and read; return the number of errors by code."""
    rng = random.Random(seed)
    codes: Counter[str] = Counter()
    seqs: dict[str, int] = {}
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger, dealer.sndtimeo, dealer.rcvtimeo, dealer.rcvhwm = (
        0,
        10_000,
        60_000,
        0,
    )  # its messages may wait for its budget
    try:
        dealer.connect(address)
        for number in paced(count, per_second):
            dealer.send_multipart(mutated(rng, *valid(rng, seqs)))
            while number % 50 == 49 and dealer.poll(0):
                collect([dealer.recv_multipart()], codes)
        closing = [msgpack.packb({"v": 1, **CLOSING[name]})]
        dealer.send_multipart(closing)
        until = time.monotonic() + 60
        while True:
            if dealer.poll(2000):
                if collect([dealer.recv_multipart()], codes):
                    break
            else:  # it was over the budget: then it is refused without its id
                assert time.monotonic() < until, f"no answer within 60 s to the closing message; {codes}"
                dealer.send_multipart(closing)
        while dealer.poll(500):  # the frames in the streams' queues are being settled
            collect([dealer.recv_multipart()], codes)
    finally:
        context.destroy(linger=0)
    return codes


def fuzz_tracks(address: str, seed: int, count: int, per_second: float) -> Counter[str]:
    """Send valid and odd subscriptions and other bytes; return the number of parts that were not subscriptions."""
    rng = random.Random(seed)
    codes: Counter[str] = Counter()
    kept: list[bytes] = []
    context = zmq.Context()
    xsub = context.socket(zmq.XSUB)  # unlike SUB it can send any bytes
    xsub.linger, xsub.sndtimeo, xsub.rcvhwm = 10_000, 10_000, 0
    try:
        xsub.connect(address)
        for number in paced(count, per_second):
            parts = odd_subscription(rng, kept)
            codes["bad_message"] += sum(part[:1] not in (b"\0", b"\1") for part in parts)
            xsub.send_multipart(parts)
            while number % 50 == 49 and xsub.poll(0):
                xsub.recv_multipart()
        time.sleep(0.5)
    finally:
        context.destroy(linger=10_000)
    return codes


def odd_subscription(rng: random.Random, kept: list[bytes]) -> list[bytes]:
    """Return a random message of a subscriber; `kept` are its current topics, a few hundred at most."""
    choice = rng.random()
    if kept and (choice < 0.3 or len(kept) > 300):
        return [b"\0" + kept.pop(rng.randrange(len(kept)))]
    if choice < 0.4:
        kept.append(f"{rng.choice(['tracks', 'events'])}/{rng.choice(FUZZED)}/".encode())
        return [b"\1" + kept[-1]]
    if choice < 0.6:
        kept.append(rng.randbytes(rng.choice([0, 1, 40, 250])))
        return [b"\1" + kept[-1]]
    if choice < 0.65:
        return [b"\0" + rng.randbytes(20)]  # of a topic without a subscription
    if choice < 0.7:
        return [bytes([rng.randrange(2, 256)]) + rng.randbytes(20) for _ in range(rng.randrange(2, 5))]
    return [bytes([rng.randrange(2, 256)]) + rng.randbytes(rng.choice([0, 1, 60, 2_000]))]


def paced(count: int, per_second: float) -> Any:
    """Yield 0 to `count` - 1 at no more than `per_second`."""
    began = time.monotonic()
    for number in range(count):
        ahead_s = number / per_second - (time.monotonic() - began)
        if ahead_s > 0.002:
            time.sleep(ahead_s)
        yield number


if __name__ == "__main__":
    name, address, seed, count, rate = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
    started = time.monotonic()
    found = fuzz_tracks(address, seed, count, rate) if name == "tracks" else fuzz(name, address, seed, count, rate)
    print(json.dumps({"codes": found, "seconds": time.monotonic() - started}))
