"""Overload policies, deadlines and fairness, and the law that every received frame is counted."""

from __future__ import annotations

import re
import threading
from collections import Counter

import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes

LABELS = re.compile(r"^trackd_frames_(\w+?)(?:_total)?\{(.*)\}$")


@pytest.fixture
def daemon():
    with DaemonProcess() as process:
        yield process


def slow_frame(client: RawClient, stream: str, seq: int) -> None:
    """Send a frame of 800 instances, which keeps the engine busy for about ten milliseconds."""
    x, y = np.meshgrid(np.arange(32) * 50.0 + seq % 10, np.arange(25) * 50.0)
    corner = np.stack([x.ravel(), y.ravel()], axis=1)
    client.frame(stream, seq, np.concatenate([corner, corner + 40], axis=1))


def settlements(client: RawClient, n: int) -> list[tuple[int, str, str | None]]:
    headers = [client.next_tracks()[0] for _ in range(n)]
    return [(header["seq"], header["status"], header.get("reason")) for header in headers]


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_stream_that_drops_frames_settles_every_frame_in_order(daemon, policy):
    n = 60
    with RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam", config={"on_overload": policy, "queue_depth": 4})
        for seq in range(n):
            slow_frame(client, "cam", seq)
        settled = settlements(client, n)
        assert [seq for seq, _, _ in settled] == list(range(n))
        counts = Counter(status for _, status, _ in settled)
        assert counts["dropped"] > 0
        assert counts["tracked"] > 0
        assert counts["tracked"] + counts["dropped"] == n
        assert {reason for _, status, reason in settled if status == "dropped"} == {"overload"}
        tracked = [seq for seq, status, _ in settled if status == "tracked"]
        if policy == "drop_oldest":
            assert tracked[-1] == n - 1, "this policy keeps the newest frame"
        else:
            assert tracked[:4] == [0, 1, 2, 3], "this policy keeps the oldest frames"


def test_frames_older_than_the_deadline_are_dropped_with_that_reason(daemon):
    with RawClient(daemon.addresses, subscribe="cam") as client:
        client.open("cam", config={"deadline_ms": 5, "queue_depth": 32})
        for seq in range(32):
            slow_frame(client, "cam", seq)
        settled = settlements(client, 32)
        assert [seq for seq, _, _ in settled] == list(range(32))
        assert {reason for _, status, reason in settled if status == "dropped"} == {"deadline"}


def test_a_stream_with_a_backlog_does_not_block_another_stream(daemon):
    with RawClient(daemon.addresses, subscribe="quick") as quick, RawClient(daemon.addresses) as slow:
        slow.open("slow", config={"queue_depth": 64})
        quick.open("quick", reply="tracks")
        for seq in range(64):
            slow_frame(slow, "slow", seq)
        quick.frame("quick", 0, walking_boxes(0))
        assert quick.recv_kind("tracks")["seq"] == 0
        left = quick.request("status")["result"]["streams"]
        assert next(row["queued"] for row in left if row["stream"] == "slow") > 32


def test_every_scrape_balances_under_all_three_policies(daemon):
    stop = threading.Event()
    faults: list[str] = []
    scrapes = 0

    def scrape() -> None:
        nonlocal scrapes
        while not stop.is_set():
            sums: dict[str, Counter[str]] = {}
            for name, value in daemon.metrics().items():
                match = LABELS.match(name)
                if match:
                    stream = re.search(r'stream="([^"]*)"', match[2])[1]
                    sums.setdefault(stream, Counter())[match[1]] += int(value)
            for stream, count in sums.items():
                settled = count["tracked"] + count["dropped"] + count["rejected"]
                if count["received"] != settled + count["queued"]:
                    faults.append(f"{stream}: {dict(count)}")
            scrapes += 1

    def feed(policy: str) -> None:
        n = 150
        with RawClient(daemon.addresses, subscribe=policy) as client:
            credit = client.open(policy, config={"on_overload": policy, "queue_depth": 4})["credit"]
            for seq in range(n):
                if policy == "block":
                    while credit == 0:
                        credit += client.recv_kind("ack")["credit"]
                    credit -= 1
                if seq % 10 == 3:
                    bad = {"boxes": {"dtype": "<f4", "shape": [9, 4], "part": 1}}
                    client.frame(policy, seq, walking_boxes(seq), detections=bad)
                else:
                    slow_frame(client, policy, seq)
            assert [seq for seq, _, _ in settlements(client, n)] == list(range(n))

    scraper = threading.Thread(target=scrape)
    feeders = [threading.Thread(target=feed, args=(policy,)) for policy in ("block", "drop_oldest", "drop_newest")]
    scraper.start()
    for feeder in feeders:
        feeder.start()
    for feeder in feeders:
        feeder.join(60)
    stop.set()
    scraper.join(10)
    assert faults == []
    assert scrapes > 5
    metrics = daemon.metrics()
    assert metrics['trackd_frames_received_total{stream="block"}'] == 150
    assert metrics['trackd_frames_rejected_total{code="invalid_frame",stream="block"}'] == 15
    assert metrics['trackd_frames_dropped_total{reason="overload",stream="drop_oldest"}'] > 0
    assert metrics['trackd_latency_seconds_count{stage="total"}'] == 450


def test_a_closed_streams_counts_are_added_to_the_sum_over_closed_streams(daemon):
    with RawClient(daemon.addresses) as client:
        client.open("cam")
        client.frame("cam", 0, walking_boxes(0))
        client.recv_kind("ack")
        client.send({"kind": "close", "stream": "cam"})
        client.recv_kind("closed")
        wait_until(lambda: 'trackd_frames_received_total{stream="cam"}' not in daemon.metrics())
        assert daemon.metrics()['trackd_frames_tracked_total{stream="(closed)"}'] == 1


def test_no_more_streams_open_than_the_limit_allows():
    with DaemonProcess("limits.streams=2") as daemon, RawClient(daemon.addresses) as client:
        assert client.open("a")["kind"] == "opened"
        assert client.open("b")["kind"] == "opened"
        assert client.open("c")["code"] == "too_large"
        client.send({"kind": "close", "stream": "a"})
        client.recv_kind("closed")
        assert client.open("c")["kind"] == "opened"
