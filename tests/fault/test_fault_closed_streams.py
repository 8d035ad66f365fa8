"""Readers until a stream is closed: they get all of its settlements, also late, and end only when it was closed."""

from __future__ import annotations

import signal
import threading
import time
from itertools import count

import pytest
from daemon_process import fixed_ports, wait_until
from fault_tools import FaultDaemon, sdk
from raw_client import walking_boxes

from trackd_client import Client, Detections


def read(client: Client, seqs: list[tuple[int, int]], done: threading.Event, **options: object) -> None:
    """Append the epoch and the seq of every settlement of the stream."""
    for tracks in client.tracks("cam", until_closed=True, **options):
        seqs.append((tracks.epoch, tracks.seq))  # noqa: PERF401 (another thread reads the list meanwhile)
    done.set()


def test_a_late_reader_gets_the_history_of_a_closed_stream_and_ends():
    with FaultDaemon() as daemon, sdk(daemon) as client:
        with client.open_stream("cam") as stream:
            for seq in range(300):  # more than one reply of `history`
                if seq == 100:
                    stream.flush()
                    client.reset("cam")
                stream.send(None, Detections(boxes=walking_boxes(seq)))
        assert [row.seq for row in client.tracks("cam", from_seq=0, until_closed=True, timeout_s=5)] == list(range(300))
        assert [row.seq for row in client.tracks("cam", from_seq=290, until_closed=True, timeout_s=5)] == list(
            range(290, 300)
        )
        assert len({row.epoch for row in client.tracks("cam", from_seq=0, until_closed=True, timeout_s=5)}) == 2
        for number in range(10):  # the daemon has the rows of the last eight closed streams only
            client.open_stream(f"other{number}").close()
        assert list(client.tracks("cam", from_seq=0, until_closed=True, timeout_s=5)) == []


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_until_closed_goes_on_over_a_restart_without_a_journal(end):
    ports = fixed_ports()
    daemon = FaultDaemon(*ports)
    stop, done = threading.Event(), threading.Event()
    rows: list[tuple[int, int]] = []
    at = daemon.addresses
    with (
        Client(at["ingest"], at["tracks"], at["control"], timeout_s=30) as camera,
        Client(at["ingest"], at["tracks"], at["control"], timeout_s=30) as reader,
    ):

        def send() -> None:
            with camera.open_stream("cam") as stream:
                for seq in count():
                    stream.send(None, Detections(boxes=walking_boxes(seq)), timeout_s=60)
                    if stop.wait(0.02):
                        return

        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        threading.Thread(target=read, args=(reader, rows, done), daemon=True).start()
        wait_until(lambda: len(rows) > 20, 20)
        daemon.process.send_signal(end)
        daemon.process.wait(20)
        time.sleep(4)  # longer than the silence after which a reader asks whether the stream is open
        assert not done.is_set()
        with FaultDaemon(*ports):
            wait_until(lambda: len({epoch for epoch, _ in rows}) == 2, 30)
            n = len(rows)
            wait_until(lambda: len(rows) > n + 10, 20)
            assert not done.is_set()
            stop.set()
            sender.join(30)
            assert done.wait(20)
    last = [seq for epoch, seq in rows if epoch == rows[-1][0]]
    assert last == list(range(last[0], last[0] + len(last)))
