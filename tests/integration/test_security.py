"""CURVE with a real daemon over real sockets: which clients are admitted, and what a key may do."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from daemon_process import DaemonProcess, wait_until
from raw_client import Keys, RawClient, walking_boxes

from trackd.commands.keygen import make_keys
from trackd_client import (
    Client,
    Detections,
    ErrorCode,
    Stream,
    StreamLost,
    TrackdError,
    load_client_keys,
    load_server_key,
)

ALL = ["publish", "subscribe", "control"]
QUIET_MS = 600


class Keyfolder:
    """A folder of keys, and clients that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_keys(folder, "all", ["*"], ALL)
        make_keys(folder, "camera", ["cam*"], ["publish"])
        make_keys(folder, "viewer", ["cam*"], ["subscribe"])
        make_keys(folder, "operator", ["cam*"], ["control"])

    @property
    def server(self) -> bytes:
        return load_server_key(self.folder / "server.key")

    def of(self, name: str) -> Keys:
        return (self.server, *load_client_keys(self.folder / f"{name}.key_secret"))

    def file(self, name: str) -> Path:
        return self.folder / "clients" / f"{name}.key"

    def overrides(self) -> list[str]:
        return [
            "security.curve=true",
            f"security.server_secret_key_file={self.folder}/server.key_secret",
            f"security.authorized_clients_dir={self.folder}/clients",
        ]

    def sdk(self, daemon: DaemonProcess, name: str) -> Client:
        at = daemon.addresses
        keys = load_client_keys(self.folder / f"{name}.key_secret")
        return Client(at["ingest"], at["tracks"], at["control"], timeout_s=5, server_key=self.server, client_keys=keys)


@pytest.fixture
def keys(tmp_path: Path) -> Keyfolder:
    return Keyfolder(tmp_path / "keys")


@pytest.fixture(scope="module")
def shared_keys(tmp_path_factory: pytest.TempPathFactory) -> Keyfolder:
    return Keyfolder(tmp_path_factory.mktemp("security") / "keys")


@pytest.fixture(scope="module")
def shared_daemon(shared_keys: Keyfolder) -> Iterator[DaemonProcess]:
    """For the tests that remove no key."""
    with DaemonProcess(*shared_keys.overrides()) as process:
        yield process


@pytest.fixture
def daemon(keys: Keyfolder) -> Iterator[DaemonProcess]:
    with DaemonProcess(*keys.overrides()) as process:
        yield process


def rejected(daemon: DaemonProcess, reason: str) -> float:
    return daemon.metrics()[f'trackd_auth_rejected_total{{reason="{reason}"}}']


def track_until_it_fails(stream: Stream) -> None:
    for seq in range(1, 200):
        stream.track(None, two(seq))
        time.sleep(0.05)


def two(seq: int) -> Detections:
    return Detections(boxes=walking_boxes(seq, 2))


def send_if_possible(socket: zmq.Socket, header: dict[str, object]) -> None:
    """Send if ZeroMQ accepts it; it accepts nothing after the daemon has refused the connection."""
    with suppress(zmq.Again):
        socket.send_multipart([msgpack.packb(header)], zmq.NOBLOCK)


