"""`trackd fleet demo`: six cameras at three daemons, one of which is killed in the middle."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.table import Table

from trackd.commands.daemon_process import DaemonProgram
from trackd.commands.demo.nats_servers import NatsServers
from trackd.commands.demo.recording import NODES, swim
from trackd.commands.in_memory import track
from trackd_client import Detections, FleetClient, Tracks

N_MEMBERS, N_CAMERAS, N_FRAMES, FPS = 3, 6, 450, 30.0
_KILL_AT = N_FRAMES // 3  # frames of the first camera
_REFRESH_S = 0.2
_END_S = 60.0


class Camera:
    """A recording that is sent as a live camera, and the settlements of its frames."""

    def __init__(self, controls: Sequence[str], number: int) -> None:
        self.name = f"cam{number}"
        self.detections = _swimming(number)
        self.rows: list[tuple[float, Tracks]] = []  # with the monotonic time of their receipt
        self.fault: BaseException | None = None
        self._sender = FleetClient(controls, timeout_s=_END_S)
        self._reader = FleetClient(controls, timeout_s=_END_S)
        self._stream = self._sender.open_stream(self.name, frame_shape=(480, 640))
        self._threads = [
            threading.Thread(target=self._run, args=(run,), daemon=True) for run in (self._send, self._follow)
        ]

    def start(self) -> None:
        """Send and follow, each on a thread."""
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether all frames are settled, or the camera has failed."""
        return self.fault is not None or not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        """Close the connections."""
        self._sender.close()
        self._reader.close()

    def pause(self) -> float:
        """Return the longest time without a settlement, seconds."""
        times = [at for at, _ in self.rows]
        return max(np.diff(times), default=0.0)

    def differing(self) -> int:
        """Return the number of frames whose ids differ from those of an undisturbed run, or that are missing."""
        wanted = track(self.detections)
        ids = {tracks.seq: np.asarray(tracks.track_ids) for _, tracks in self.rows}
        missing = np.full(1, -2)  # no frame has this id
        return sum(
            not np.array_equal(ids.get(seq, missing), frame.track_ids) for seq, frame in enumerate(wanted.frames)
        )

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:
            self.fault = error

    def _send(self) -> None:
        due = time.monotonic()
        for index, each in enumerate(self.detections):
            self._stream.send(None, each, frame_index=index, t_ns=round(index * 1e9 / FPS), timeout_s=_END_S)
            due = max(due + 1 / FPS, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
        self._stream.close(timeout_s=_END_S)

    def _follow(self) -> None:
        for tracks in self._reader.tracks(self.name, from_seq=0, until_closed=True):
            self.rows.append((time.monotonic(), tracks))


def run_fleet_demo(out: Path) -> bool:
    """Run the demo; return whether every frame has the ids of an undisturbed run.

    Args:
        out: the folder of the servers and the daemons, made if absent.
    """
    console = Console()
    for name in ("nats", *(f"member{number}" for number in range(N_MEMBERS))):
        shutil.rmtree(out / name, ignore_errors=True)  # of the last demo
    with ExitStack() as stack:
        console.print(f"[bold]1[/] Starting three NATS servers and {N_MEMBERS} daemons on this machine …")
        servers = stack.enter_context(NatsServers(out / "nats"))
        fleet = [f"daemon.fleet.servers={json.dumps(servers.urls)}", "daemon.fleet.name=demo"]
        members = {
            name: stack.enter_context(DaemonProgram([*fleet, f"daemon.fleet.member={name}", f"out_dir={out / name}"]))
            for name in (f"member{number}" for number in range(N_MEMBERS))
        }
        controls = [member.addresses["control"] for member in members.values()]
        console.print(f"[bold]2[/] Sending {N_CAMERAS} cameras at {FPS:g} fps; the daemon of the first is killed …")
        with FleetClient(controls, timeout_s=_END_S) as client:
            cameras = [Camera(controls, number) for number in range(N_CAMERAS)]
            victim = _watch(client, cameras, members, console)
            for camera in cameras:
                camera.close()
    console.print("[bold]3[/] Comparing with a run that nothing disturbs …")
    return _report(cameras, victim, console)


def _watch(client: FleetClient, cameras: list[Camera], members: dict[str, DaemonProgram], console: Console) -> str:
    """Show where the cameras are until they end; kill the first one's daemon in the middle; return its name."""
    owners: dict[str, str] = {}
    victim = ""
    for camera in cameras:
        camera.start()
    with Live(console=console, auto_refresh=False) as live:
        while not all(camera.ended for camera in cameras):
            owners.update({row["stream"]: row["member"] for row in client.request("fleet.status")["streams"]})
            if not victim and len(cameras[0].rows) >= _KILL_AT:
                victim = owners[cameras[0].name]
                members[victim].kill()
            live.update(_table(cameras, owners, victim), refresh=True)
            time.sleep(_REFRESH_S)
        live.update(_table(cameras, owners, victim), refresh=True)
    return victim


def _table(cameras: list[Camera], owners: dict[str, str], victim: str) -> Table:
    table = Table("camera", "member", "frames settled", "last settlement")
    for camera in cameras:
        owner = owners.get(camera.name, "")
        where = f"[red]{owner}, killed[/]" if owner == victim else owner
        silent_s = time.monotonic() - camera.rows[-1][0] if camera.rows else 0.0
        state = "all settled" if camera.ended else f"{silent_s:.1f} s ago"
        table.add_row(camera.name, where, f"{len(camera.rows)} of {N_FRAMES}", state)
    return table


def _report(cameras: list[Camera], victim: str, console: Console) -> bool:
    differing = {camera.name: camera.differing() for camera in cameras}
    pauses = sorted(camera.pause() for camera in cameras)
    faults = [f"{camera.name}: {camera.fault}" for camera in cameras if camera.fault is not None]
    for fault in faults:
        console.print(f"[red]{fault}[/]")
    total = N_CAMERAS * N_FRAMES
    console.print(
        f"[bold]{victim} was killed: {sum(differing.values())} of {total} frames have other ids than without the "
        f"kill, or are missing[/]; the longest pause of a camera was {pauses[-1]:.1f} s",
        highlight=False,
    )
    return not faults and not any(differing.values())


def _swimming(number: int) -> list[Detections]:
    """Return the keypoints of five animals that meet, with some missed by the detector."""
    generator = np.random.default_rng(number)
    motion = swim(generator, N_FRAMES, 5, (640, 480), FPS, np.array([320.0, 240.0]))
    along = np.stack([np.cos(motion.heading), np.sin(motion.heading)], axis=-1)
    nodes = np.stack([motion.thorax + step * along for step in (14.0, 0.0, -16.0)], axis=2)
    assert nodes.shape[2] == len(NODES)
    seen = generator.random(motion.heading.shape) >= 0.03
    return [Detections(keypoints=nodes[frame, seen[frame]].astype(np.float32)) for frame in range(N_FRAMES)]
