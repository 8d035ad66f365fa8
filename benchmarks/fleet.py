"""A fleet on this machine: the frames a second of three daemons, and a closed loop, beside one daemon with a journal.

    python benchmarks/fleet.py

Three NATS servers that write every message to the disk, three daemons, and six streams of 10 boxes from three client
processes, all on this machine. The closed loop sends each frame after the ids of the last one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from trackd.commands.daemon_process import DaemonProgram
from trackd.commands.demo.nats_servers import NatsServers
from trackd_client import Client, Detections, FleetClient

N_INSTANCES = 10
STREAMS_A_CLIENT = 2
WARM_S = 2.0


def boxes(seq: int) -> Detections:
    """Return ten boxes that move slowly."""
    x = 40.0 + 60 * np.arange(N_INSTANCES) + 10 * np.sin(seq / 20 + np.arange(N_INSTANCES))
    y = 240.0 + 100 * np.cos(seq / 50 + np.arange(N_INSTANCES))
    return Detections(boxes=np.stack([x, y, x + 30, y + 30], axis=1).astype(np.float32))


def connected(at: dict[str, str] | list[str]) -> Any:
    """Return a client of one daemon by its addresses, or of a fleet by its control endpoints."""
    return FleetClient(at, timeout_s=30) if isinstance(at, list) else Client(**at, timeout_s=30)


def send_fast(at: dict[str, str] | list[str], number: int, seconds: float, sent: Any) -> None:
    """Send to some streams as fast as they are settled; put the settled frames a second."""
    with connected(at) as client:
        names = [f"fast{number}-{each}" for each in range(STREAMS_A_CLIENT)]
        streams = [client.open_stream(name, frame_shape=(480, 640)) for name in names]
        begun, before, seq = time.monotonic(), 0, 0
        while (now := time.monotonic()) < begun + WARM_S + seconds:
            for stream in streams:
                stream.send(None, boxes(seq), frame_index=seq, t_ns=seq * 33_000_000)
            seq += 1
            if not before and now > begun + WARM_S:
                before, since = sum(stream.next_seq - stream.unacked for stream in streams), now
        after = sum(stream.next_seq - stream.unacked for stream in streams)
        sent.put((after - before) / (time.monotonic() - since))
        for stream in streams:
            stream.close()


def rate(at: dict[str, str] | list[str], seconds: float, clients: int = 3) -> float:
    """Return the settled frames a second over all streams."""
    context = multiprocessing.get_context("spawn")
    sent = context.Queue()
    processes = [context.Process(target=send_fast, args=(at, number, seconds, sent)) for number in range(clients)]
    for process in processes:
        process.start()
    rates = [sent.get(timeout=seconds + 90) for _ in processes]
    for process in processes:
        process.join(30)
    return float(sum(rates))


def closed_loop_ms(at: dict[str, str] | list[str], frames: int) -> np.ndarray:
    """Return the time from sending each frame to its ids."""
    with connected(at) as client, client.open_stream("loop", frame_shape=(480, 640), reply="tracks") as stream:
        times = []
        for seq in range(frames + 100):
            began = time.perf_counter()
            stream.track(None, boxes(seq), frame_index=seq, t_ns=seq * 33_000_000)
            times.append(time.perf_counter() - began)
    return 1e3 * np.array(times[100:])


def main() -> None:
    """Run all measurements and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--frames", type=int, default=1000, help="of the closed loop")
    arguments = parser.parse_args()
    print(f"{'':34}{'frames/s':>10}{'loop p50':>12}{'p99':>10}")
    with tempfile.TemporaryDirectory() as folder:
        for name, overrides in (
            ("one daemon, no journal", []),
            ("one daemon, durability: process", [f"daemon.state_dir={folder}/process"]),
            ("one daemon, durability: power", [f"daemon.state_dir={folder}/power", "daemon.durability=power"]),
        ):
            with DaemonProgram([*overrides, f"out_dir={folder}"]) as daemon:
                at = {key: daemon.addresses[key] for key in ("ingest", "tracks", "control")}
                _report(name, at, arguments.seconds, arguments.frames)
        with ExitStack() as stack:
            servers = stack.enter_context(NatsServers(Path(folder) / "nats"))
            fleet = [f"daemon.fleet.servers={json.dumps(servers.urls)}", "daemon.fleet.name=bench"]
            common = [*fleet, f"out_dir={folder}"]
            members = [
                stack.enter_context(DaemonProgram([*common, f"daemon.fleet.member=m{number}"])) for number in range(3)
            ]
            controls = [member.addresses["control"] for member in members]
            _report("three daemons, durability: fleet", controls, arguments.seconds, arguments.frames)


def _report(name: str, at: dict[str, str] | list[str], seconds: float, frames: int) -> None:
    times = closed_loop_ms(at, frames)
    print(f"{name:34}{rate(at, seconds):10.0f}{np.median(times):9.2f} ms{np.percentile(times, 99):7.2f} ms", flush=True)


if __name__ == "__main__":
    main()
