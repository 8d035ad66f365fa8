"""Members of a fleet as a client without the SDK sees them: real daemons, real NATS servers, docs/protocol.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from daemon_process import DaemonProcess, serve_command, wait_until
from fleet_of_daemons import FleetMember, FleetOfDaemons
from nats_cluster import NatsCluster
from raw_client import RawClient, array, walking_boxes

from trackd import track
from trackd.engine.stream_state import SNAPSHOT_FRAMES
from trackd_client import Client, Detections

N = 120


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetOfDaemons]:
    with NatsCluster(3) as cluster, FleetOfDaemons(cluster.urls, tmp_path_factory.mktemp("fleet")) as members:
        yield members


def named(fleet: FleetOfDaemons, name: str) -> FleetMember:
    return next(member for member in fleet.members if member.name == name)


def open_anywhere(fleet: FleetOfDaemons, stream: str, **fields: object) -> tuple[RawClient, FleetMember, dict]:
    """Open a stream as docs/protocol.md says; return the connection, its member and `opened`."""
    found: list[tuple[RawClient, FleetMember, dict]] = []

    def attempt() -> bool:
        place = next(member for member in fleet.members if member.process.process.poll() is None).ask(
            "locate", stream=stream
        )
        member = named(fleet, place["member"])
        if member.process.process.poll() is not None:
            return False  # its lease still runs
        client = RawClient(member.at, subscribe=stream)
        answer = client.open(stream, member=member.name, frame_shape=[480, 640], **fields)
        if answer["kind"] != "opened":
            client.close()
            return False
        found.append((client, member, answer))
        return True

    wait_until(attempt, 20, f"{stream} is opened")
    return found[0]


def send(client: RawClient, stream: str, seqs: range) -> list[np.ndarray]:
    """Send frames in a closed loop; return their ids, in the order of their settlements."""
    ids = []
    for seq in seqs:
        client.frame(stream, seq, walking_boxes(seq), t_ns=round(seq * 1e9 / 30))
        header, parts = client.next_tracks()
        assert (header["seq"], header["status"]) == (seq, "tracked")
        ids.append(array(header, parts, "track_ids"))
    client.recv_kind("ack")
    return ids


def wanted_ids(n: int) -> list[np.ndarray]:
    return [frame.track_ids for frame in track(Detections(boxes=walking_boxes(seq)) for seq in range(n))]


def test_a_stream_is_opened_where_it_is_placed_and_every_other_member_says_where_that_is(fleet):
    everywhere = {member.at["control"] for member in fleet.members}
    wait_until(lambda: all(set(each.ask("locate", stream="placed")["fleet"]) == everywhere for each in fleet.members))
    place = fleet.members[0].ask("locate", stream="placed")
    assert not place["owned"]
    assert place["term"] == 0
    others = [member for member in fleet.members if member.name != place["member"]]
    with RawClient(others[0].at) as client:
        moved = client.open("placed")
    assert (moved["code"], moved["member"], moved["term"]) == ("moved", place["member"], 0)
    assert moved["endpoints"]["ingest"] == place["endpoints"]["ingest"]
    with RawClient(others[1].at) as client:  # sent there by its name, it takes an unowned stream
        opened = client.open("placed", member=others[1].name)
        assert (opened["kind"], opened["next_seq"]) == ("opened", 0)
        with RawClient(others[0].at) as second:
            moved = second.open("placed", member=others[0].name)
            assert (moved["code"], moved["member"]) == ("moved", others[1].name)
            assert moved["term"] >= 1
            assert second.request("tracks.live", stream="placed")["error"]["code"] == "moved"
            assert second.request("history", stream="nobody")["error"]["code"] == "unknown_stream"
        client.send({"kind": "close", "stream": "placed"})
        client.recv_kind("closed")
    wait_until(lambda: not fleet.members[0].ask("locate", stream="placed")["owned"], 10)


def test_a_stream_goes_on_with_its_ids_after_its_owner_was_killed_moved_and_drained(fleet):
    client, owner, opened = open_anywhere(fleet, "cam.a")
    ids = send(client, "cam.a", range(N))
    with Client(control=owner.at["control"]) as sdk:
        sdk.rename_track("cam.a", 1, "Ann")
    client.close()
    owner.kill()
    client, second, again = open_anywhere(fleet, "cam.a")
    assert second is not owner
    assert (again["epoch"], again["next_seq"]) == (opened["epoch"], N)
    rows = second.ask("history", stream="cam.a", from_seq=0, limit=1000)
    assert [row["seq"] for row in rows] == list(range(N))
    ids += send(client, "cam.a", range(N, 2 * N))
    assert "Ann" in {row["name"] for row in second.ask("tracks.live", stream="cam.a")["tracks"]}
    owner.start()
    wait_until(owner.is_ready, 30)

    assert second.ask("fleet.move", stream="cam.a", member=owner.name)["member"] == owner.name
    moved = client.recv_kind("error")
    assert (moved["code"], moved["member"]) == ("moved", owner.name)
    assert client.next_event("moved")["detail"]["endpoints"]["tracks"] == owner.at["tracks"]
    client.close()
    client, third = RawClient(owner.at, subscribe="cam.a"), owner
    again = client.open("cam.a", member=owner.name)
    assert (again["epoch"], again["next_seq"]) == (opened["epoch"], 2 * N)
    ids += send(client, "cam.a", range(2 * N, 3 * N))

    assert third.ask("fleet.drain")["streams"] == 1
    assert client.recv_kind("error")["code"] == "moved"
    assert third.process.process.wait(20) == 0
    client.close()
    client, fourth, again = open_anywhere(fleet, "cam.a")
    assert fourth is not third
    ids += send(client, "cam.a", range(3 * N, 4 * N))
    client.close()
    assert all(np.array_equal(*pair) for pair in zip(ids, wanted_ids(4 * N), strict=True))
    third.start()
    wait_until(third.is_ready, 30)
    counts = fourth.ask("fleet.status")["counts"]
    assert counts["claims"] >= 1
    assert fourth.process.metrics()["trackd_fleet_streams_owned"] == counts["claims"] - counts["moved"]


def history(member: FleetMember, stream: str, n: int) -> list[str]:
    """Return n settlements from the first on, as texts; a reply has some hundred of them."""
    rows: list[dict] = []
    while len(rows) < n:
        some = member.ask("history", stream=stream, from_seq=len(rows), limit=1024)
        assert some, f"only {len(rows)} of {n} settlements"
        rows += some
    assert [row["seq"] for row in rows] == list(range(n))
    return [str(sorted((name, row[name]) for name in row.keys() - {"timing", "replayed"})) for row in rows]


def test_a_takeover_after_a_snapshot_has_the_whole_history_and_answers_a_frame_sent_again(fleet):
    n = SNAPSHOT_FRAMES + 150
    client, owner, opened = open_anywhere(fleet, "cam.long")
    ids = send(client, "cam.long", range(n))
    published = history(owner, "cam.long", n)
    client.close()
    owner.kill()
    client, second, again = open_anywhere(fleet, "cam.long")
    assert (again["epoch"], again["next_seq"]) == (opened["epoch"], n)
    client.frame("cam.long", n - 1, walking_boxes(n - 1), t_ns=round((n - 1) * 1e9 / 30))  # its ack was lost
    header, parts = client.next_tracks()
    assert (header["seq"], header["replayed"]) == (n - 1, True)
    assert np.array_equal(array(header, parts, "track_ids"), ids[-1])
    assert history(second, "cam.long", n) == published
    owner.start()
    wait_until(owner.is_ready, 30)

    second.ask("fleet.move", stream="cam.long", member=owner.name)  # with a snapshot of its own
    assert client.recv_kind("error")["code"] == "moved"
    client.close()
    with RawClient(owner.at, subscribe="cam.long") as client:
        assert client.open("cam.long", member=owner.name)["next_seq"] == n
        client.frame("cam.long", n, walking_boxes(n), frame_index=n - 1)
        assert "frame_index" in client.recv_kind("error")["message"]
        assert client.next_tracks()[0]["status"] == "rejected"
        ids += send(client, "cam.long", range(n + 1, n + 20))
        assert history(owner, "cam.long", n + 20)[:n] == published
    tracked = [Detections(boxes=walking_boxes(seq)) for seq in range(n + 20) if seq != n]
    assert all(np.array_equal(got, frame.track_ids) for got, frame in zip(ids, track(tracked), strict=True))


def test_a_closed_stream_begins_anew_with_a_higher_epoch_at_any_member(fleet):
    epochs = []
    for target in fleet.members:
        with RawClient(target.at) as client:
            opened = client.open("again", member=target.name, frame_shape=[480, 640])
            assert (opened["kind"], opened["next_seq"]) == ("opened", 0)
            epochs.append(opened["epoch"])
            client.frame("again", 0, walking_boxes(0))
            client.recv_kind("ack")
            client.send({"kind": "close", "stream": "again"})
            client.recv_kind("closed")
        wait_until(lambda: not fleet.members[0].ask("locate", stream="again")["owned"], 10)
    assert epochs == sorted(set(epochs))


def run_cli(*words: str) -> str:
    """Run `trackd fleet`; return what it prints."""
    command = [sys.executable, "-m", "trackd.cli", "fleet", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_shows_moves_rebalances_and_drains(fleet):
    names = [f"cli{number}" for number in range(3)]
    first, second, third = fleet.members
    at = ("--endpoint", second.at["control"])
    clients = []
    for name in names:  # all at one member, whatever the placement
        clients.append(RawClient(first.at))
        assert clients[-1].open(name, member=first.name, frame_shape=[480, 640])["kind"] == "opened"
    assert "nobody owns it" in run_cli("locate", "unknown", *at)
    assert run_cli("locate", "cli0", *at).startswith("cli0: m0 (term 1)")
    found = json.loads(run_cli("status", "--json", *at))
    assert {row["name"] for row in found["members"]} == {"m0", "m1", "m2"}
    assert [row["member"] for row in found["streams"] if row["stream"] in names] == ["m0"] * 3
    assert "cli1" in run_cli("status", *at)

    run_cli("move", "cli0", "m1", *at)
    assert clients[0].recv_kind("error")["member"] == "m1"
    clients[0].close()
    clients[0] = RawClient(second.at)
    assert clients[0].open("cli0", member="m1")["kind"] == "opened"
    run_cli("move", "cli0", "m0", *at)
    clients[0].recv_kind("error")
    clients[0].close()
    clients[0] = RawClient(first.at)
    assert clients[0].open("cli0", member="m0")["kind"] == "opened"

    moves = json.loads(run_cli("rebalance", "--json", *at))
    counts = Counter(row["member"] for row in found["streams"])  # other tests may have left streams
    counts.update(each["member"] for each in moves)
    counts["m0"] -= len(moves)
    assert moves
    assert max(counts.values()) - min(counts[name] for name in ("m0", "m1", "m2")) <= 1
    for name, client in zip(names, clients, strict=True):
        if name in {each["stream"] for each in moves}:
            moved = client.recv_kind("error")
            assert moved["member"] == next(each["member"] for each in moves if each["stream"] == name)
        client.close()
    with RawClient(third.at) as client:
        assert client.open("cli9", member="m2", frame_shape=[480, 640])["kind"] == "opened"
        assert "has left the fleet" in run_cli("drain", "m2", *at)
        assert client.recv_kind("error")["code"] == "moved"
    assert third.process.process.wait(10) == 0
    third.start()
    wait_until(third.is_ready, 30)
    command = [sys.executable, "-m", "trackd.cli", "fleet", "drain", "nobody", *at]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "no living member" in done.stderr) == (1, True)


def test_the_program_of_the_sdk_page_runs(fleet):
    text = (Path(__file__).parents[2] / "docs/sdk.md").read_text(encoding="utf-8")
    [code] = [code for code in re.findall(r"^```python\n(.*?)^```", text, re.M | re.S) if "FleetClient" in code]
    members = '["tcp://127.0.0.1:5572", "tcp://127.0.0.1:6572"]'
    assert members in code
    code = code.replace(members, json.dumps(fleet.controls()[:2]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    first, *frames = done.stdout.splitlines()
    assert first.split()[0] in {member.name for member in fleet.members}
    assert [int(line.split()[0]) for line in frames] == list(range(90, 100))


def test_an_open_that_is_refused_leaves_no_owner(fleet):
    member = fleet.members[0]
    with RawClient(member.at) as client:
        config = {"tracker": {"gallery": "nobody"}}
        refused = client.open("named", member=member.name, frame_shape=[480, 640], config=config)
        assert (refused["code"], "no gallery" in refused["message"]) == ("bad_config", True)
    wait_until(lambda: not fleet.members[1].ask("locate", stream="named")["owned"], 10)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        ("daemon.fleet.servers=[http://127.0.0.1:1]", "nats://"),
        ("daemon.fleet.name=a.b", "name"),
        ("daemon.durability=power", "durability"),
        ("daemon.fleet.replicas=2", "replicas"),
        ("daemon.fleet.lease_s=1", "lease_s"),
        ("daemon.fleet.tls_key=/k", "tls_cert and tls_key"),
        ("daemon.endpoints.ingest=tcp://*:0", "endpoints"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_one_line(override, text):
    fleet = ["daemon.fleet.servers=[nats://127.0.0.1:1]", "daemon.fleet.name=test", "security.insecure=true"]
    with pytest.raises(AssertionError, match=text):
        DaemonProcess(*fleet, override)


def test_a_member_without_servers_says_so_and_is_not_ready(tmp_path):
    [member] = [FleetMember("alone", ["nats://127.0.0.1:1"], tmp_path)]
    member.start()
    try:
        wait_until(lambda: "store cannot be reached" in member.process.get("/readyz")[1], 15)
        with RawClient(member.at) as client:
            answer = client.open("cam", member="alone")
            assert (answer["code"], answer.get("member")) == ("moved", None)
        code, stderr = member.process.stop()
        assert code == 0, stderr
    finally:
        member.end()


def test_a_member_whose_servers_cannot_hold_the_fleet_ends_with_the_reason(tmp_path):
    with NatsCluster(1) as cluster:
        # The servers answer before or after the ready line.
        command = serve_command(*FleetMember("m0", cluster.urls, tmp_path).overrides)
        ended = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "daemon.fleet.replicas is 3" in ended.stderr


def test_a_single_daemon_imports_nothing_of_nats():
    code = "import trackd.daemon, sys; sys.exit('nats' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
