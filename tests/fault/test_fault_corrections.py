"""A daemon that is killed in the middle of corrections: none that it acknowledged is lost or applied twice."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import msgpack
import pytest
from daemon_process import DaemonProcess
from fault_tools import FaultDaemon, within
from raw_client import RawClient, array, walking_boxes

N_STEPS = 40
N_ANIMALS = 3


class GoneError(Exception):
    """The daemon was killed before it answered."""


class Model:
    """What the ids and names must be: the animals are far apart, so the tracker itself confuses none."""

    def __init__(self) -> None:
        self.ids = list(range(N_ANIMALS))  # by animal
        self.names: dict[int, str] = {}

    def state(self) -> tuple[list[int], list[str | None]]:
        return self.ids, [self.names.get(track) for track in self.ids]

    def after(self, action: str, params: dict[str, Any]) -> Model:
        changed = Model()
        changed.ids, changed.names = list(self.ids), dict(self.names)
        if action == "swap":
            one, other = params["tracks"]
            at, to = self.ids.index(one), self.ids.index(other)
            changed.ids[at], changed.ids[to] = other, one
        elif action == "new_id":
            changed.names.pop(params["track"], None)
            changed.ids[self.ids.index(params["track"])] = max(self.ids) + 1
        else:
            changed.names[params["track"]] = params["name"]
        return changed


def correction(step: int, model: Model) -> tuple[str, dict[str, Any]]:
    """Return the correction after frame `step`."""
    track, other = model.ids[step % N_ANIMALS], model.ids[(step + 1) % N_ANIMALS]
    if step % 5 == 4:
        return "new_id", {"track": max(model.ids)}
    return ("swap", {"tracks": [track, other]}) if step % 2 else ("rename", {"track": track, "name": f"n{step}"})


def receive(socket: Any, daemon: DaemonProcess) -> list[bytes]:
    """Return the next message of the daemon.

    Raises:
        GoneError: it was killed before.
    """
    while not socket.poll(50):
        if daemon.process.poll() is not None and not socket.poll(50):
            raise GoneError
    return socket.recv_multipart()


class Run:
    """One camera and one person who corrects after each frame, over all daemons."""

    def __init__(self) -> None:
        self.model, self.step = Model(), 0
        self.asked: tuple[str, dict[str, Any]] | None = None  # the correction whose answer is missing

    def go_on(self, daemon: DaemonProcess) -> bool:
        """Send frames and corrections until the end; returns False where the daemon was killed before it."""
        with RawClient(daemon.addresses) as client:
            try:
                client.send({"kind": "open", "stream": "cam", "reply": "tracks", "takeover": True})
                next_seq = msgpack.unpackb(receive(client.ingest, daemon)[0])["next_seq"]
                if self.asked is not None:
                    assert next_seq == self.step + 1
                    self.learn(client, daemon)
                elif next_seq > self.step:  # the frame was tracked, and its answer is missing
                    (row,) = self.request(client, daemon, "history", from_seq=self.step)
                    self.check(row["track_ids"], row.get("names"))
                while self.step < N_STEPS:
                    if next_seq <= self.step:
                        self.frame(client, daemon)
                    self.correct(client, daemon)
            except GoneError:
                return False
            return True

    def frame(self, client: RawClient, daemon: DaemonProcess) -> None:
        client.frame("cam", self.step, walking_boxes(self.step, N_ANIMALS))
        while True:
            parts = receive(client.ingest, daemon)
            header = msgpack.unpackb(parts[0])
            if header["kind"] == "tracks":
                break
        self.check(array(header, parts[1:], "track_ids").tolist(), header.get("names"))

    def check(self, ids: list[int], names: list[str | None] | None) -> None:
        assert (ids, names or [None] * N_ANIMALS) == self.model.state(), self.step

    def correct(self, client: RawClient, daemon: DaemonProcess) -> None:
        self.asked = self.asked or correction(self.step, self.model)
        action, params = self.asked
        reply = self.request(client, daemon, "stream.correct", action=action, **params)
        assert reply["seq"] == self.step, reply
        self.model, self.asked = self.model.after(*self.asked), None
        self.step += 1

    def learn(self, client: RawClient, daemon: DaemonProcess) -> None:
        """Find out whether the correction whose answer is missing was applied; nothing between the two is right."""
        rows = self.request(client, daemon, "tracks.live")["tracks"]
        animals = sorted(rows, key=lambda row: row["box"][1])  # the boxes are one below another
        found = [row["id"] for row in animals], [row["name"] for row in animals]
        assert self.asked is not None
        applied = self.model.after(*self.asked)
        assert found in (self.model.state(), applied.state()), "an acknowledged correction is lost or torn"
        if found == applied.state():
            self.model, self.asked = applied, None
            self.step += 1

    def request(self, client: RawClient, daemon: DaemonProcess, method: str, **params: Any) -> dict[str, Any]:
        message = {"v": 1, "kind": "request", "id": 1, "method": method, "params": {"stream": "cam", **params}}
        client.control.send(msgpack.packb(message))
        reply = msgpack.unpackb(receive(client.control, daemon)[-1])
        return reply["result"]

    def finish(self, folder: Path, durability: str) -> None:
        """Go on with a daemon that is not killed, and compare all that was published with the model's end."""
        with FaultDaemon(*options(folder, durability)) as daemon:
            assert self.go_on(daemon)
            with RawClient(daemon.addresses) as client:
                rows = self.request(client, daemon, "history")
                assert [row["seq"] for row in rows] == list(range(N_STEPS))
                live = self.request(client, daemon, "tracks.live")["tracks"]
                assert sorted(row["id"] for row in live) == sorted(self.model.ids)


def options(folder: Path, durability: str) -> tuple[str, ...]:
    return (f"daemon.state_dir={folder}", "daemon.http=null", f"daemon.durability={durability}")


@within(180, 180)
@pytest.mark.parametrize(
    ("crash_at", "durability"),
    [("before_snapshot:9", "process"), ("in_snapshot:22", "power"), ("before_head:41", "process")],
)
def test_after_a_kill_while_a_correction_is_stored_it_is_there_completely_or_not_at_all(tmp_path, crash_at, durability):
    run = Run()
    with FaultDaemon(*options(tmp_path, durability), env={"TRACKD_CRASH_AT": crash_at}) as daemon:
        assert not run.go_on(daemon)
    run.finish(tmp_path, durability)


@within(180, 180)
def test_after_kills_at_random_moments_the_ids_and_names_are_those_without_a_kill(tmp_path):
    run, rng = Run(), random.Random(15)
    for _ in range(2):
        with FaultDaemon(*options(tmp_path, "process")) as daemon:
            killer = threading.Thread(target=kill_at, args=(daemon, run, run.step + 8, 0.005 * rng.random()))
            killer.start()
            done = run.go_on(daemon)
            killer.join(60)
            assert not done
    run.finish(tmp_path, "process")


def kill_at(daemon: DaemonProcess, run: Run, step: int, later_s: float) -> None:
    """Kill the daemon a moment after the run has reached a step."""
    while run.step < step and daemon.process.poll() is None:
        threading.Event().wait(0.0005)
    threading.Event().wait(later_s)
    daemon.process.kill()
