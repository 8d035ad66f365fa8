"""Garbage, slow connections and floods at the HTTP endpoint under load."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import threading
import time

import pytest
from daemon_process import wait_until
from fault_tools import SOAK, FaultDaemon, GoodClient, imbalances, long_form, rounds
from raw_client import RawClient


def http_address(daemon: FaultDaemon) -> tuple[str, int]:
    host, port = daemon.addresses["http"].removeprefix("http://").split(":")
    return host, int(port)


def test_garbage_requests_are_refused_and_affect_no_client():
    rng = random.Random(6)
    lines = [
        b"GET /metrics HTTP/9.9\r\n\r\n", b"POST /healthz HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\nx",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00", b"\r\n" * 500,
        b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\nffffffffffffffff\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ]  # fmt: skip
    with FaultDaemon() as daemon, GoodClient(daemon.addresses):
        before = daemon.rss_mb
        for i in range(rounds(100, 5000)):
            with socket.create_connection(http_address(daemon), timeout=5) as raw:
                raw.settimeout(2)
                try:
                    raw.sendall(lines[i % len(lines)] if i % 3 else rng.randbytes(300) + b"\r\n\r\n")
                    if i % 2:
                        raw.recv(100)
                except OSError:
                    pass
        assert daemon.healthy()[0] == 200
        assert imbalances(daemon.metrics()) == []
        assert daemon.rss_mb - before < 30


def test_slow_connections_are_limited_and_closed():
    with FaultDaemon() as daemon, GoodClient(daemon.addresses):
        before = daemon.ps.num_fds()
        slow = [socket.create_connection(http_address(daemon), timeout=5) for _ in range(150)]
        for raw in slow[:75]:
            raw.sendall(b"GET /metr")
        time.sleep(0.5)
        assert daemon.healthy()[0] == 200
        wait_until(lambda: daemon.ps.num_fds() - before < 100, 3)
        for raw in slow:
            raw.close()


@long_form
def test_slow_connections_leave_file_handles_for_cameras():
    with FaultDaemon() as daemon, GoodClient(daemon.addresses):
        subprocess.run(["prlimit", "--pid", str(daemon.process.pid), "--nofile=200:200"], check=True)
        slow = []
        for _ in range(300):
            try:
                slow.append(socket.create_connection(http_address(daemon), timeout=0.5))
            except OSError:
                break
        try:
            with RawClient(daemon.addresses) as camera:
                camera.ingest.rcvtimeo = 3000
                assert camera.open("camera")["kind"] == "opened"
            assert daemon.log_lines < 1000
        finally:
            for raw in slow:
                raw.close()


def test_every_scrape_of_a_flood_balances_under_load():
    with FaultDaemon() as daemon, GoodClient(daemon.addresses) as witness:
        faults: list[str] = []
        scrapes = [0] * 6
        deadline = time.monotonic() + rounds(1, 60)

        def scrape(number: int) -> None:
            while time.monotonic() < deadline:
                faults.extend(imbalances(daemon.metrics()))
                scrapes[number] += 1

        scrapers = [threading.Thread(target=scrape, args=(number,)) for number in range(len(scrapes))]
        first = witness.frames
        for scraper in scrapers:
            scraper.start()
        for scraper in scrapers:
            scraper.join(90)
        assert faults == []
        assert min(scrapes) > 5
        assert witness.frames > first + 20


@pytest.mark.skipif(not SOAK, reason="a rate, measured in the long form only: TRACKD_SOAK=1")
def test_the_witness_keeps_its_rate_beside_a_scrape_flood():
    script = "import sys, urllib.request as u\nwhile True: u.urlopen(sys.argv[1] + '/metrics').read()\n"
    with FaultDaemon() as daemon, GoodClient(daemon.addresses, pace_s=1 / 60) as witness:
        rates = []
        for n_scrapers in (0, 4):
            scrapers = [
                subprocess.Popen([sys.executable, "-c", script, daemon.addresses["http"]]) for _ in range(n_scrapers)
            ]
            first = witness.frames
            time.sleep(10)
            rates.append((witness.frames - first) / 10)
            for scraper in scrapers:
                scraper.kill()
                scraper.wait(5)
    assert rates[1] >= 0.8 * rates[0], rates
