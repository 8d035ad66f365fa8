"""Checkpoint files that are crafted to stop the daemon, and the first checkpoint of a daemon, beside a camera."""

from __future__ import annotations

import time
from pathlib import Path

import msgpack
import psutil
from checkpoint_files import RESNET, write_checkpoint
from daemon_process import wait_until
from fault_tools import FaultDaemon, progress, within
from hostile_checkpoints import HOSTILE, SLOW
from raw_client import RawClient
from witness import Witness, most_p99_ms


def request_load(client: RawClient, name: str, path: Path) -> None:
    """Send `model.load`; the reply is not received yet."""
    message = {"v": 1, "kind": "request", "id": 1, "method": "model.load", "params": {"name": name, "path": str(path)}}
    client.control.send(msgpack.packb(message))


def reading(daemon: FaultDaemon) -> list[psutil.Process]:
    """The reading processes of a daemon."""
    return [child for child in daemon.ps.children() if "read_process" in " ".join(child.cmdline())]


@within(120, 120)
def test_hostile_checkpoints_are_refused_beside_a_camera(tmp_path: Path):
    """Each file costs a separate process a bounded time, and the daemon one line."""
    paths = {kind: write(tmp_path / f"{kind.replace(' ', '-')}.ckpt") for kind, write in HOSTILE.items()}
    with (
        FaultDaemon("daemon.device=cpu") as daemon,
        RawClient(daemon.addresses) as client,
        Witness(daemon.addresses) as witness,
    ):
        client.control.rcvtimeo = 60_000
        rss_mb = 0.0
        for number, (kind, path) in enumerate(paths.items()):
            error = client.request("model.load", name=f"m{number}", path=str(path)).get("error")
            assert error is not None, kind
            assert error["code"] == "bad_config", (kind, error)
            assert str(path) in error["message"], (kind, error)
            assert "\n" not in error["message"]
            rss_mb = rss_mb or daemon.rss_mb  # after the import of torch
            assert daemon.rss_mb < rss_mb + 100, kind
            assert reading(daemon) == [], kind
            assert daemon.healthy()[0] == 200, kind
        good = client.request("model.load", name="good", path=str(write_checkpoint(tmp_path / "good.ckpt")))
        assert good["result"]["name"] == "good"
        assert daemon.ps.children() == []
    progress(f"hostile checkpoints: p99 {witness.p99_ms:.1f} ms, longest {witness.longest_ms:.0f} ms")
    assert witness.p99_ms <= most_p99_ms()


def test_a_sigterm_while_a_hostile_checkpoint_is_read_ends_the_daemon_and_the_reading_process(tmp_path: Path):
    path = HOSTILE[SLOW](tmp_path / "slow.ckpt")
    with FaultDaemon("daemon.device=cpu") as daemon, RawClient(daemon.addresses) as client:
        request_load(client, "slow", path)
        wait_until(lambda: reading(daemon), 60, "the reading process")
        found = reading(daemon)
        started = time.monotonic()
        assert daemon.end(20) == 0
        assert time.monotonic() - started < 10
        _, alive = psutil.wait_procs(found, timeout=3)
        assert alive == []


@within(120, 120)
def test_the_first_load_of_a_checkpoint_does_not_stop_a_camera(tmp_path: Path):
    """The load imports torch, in a daemon that had no checkpoint."""
    path = write_checkpoint(tmp_path / "first.ckpt", RESNET)
    with (
        FaultDaemon("daemon.device=cpu") as daemon,
        RawClient(daemon.addresses) as client,
        Witness(daemon.addresses) as witness,
    ):
        client.control.rcvtimeo = 90_000
        rss_mb = daemon.rss_mb
        started = time.monotonic()
        assert client.request("model.load", name="first", path=str(path))["result"]["name"] == "first"
        load_s = time.monotonic() - started
        progress(f"the first load took {load_s:.1f} s; RSS {rss_mb:.0f} MB before, {daemon.rss_mb:.0f} MB after")
    progress(f"first load: p99 {witness.p99_ms:.1f} ms, longest {witness.longest_ms:.0f} ms of {witness.frames} frames")
    assert witness.p99_ms <= most_p99_ms()
    assert witness.longest_ms < 300
