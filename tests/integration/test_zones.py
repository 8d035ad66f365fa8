"""Zones and lines over the wire: set with control rights, published, kept with the stream, used by rules."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from daemon_process import DaemonProcess, wait_until
from raw_client import RawClient, walking_boxes

from trackd_client import AsyncClient, Client, Detections, TrackdError

LONG_S = 60.0
CLI = [sys.executable, "-m", "trackd_client.apps.cli"]
FEEDER = [[0, 0], [100, 0], [100.5, 100], [0, 100]]
DOOR = [[200, 0], [200, 100]]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with DaemonProcess(f"daemon.state_dir={tmp_path_factory.mktemp('state')}") as process:
        yield process


@pytest.fixture
def client(daemon, request):
    name = request.node.name[:100].replace("[", "-").replace("]", "")
    with RawClient(daemon.addresses, subscribe=name) as client:
        client.stream = name
        client.epoch = client.open(name)["epoch"]
        yield client


def set_zones(client, **params):
    return client.request("stream.set_zones", stream=client.stream, **params)


def zones(client):
    return client.request("stream.zones", stream=client.stream)["result"]


def test_zones_are_published_with_their_author_and_returned_to_everyone_who_asks(client):
    assert zones(client) == {"epoch": client.epoch, "number": 0, "author": "", "t_ns": 0, "zones": {}, "lines": {}}
    reply = set_zones(client, zones={"Näpfe": FEEDER}, lines={"door": DOOR}, author="ada")["result"]
    assert abs(time.time_ns() - reply["t_ns"]) < 60e9
    assert reply == {
        "epoch": client.epoch, "number": 1, "author": "ada", "t_ns": reply["t_ns"], "zones": {"Näpfe": FEEDER},
        "lines": {"door": DOOR},
    }  # fmt: skip
    event = client.next_event("zones")
    assert (event["epoch"], event["last_seq"]) == (client.epoch, -1)
    assert {"epoch": client.epoch, **event["detail"]} == reply == zones(client)
    (row,) = [row for row in client.request("status")["result"]["streams"] if row["stream"] == client.stream]
    assert row["zones_number"] == 1
    assert set_zones(client, zones={})["result"]["lines"] == {}
    assert zones(client)["number"] == 2


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, "bad_message", "zones and lines: one of them must be given"),
        ({"zones": [FEEDER]}, "bad_message", "zones should be a section of named entries"),
        ({"zones": {"a": FEEDER[:2]}}, "bad_message", "zones.a should be a list of 3 to 256 points"),
        ({"zones": {"a\n": FEEDER}}, "bad_message", "printable"),
        ({"zones": {"a": [[0, 0], [1, 1], ["1", 2]]}}, "bad_message", "zones.a should be a list of"),
        ({"lines": {str(i): DOOR for i in range(65)}}, "too_large", "at most 64 zones and lines; got 65"),
        ({"zones": {str(i): [[0, 0]] * 200 for i in range(3)}}, "too_large", "at most 512 points together; got 600"),
        ({"zones": {}, "author": "x" * 65}, "bad_message", "author must have 1 to 64"),
        ({"zones": {}, "number": 7}, "zones_changed", "number must be 1, that of the last change"),
    ],
    ids=range(9),
)
def test_what_is_not_valid_is_refused_in_one_line_and_changes_nothing(client, params, code, text):
    set_zones(client, lines={"door": DOOR})
    error = set_zones(client, **params)["error"]
    assert error["code"] == code
    assert text in error["message"]
    assert "\n" not in error["message"]
    assert zones(client)["lines"] == {"door": DOOR}


def test_zones_stay_over_a_reset_and_end_with_the_stream(client):
    set_zones(client, zones={"feeder": FEEDER})
    epoch = client.request("stream.reset", stream=client.stream)["result"]["epoch"]
    kept = zones(client)
    assert (kept["epoch"], kept["number"], kept["zones"]) == (epoch, 1, {"feeder": FEEDER})
    client.request("stream.close", stream=client.stream)
    client.open(client.stream)
    assert zones(client)["zones"] == {}


def test_the_sdk_reads_and_sets_zones_in_threads_and_in_an_event_loop(client, daemon):
    at, name = daemon.addresses, client.stream
    with Client(at["ingest"], at["tracks"], at["control"]) as sdk:
        assert sdk.zones(name).number == 0
        drawn = sdk.set_zones(name, {"feeder": np.array(FEEDER)}, author="ada")
        assert (drawn.stream, drawn.number, drawn.author) == (name, 1, "ada")
        assert drawn.zones == {"feeder": tuple(map(tuple, FEEDER))}
        with pytest.raises(TrackdError, match="changed meanwhile") as raised:
            sdk.set_zones(name, {}, number=0)
        assert raised.value.code == "zones_changed"

    async def in_a_loop():
        async with AsyncClient(at["ingest"], at["tracks"], at["control"]) as sdk:
            await sdk.set_zones(name, {}, {"door": DOOR}, number=1)
            return await sdk.zones(name)

    found = asyncio.run(in_a_loop())
    assert (found.number, found.zones, found.lines) == (2, {}, {"door": tuple(map(tuple, DOOR))})


def test_zones_survive_a_kill_and_a_restart_also_beside_later_settings_and_corrections(tmp_path):
    options = (f"daemon.state_dir={tmp_path}", "daemon.http=null")
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        client.open("cam")
        client.frame("cam", 0, walking_boxes(0))
        client.recv_kind("ack")
        set_zones(client, zones={"old": FEEDER})
        drawn = set_zones(client, zones={"feeder": FEEDER}, lines={"door": DOOR}, author="ada")["result"]
        client.request("stream.configure", stream="cam", config={"max_gap": 7})
        client.request("stream.correct", stream="cam", action="swap", tracks=[0, 1])
        daemon.stop(signal.SIGKILL)
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        assert zones(client) == drawn
        assert client.open("cam", takeover=True)["next_seq"] == 1
        assert set_zones(client, zones={}, number=2)["result"]["number"] == 3
        daemon.stop()
    with DaemonProcess(*options) as daemon, RawClient(daemon.addresses) as client:
        client.stream = "cam"
        assert (zones(client)["number"], zones(client)["zones"]) == (3, {})


def test_the_command_sets_what_it_printed_and_a_fault_is_one_line(client, daemon, tmp_path):
    def run(*words):
        command = [*CLI, "zones", client.stream, *words, "--control", daemon.control]
        return subprocess.run(command, capture_output=True, text=True, timeout=LONG_S)

    set_zones(client, zones={"feeder": FEEDER}, lines={"door": DOOR})
    printed = run("--json")
    assert json.loads(printed.stdout) == {"zones": {"feeder": FEEDER}, "lines": {"door": DOOR}}
    file = tmp_path / "zones.json"
    file.write_text(printed.stdout)
    set_zones(client, zones={})
    assert run("--from", str(file), "--author", "ada").stdout == (
        "zone feeder: 0,0 100,0 100.5,100 0,100\nline door: 200,0 200,100\n"
    )
    assert zones(client)["author"] == "ada"
    file.write_text("zones: {feeder: [[0, 0]]}")
    faulty = run("--from", str(file))
    assert (faulty.returncode, len(faulty.stderr.splitlines())) == (2, 1)


def test_a_trigger_follows_a_zone_of_the_stream_when_it_is_drawn_again_while_it_runs(daemon, tmp_path):
    at = daemon.addresses
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener,
        Client(at["ingest"], at["tracks"], at["control"]) as sdk,
        sdk.open_stream("followed") as stream,
    ):
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(LONG_S)
        file = tmp_path / "rules.yaml"
        file.write_text(
            f"zones: {{feeder: stream}}\nactions: {{out: {{kind: udp, to: '127.0.0.1:{listener.getsockname()[1]}'}}}}\n"
            "rules: {at-feeder: {when: zone_enter, zone: feeder, streams: [followed], do: [out]}}\n"
        )
        command = [*CLI, "trigger", str(file), "--tracks", daemon.tracks, "--control", daemon.control]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=LONG_S)
        assert refused.returncode == 2
        assert refused.stderr == (
            "trackd-client: rules.at-feeder.zone should name a zone that stream 'followed' has; it has no zones; got "
            "'feeder'; draw it in the viewer, or set it by trackd-client zones\n"
        )

        def send(x: float) -> None:
            stream.send(None, Detections(boxes=np.array([[x, 40, x + 20, 60]], np.float32)))
            stream.flush()

        sdk.set_zones("followed", {"feeder": FEEDER})
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            assert process.stderr.readline() == "ready rules=1 actions=1\n"
            # The program follows from the next frame on: the animal leaves and enters until it is seen.
            listener.settimeout(0.2)
            fired = []

            def enters() -> bool:
                send(150)
                send(50)
                try:
                    fired.append(json.loads(listener.recv(65536)))
                except TimeoutError:
                    return False
                return True

            wait_until(enters, LONG_S, "the animal in the zone")
            assert (fired[0]["rule"], fired[0]["zone"], fired[0]["x"]) == ("at-feeder", "feeder", 60.0)
            listener.settimeout(LONG_S)
            send(150)
            sdk.set_zones("followed", {"feeder": [[140, 0], [300, 0], [300, 100], [140, 100]]})
            send(150)
            fired = json.loads(listener.recv(65536))
            while fired["x"] == 60.0:  # of an earlier round
                fired = json.loads(listener.recv(65536))
            assert fired["x"] == 160.0
        finally:
            process.terminate()
            process.communicate(timeout=LONG_S)
        assert process.returncode == 0