def read_and_discard(*sockets: zmq.Socket, seconds: float = 1.2) -> None:
    """Read and discard messages. A SUB sends its topics again after a reconnect only while it is read."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for socket in sockets:
            if socket.poll(20):
                socket.recv_multipart()


# --- which clients are admitted ---


def test_the_right_key_sends_frames_reads_tracks_and_sends_requests(shared_daemon, shared_keys):
    with RawClient(shared_daemon.addresses, subscribe="right", keys=shared_keys.of("all")) as client:
        assert client.open("right")["kind"] == "opened"
        client.frame("right", 0, walking_boxes(0))
        assert client.recv_kind("ack")["seq"] == 0
        assert client.next_tracks()[0]["status"] == "tracked"
        assert client.request("status")["result"]["ready"]


@pytest.mark.parametrize("who", ["none", "unknown", "wrong server"])
def test_a_client_without_the_right_key_can_neither_send_nor_receive(shared_daemon, shared_keys, who):
    public, secret = zmq.curve_keypair()
    wrong_server = (zmq.curve_keypair()[0], *shared_keys.of("all")[1:])
    given: Keys | None = {"none": None, "unknown": (shared_keys.server, public, secret), "wrong server": wrong_server}[
        who
    ]
    stream = "guarded-" + who.replace(" ", "-")
    reason = "unknown_key" if who == "unknown" else "handshake"
    before, received = rejected(shared_daemon, reason), shared_daemon.metrics()
    with RawClient(shared_daemon.addresses, keys=shared_keys.of("all")) as good:
        good.open(stream)
        with RawClient(shared_daemon.addresses, subscribe=stream, keys=given) as client:
            for message in ({"kind": "ping", "t_ns": 1}, {"kind": "open", "stream": "intruder"}):
                send_if_possible(client.ingest, {"v": 1, **message})
            send_if_possible(client.control, {"v": 1, "kind": "request", "id": 1, "method": "status", "params": {}})
            good.frame(stream, 0, walking_boxes(0))
            good.recv_kind("ack")
            assert client.ingest.poll(QUIET_MS) == client.control.poll(0) == client.tracks.poll(0) == 0
        # All three sockets refused the client, and the daemon decoded none of its messages.
        wait_until(lambda: rejected(shared_daemon, reason) >= before + 3, what="three counted refusals")
        rows = good.request("status")["result"]["streams"]
        assert "intruder" not in [row["stream"] for row in rows]
    after = shared_daemon.metrics()
    errors = [name for name in after if name.startswith("trackd_errors_total")]
    assert all(after[name] == received.get(name, 0) for name in errors)


def test_the_sdk_reports_that_its_key_is_not_authorized(shared_daemon, shared_keys, tmp_path):
    make_keys(tmp_path / "others", "unknown", ["*"], ALL)
    unknown = load_client_keys(tmp_path / "others/unknown.key_secret")
    at = shared_daemon.addresses
    with Client(
        at["ingest"], at["tracks"], at["control"], timeout_s=1, server_key=shared_keys.server, client_keys=unknown
    ) as client:
        for ask in (client.status, lambda: client.open_stream("x")):
            with pytest.raises(TrackdError, match="does not let this client's key in"):
                ask()
        events = client.events("x", timeout_s=5)
        with pytest.raises(TrackdError) as caught:
            next(iter(events))
        assert caught.value.code is ErrorCode.FORBIDDEN


def test_ipc_sockets_need_keys_too(keys, tmp_path):
    ipc = [f"daemon.endpoints.{name}=ipc://{tmp_path}/s/{name}" for name in ("ingest", "tracks", "control")]
    with DaemonProcess(*keys.overrides(), *ipc) as daemon:
        with RawClient(daemon.addresses) as nobody:
            nobody.send({"kind": "ping", "t_ns": 1})
            assert nobody.nothing_comes(QUIET_MS)
        with RawClient(daemon.addresses, subscribe="cam1", keys=keys.of("all")) as client:
            client.open("cam1")
            client.frame("cam1", 0, walking_boxes(0))
            assert client.next_tracks()[0]["seq"] == 0
            keys.file("viewer").unlink()  # the daemon then binds tracks again, which for ipc is a file
            read_and_discard(client.tracks, seconds=3.0)
            client.frame("cam1", 1, walking_boxes(1))
            assert client.next_tracks()[0]["seq"] == 1


# --- what a key may do ---


def test_a_key_publishes_to_its_streams_only(shared_daemon, shared_keys):
    before = rejected(shared_daemon, "forbidden")
    with (
        RawClient(shared_daemon.addresses, keys=shared_keys.of("camera")) as camera,
        RawClient(shared_daemon.addresses, keys=shared_keys.of("all")) as other,
    ):
        assert camera.open("cam-a")["kind"] == "opened"
        camera.frame("cam-a", 0, walking_boxes(0))
        assert camera.recv_kind("ack", "error")["kind"] == "ack"
        assert other.open("door")["kind"] == "opened"
        refusal = camera.open("door", takeover=True)
        assert (refusal["code"], refusal["stream"]) == ("forbidden", "door")
        assert "cam*" in refusal["message"]
        camera.frame("door", 0, walking_boxes(0))
        refusal = camera.recv_kind("ack", "error")
        assert (refusal["code"], refusal["stream"], refusal["seq"]) == ("forbidden", "door", 0)
        camera.send({"kind": "close", "stream": "door"})
        assert camera.recv_kind("closed", "error")["code"] == "forbidden"
        # A frame with invalid arrays settles as rejected in its stream. In the stream of another client it must not.
        bad = {"boxes": {"dtype": "<f4", "shape": [99, 4], "part": 1}}
        camera.frame("door", 0, walking_boxes(0), detections=bad)
        assert camera.recv_kind("ack", "error")["code"] == "forbidden"
        other.frame("door", 0, walking_boxes(0))
        assert other.recv_kind("ack", "error")["kind"] == "ack"
    assert rejected(shared_daemon, "forbidden") == before + 4


@pytest.mark.parametrize("name", ["viewer", "operator"])
def test_a_key_that_may_not_publish_opens_nothing(shared_daemon, shared_keys, name):
    with RawClient(shared_daemon.addresses, keys=shared_keys.of(name)) as client:
        assert client.open("cam-b")["code"] == "forbidden"
        client.send({"kind": "ping", "t_ns": 3})
        assert client.recv()["kind"] == "pong"


REQUESTS = {
    "status": {},
    "models": {},
    "history": {"stream": "cam-c"},
    "tracks.live": {"stream": "cam-c"},
    "stream.configure": {"stream": "cam-c", "config": {"window_size": 4}},
    "stream.reset": {"stream": "cam-c"},
    "stream.close": {"stream": "cam-c"},
    "model.load": {"name": "m", "path": "/none"},
    "drain": {},
}


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("camera", set()),
        ("viewer", {"status", "models", "history", "tracks.live"}),
        (
            "operator",
            {"status", "models", "history", "tracks.live", "stream.configure", "stream.reset", "stream.close"},
        ),
    ],
)
def test_each_request_needs_its_right(shared_daemon, shared_keys, name, allowed):
    with (
        RawClient(shared_daemon.addresses, keys=shared_keys.of("all")) as owner,
        RawClient(shared_daemon.addresses, keys=shared_keys.of(name)) as client,
    ):
        owner.open("cam-c")
        granted = set()
        for method, params in REQUESTS.items():
            reply = client.request(method, **params)
            if reply.get("error") is None:
                granted.add(method)
            else:
                assert reply["error"]["code"] == "forbidden", reply
        assert granted == allowed
        # The error is the same for a stream that does not exist.
        replies = [client.request("tracks.live", stream=stream)["error"]["code"] for stream in ("door", "nosuch")]
        assert replies == ["forbidden", "forbidden"]


def test_status_shows_a_key_its_own_streams(shared_daemon, shared_keys):
    with (
        RawClient(shared_daemon.addresses, keys=shared_keys.of("all")) as owner,
        RawClient(shared_daemon.addresses, keys=shared_keys.of("viewer")) as viewer,
    ):
        owner.open("cam-d")
        owner.open("secret")
        names = [row["stream"] for row in viewer.request("status")["result"]["streams"]]
        assert "cam-d" in names
        assert all(name.startswith("cam") for name in names)


def test_a_subscriber_gets_the_topics_of_its_streams_and_no_others(shared_daemon, shared_keys):
    before = rejected(shared_daemon, "subscription")
    with (
        RawClient(shared_daemon.addresses, subscribe="vault", keys=shared_keys.of("viewer")) as reader,
        RawClient(shared_daemon.addresses, subscribe="vault", keys=shared_keys.of("all")) as owner,
    ):
        for topic in (b"", b"tracks/", b"tracks/c", b"events/cam"):
            reader.tracks.subscribe(topic)
        time.sleep(0.3)
        for stream in ("vault", "cam-e"):
            owner.open(stream)
            owner.frame(stream, 0, walking_boxes(0))
            owner.recv_kind("ack")
        assert owner.next_tracks()[0]["stream"] == "vault"
        seen = set()
        while reader.tracks.poll(300) and len(seen) < 3:
            seen.add(reader.tracks.recv_multipart()[0])
        assert b"events/cam-e/" in seen
        assert all(topic.startswith(b"events/cam") for topic in seen)
    assert rejected(shared_daemon, "subscription") == before + 5


def test_a_key_that_may_not_subscribe_cannot_connect_to_tracks(shared_daemon, shared_keys):
    before = rejected(shared_daemon, "no_permission")
    with RawClient(shared_daemon.addresses, subscribe="cam-f", keys=shared_keys.of("camera")) as camera:
        camera.open("cam-f")
        camera.frame("cam-f", 0, walking_boxes(0))
        camera.recv_kind("ack")
        assert camera.tracks.poll(QUIET_MS) == 0
    assert rejected(shared_daemon, "no_permission") == before + 1


def test_a_subscriber_that_sends_no_subscription_gets_no_topics_of_others(daemon, keys):
    """In libzmq's manual mode the next connection would get the honest subscriber's topic."""
    with (
        RawClient(daemon.addresses, keys=keys.of("all")) as owner,
        RawClient(daemon.addresses, keys=keys.of("viewer")) as reader,
    ):
        owner.open("vault")
        first = reader.connect(zmq.XSUB, daemon.tracks)
        second = reader.connect(zmq.XSUB, daemon.tracks)
        time.sleep(0.3)
        for _ in range(20):
            first.send(b"not a subscription")
            owner.tracks.subscribe(b"tracks/vault/")
            second.send(b"\x01tracks/cam1/")
            owner.tracks.unsubscribe(b"tracks/vault/")
        owner.tracks.subscribe(b"tracks/vault/")
        deadline = time.monotonic() + 3.0
        seq, got = 0, []
        while time.monotonic() < deadline:
            owner.frame("vault", seq, walking_boxes(seq))
            owner.recv_kind("ack")
            seq += 1
            if owner.tracks.poll(100):
                got.append(owner.tracks.recv_multipart()[0])
            assert second.poll(0) == first.poll(0) == 0
        # The honest subscriber was disconnected and reconnected. The other one stays banned.
        assert b"tracks/vault/" in got
        assert rejected(daemon, "upstream") >= 1
        assert rejected(daemon, "no_permission") >= 1


# --- a key owns its streams ---


def test_the_same_key_resumes_its_stream_at_once_and_another_key_needs_takeover(shared_daemon, shared_keys):
    with (
        RawClient(shared_daemon.addresses, keys=shared_keys.of("camera")) as first,
        RawClient(shared_daemon.addresses, keys=shared_keys.of("camera")) as again,
        RawClient(shared_daemon.addresses, keys=shared_keys.of("all")) as other,
    ):
        first.open("cam-g")
        first.frame("cam-g", 0, walking_boxes(0))
        first.recv_kind("ack")
        again.frame("cam-g", 1, walking_boxes(1))
        assert again.recv_kind("ack", "error")["code"] == "stream_busy"
        opened = again.open("cam-g")
        assert (opened["kind"], opened["next_seq"]) == ("opened", 1)
        assert first.recv_kind("error")["code"] == "stream_busy"
        assert other.open("cam-g")["code"] == "stream_busy"
        assert other.open("cam-g", takeover=True)["kind"] == "opened"
        assert again.open("cam-g")["code"] == "stream_busy"


# --- keys are added and removed ---


def test_a_key_that_is_added_while_the_daemon_runs_is_admitted(daemon, keys):
    make_keys(keys.folder, "late", ["cam*"], ALL)
    late = keys.file("late")
    text = late.read_text()
    late.unlink()
    time.sleep(0.6)
    with keys.sdk(daemon, "late") as client:
        client.timeout_s = 1
        with pytest.raises(TrackdError, match="does not let this client's key in"):
            client.open_stream("cam1")
        late.write_text(text)
        late.chmod(0o600)
        stream = client.open_stream("cam1", reply="tracks", timeout_s=5)
        assert stream.track(None, two(0)).track_ids.tolist() == [0, 1]


def test_a_key_that_is_removed_is_refused_on_each_socket_and_another_key_resumes_its_stream(daemon, keys):
    make_keys(keys.folder, "next", ["cam*"], ALL)
    make_keys(keys.folder, "removed", ["cam*"], ALL)
    time.sleep(0.6)
    with (
        RawClient(daemon.addresses, subscribe="cam1", keys=keys.of("next")) as successor,
        RawClient(daemon.addresses, subscribe="cam1", keys=keys.of("removed")) as removed,
    ):
        removed.open("cam1")
        for seq in range(3):
            removed.frame("cam1", seq, walking_boxes(seq))
            removed.recv_kind("ack")
        assert [removed.next_tracks()[0]["seq"] for _ in range(3)] == [0, 1, 2]
        keys.file("removed").unlink()
        error = removed.recv_kind("error")
        assert (error["code"], error["stream"], error["fatal"]) == ("forbidden", "cam1", True)
        removed.frame("cam1", 3, walking_boxes(3))
        assert removed.recv_kind("ack", "error")["code"] == "forbidden"
        removed.send({"kind": "ping", "t_ns": 1})
        assert removed.recv_kind("pong", "error")["code"] == "forbidden"
        assert removed.request("status")["error"]["code"] == "forbidden"
        # A client that may publish to the stream resumes it, with its tracks.
        opened = successor.open("cam1")
        assert (opened["kind"], opened["next_seq"]) == ("opened", 3)
        read_and_discard(successor.tracks, removed.tracks)
        successor.frame("cam1", 3, walking_boxes(3))
        successor.recv_kind("ack")
        seqs = []
        while 3 not in seqs:
            seqs.append(successor.next_tracks()[0]["seq"])
        assert removed.tracks.poll(QUIET_MS) == 0
        # The removed key is not admitted again.
        before = rejected(daemon, "unknown_key")
        with RawClient(daemon.addresses, keys=keys.of("removed")) as again:
            again.send({"kind": "ping", "t_ns": 1})
            assert again.nothing_comes(QUIET_MS)
        assert rejected(daemon, "unknown_key") > before


def test_a_key_that_has_lost_a_stream_is_refused_there(daemon, keys):
    with RawClient(daemon.addresses, keys=keys.of("camera")) as camera:
        camera.open("cam1")
        path = keys.file("camera")
        path.write_text(path.read_text().replace("cam*", "cam2"))
        assert camera.recv_kind("error")["code"] == "forbidden"
        assert camera.open("cam1")["code"] == "forbidden"
        assert camera.open("cam2")["kind"] == "opened"


def test_the_sdk_loses_its_stream_and_its_subscription_when_its_key_is_removed(daemon, keys):
    make_keys(keys.folder, "removed", ["cam*"], ALL)
    time.sleep(0.6)
    with keys.sdk(daemon, "removed") as client, keys.sdk(daemon, "all") as other:
        stream = client.open_stream("cam1", reply="tracks")
        mine, theirs = client.tracks("cam1", timeout_s=8), other.tracks("cam1", timeout_s=8)
        stream.track(None, two(0))
        assert next(mine).seq == next(theirs).seq == 0
        keys.file("removed").unlink()
        with pytest.raises(StreamLost) as lost:
            track_until_it_fails(stream)
        assert lost.value.code is ErrorCode.FORBIDDEN
        with pytest.raises(TrackdError, match="not let this client's key in"):
            for _ in mine:
                pass
        # The other subscribers have no gap: `history` has the settlements of the time of their reconnect.
        with other.open_stream("cam1", reply="tracks") as successor:
            last = successor.track(None, two(90)).seq
            seqs = [0]
            while seqs[-1] < last:
                seqs.append(next(theirs).seq)
        assert seqs == list(range(last + 1))


# --- errors at start ---


def serve(*overrides: str) -> subprocess.CompletedProcess[str]:
    free = [f"daemon.endpoints.{name}=tcp://127.0.0.1:*" for name in ("ingest", "tracks", "control")]
    words = [word for override in [*free, "daemon.http=null", *overrides] for word in ("--set", override)]
    return subprocess.run(
        [sys.executable, "-m", "trackd.cli", "serve", *words], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda k: (k.folder / "server.key_secret").chmod(0o640), ["server_secret_key_file", "0600", "0640"]),
        (lambda k: (k.folder / "server.key_secret").unlink(), ["server_secret_key_file", "No such file"]),
        (lambda k: k.file("camera").write_text("x"), ["authorized_clients_dir", "camera.key"]),
        (lambda k: (k.folder / "clients").chmod(0o777), ["authorized_clients_dir", "chmod 700"]),
        (lambda k: (k.folder / "clients").rename(k.folder / "away"), ["authorized_clients_dir", "No such file"]),
    ],
    ids=["open secret", "no secret", "bad key", "open folder", "no folder"],
)
def test_keys_that_cannot_be_used_are_one_clear_line(keys, damage, words):
    damage(keys)
    ended = serve(*keys.overrides())
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.strip().splitlines()) == 1
    assert all(word in ended.stderr for word in words), ended.stderr


def test_an_ipc_folder_that_others_can_enter_is_refused_without_curve(tmp_path):
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open").chmod(0o755)
    ended = serve(f"daemon.endpoints.ingest=ipc://{tmp_path}/open/ingest")
    assert ended.returncode == 2
    assert "mode 0700; got 0755" in ended.stderr
    assert serve("daemon.endpoints.ingest=ipc://@abstract").returncode == 2


def test_addresses_beyond_loopback_need_curve(keys):
    anywhere = [f"daemon.endpoints.{name}=tcp://0.0.0.0:*" for name in ("ingest", "tracks", "control")]
    assert "loopback" in serve(*anywhere).stderr
    with DaemonProcess(*keys.overrides(), *anywhere) as daemon:
        at = {name: address.replace("0.0.0.0", "127.0.0.1") for name, address in daemon.addresses.items()}
        with RawClient(at, keys=keys.of("all")) as client:
            assert client.open("cam1")["kind"] == "opened"


# --- HTTP ---


def test_http_beyond_loopback_needs_a_token(tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef0123456789abcdef\n")
    token.chmod(0o600)
    assert "http_token_file" in serve("daemon.http=0.0.0.0:0").stderr
    with DaemonProcess("daemon.http=0.0.0.0:0", f"security.http_token_file={token}") as daemon:
        daemon.addresses["http"] = daemon.addresses["http"].replace("0.0.0.0", "127.0.0.1")
        assert daemon.get("/metrics")[0] == 401
        assert daemon.get("/none")[0] == 401
        assert daemon.get("/")[0] == 200  # the viewer's page has no data; its socket asks for the token
        assert daemon.get("/healthz") == (200, "")
        for given, status in (("Bearer " + token.read_text().strip(), 200), ("Bearer wrong", 401), ("Basic x", 401)):
            request = urllib.request.Request(daemon.addresses["http"] + "/metrics", headers={"Authorization": given})
            try:
                with urllib.request.urlopen(request, timeout=5) as response:
                    got = response.status
            except urllib.error.HTTPError as error:
                got = error.code
            assert got == status, given


# --- the commands ---


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_commands_work_from_keygen_to_watch(tmp_path):
    folder = tmp_path / "keys"
    made = run("trackd.cli", "keygen", folder, "--name", "cam1", "--streams", "cam*")
    assert made.returncode == 0
    assert f"authorized_clients_dir: {folder}/clients" in made.stdout
    assert run("trackd.cli", "keygen", folder, "--name", "cam1").returncode == 2
    overrides = [
        "security.curve=true",
        f"security.server_secret_key_file={folder}/server.key_secret",
        f"security.authorized_clients_dir={folder}/clients",
    ]
    with DaemonProcess(*overrides) as daemon:
        keys = ("--server-key", folder / "server.key", "--client-key", folder / "cam1.key_secret")
        status = ("trackd.cli", "status", "--endpoint", daemon.control)
        shown = run(*status, *keys)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert "ready" in shown.stdout
        refused = run(*status, "--timeout-s", "1")
        assert refused.returncode == 1
        assert "wants CURVE keys" in refused.stderr
        (folder / "cam1.key_secret").chmod(0o644)
        assert run(*status, *keys).returncode == 2
        (folder / "cam1.key_secret").chmod(0o600)
        server_key, client_keys = load_server_key(folder / "server.key"), load_client_keys(folder / "cam1.key_secret")
        with (
            Client(
                daemon.ingest, daemon.tracks, daemon.control, server_key=server_key, client_keys=client_keys
            ) as client,
            client.open_stream("cam1") as stream,
        ):
            stream.send(None, Detections(boxes=np.array([[0, 0, 9, 9]], np.float32)))
            watch = ("trackd_client.apps.cli", "watch", "cam1", "--once", "--tracks", daemon.tracks)
            watched = run(*watch, "--control", daemon.control, *keys)
            assert watched.returncode == 0, watched.stderr
            assert "cam1" in watched.stdout
