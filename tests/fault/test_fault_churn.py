"""Streams that are opened and closed again and again leave nothing behind."""

from __future__ import annotations

import random
from pathlib import Path

from daemon_process import wait_until
from fault_tools import FaultDaemon, disk_mb, imbalances, progress, rounds, within
from raw_client import RawClient, walking_boxes


def footprint(daemon: FaultDaemon, state_dir: Path) -> dict[str, float]:
    return {
        "disk_mb": disk_mb(state_dir),
        "rss_mb": daemon.rss_mb,
        "fds": daemon.ps.num_fds(),
        "threads": daemon.ps.num_threads(),
        "series": len(daemon.metrics()),
    }


@within(120, 3600)
def test_churn_leaves_memory_handles_threads_series_and_disk_flat(tmp_path):
    """Open, feed and close streams of 50 names; one in five clients disconnects without closing its stream."""
    rng = random.Random(7)
    n_rounds, warm = rounds(120, 2000), rounds(60, 1000)
    fed = 0
    overrides = ["stream.idle_timeout_s=1.0", "stream.history_frames=64", f"daemon.state_dir={tmp_path}"]
    with FaultDaemon(*overrides) as daemon:

        def idle_footprint() -> dict[str, float]:
            wait_until(lambda: daemon.metrics()["trackd_streams_open"] == 0, 20)
            return footprint(daemon, tmp_path)

        before: dict[str, float] = {}
        steady = RawClient(daemon.addresses)
        for i in range(n_rounds):
            if i == warm:
                before = idle_footprint()
            if i % 200 == 0:
                progress(f"churn: round {i} of {n_rounds}: {footprint(daemon, tmp_path)}")
            name, abandoned = f"name{rng.randrange(50)}", rng.random() < 0.2
            client = RawClient(daemon.addresses) if abandoned else steady
            opened = client.open(name, takeover=True, reply=rng.choice(["ack", "tracks"]))
            while opened["kind"] == "error":  # an abandoned stream is being closed, or a takeover took it
                opened = client.open(name, takeover=True)
            first = opened["next_seq"]
            for seq in range(first, first + 10):
                client.frame(name, seq, walking_boxes(seq, 1 + seq % 30), frame_index=10_000 * i + seq)
            fed += 10
            if abandoned:
                client.recv_kind("ack")
                client.close()
            else:
                client.send({"kind": "close", "stream": name})
                client.recv_kind("closed")
        after = idle_footprint()
        metrics = daemon.metrics()
        steady.close()
        progress(f"churn: {n_rounds} rounds, {fed} frames: {before} after {warm} rounds, {after} at the end")
        assert imbalances(metrics) == []
        assert metrics['trackd_frames_tracked_total{stream="(closed)"}'] >= 0.9 * fed
        assert after["fds"] <= before["fds"] + 2
        assert after["threads"] <= before["threads"] + 1
        assert after["series"] <= before["series"] + 4  # a code or reason that had not occurred before
        assert after["rss_mb"] <= before["rss_mb"] + 8
        assert after["disk_mb"] <= before["disk_mb"] + 4
