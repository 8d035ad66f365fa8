"""With CURVE, random messages of subscribers with allowed and refused keys: a correct subscriber loses nothing."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from daemon_process import wait_until
from fault_tools import FaultDaemon, rounds, within, zmq_context
from fuzzer import odd_subscription
from raw_client import walking_boxes

from trackd.commands.keygen import make_keys
from trackd_client import Client, Detections, load_client_keys, load_server_key

FPS = 60.0
ATTACK_S = rounds(3, 60)
N_NONSENSE = rounds(2, 20)  # keys that are banned, one after the other; each ban reconnects all subscribers


class Keys:
    """The keys of a camera, of viewers that attack, and of a client that is not admitted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_keys(folder, "camera", ["cam*"], ["publish", "subscribe", "control"])
        for number in range(N_NONSENSE):
            make_keys(folder, f"viewer{number}", ["cam*", "fuzz*"], ["subscribe"])
        make_keys(folder, "polite", ["fuzz0", "fuzz1"], ["subscribe"])
        make_keys(folder, "publisher", ["cam*"], ["publish"])
        make_keys(folder / "others", "unknown", ["*"], ["subscribe"])
        self.server = load_server_key(folder / "server.key")
        self.overrides = [
            "security.curve=true",
            f"security.server_secret_key_file={folder}/server.key_secret",
            f"security.authorized_clients_dir={folder}/clients",
        ]

    def of(self, name: str) -> tuple[bytes, bytes]:
        folder = self._folder / "others" if name == "unknown" else self._folder
        return load_client_keys(folder / f"{name}.key_secret")

    def xsub(self, context: zmq.Context[zmq.Socket[bytes]], address: str, name: str) -> zmq.Socket[bytes]:
        socket = context.socket(zmq.XSUB)
        socket.linger, socket.rcvhwm, socket.sndtimeo = 0, 0, 100
        socket.curve_serverkey = self.server
        socket.curve_publickey, socket.curve_secretkey = self.of(name)
        socket.connect(address)
        return socket


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("subscriptions") / "keys")


@pytest.fixture
def daemon(keys: Keys) -> Iterator[FaultDaemon]:
    with FaultDaemon(*keys.overrides) as process:
        yield process
        assert process.healthy()[0] == 200


class Camera:
    """A closed loop at 60 fps, and a subscriber that counts what it gets."""

    def __init__(self, daemon: FaultDaemon, keys: Keys) -> None:
        at = daemon.addresses
        self._daemon = (at["ingest"], at["tracks"], at["control"])
        self._keys = {"server_key": keys.server, "client_keys": keys.of("camera")}
        self.sent = 0
        self.seqs: list[int] = []
        self._ended = threading.Event()
        self._fault: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._guarded, args=(work,), daemon=True) for work in (self._follow, self._film)
        ]

    def __enter__(self) -> Camera:
        self._threads[0].start()
        time.sleep(0.5)  # until it is subscribed
        self._threads[1].start()
        wait_until(lambda: len(self.seqs) > 10 or self._fault, 10)
        assert self._fault == []
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        for thread in reversed(self._threads):
            thread.join(30)
        if kind is None:
            assert self._fault == []
            assert self.seqs == list(range(self.sent))

    def _guarded(self, work) -> None:
        try:
            work()
        except BaseException as error:
            self._fault.append(error)

    def _film(self) -> None:
        with (
            Client(*self._daemon, timeout_s=10, **self._keys) as client,
            client.open_stream("cam", reply="tracks") as stream,
        ):
            while not self._ended.is_set():
                stream.track(None, Detections(boxes=walking_boxes(self.sent)))
                self.sent += 1
                time.sleep(1 / FPS)

    def _follow(self) -> None:
        with Client(*self._daemon, timeout_s=10, **self._keys) as client:
            for tracks in client.tracks("cam", from_seq=0, until_closed=True):
                self.seqs.append(tracks.seq)


def send(socket: zmq.Socket[bytes], parts: list[bytes]) -> None:
    with suppress(zmq.Again):  # the daemon refuses the connection
        socket.send_multipart(parts)


@within(60, 150)
def test_random_subscriptions_of_allowed_and_refused_keys_affect_no_subscriber(daemon, keys):
    """Topics that a key may and may not read, of any bytes and lengths; none of them is published to it by mistake."""
    rng = random.Random(7)
    with Camera(daemon, keys), zmq_context() as context:
        names = ("polite", "publisher", "unknown")
        sockets = {name: keys.xsub(context, daemon.tracks, name) for name in names}
        kept: dict[str, list[bytes]] = {name: [] for name in names}
        got: list[bytes] = []
        deadline = time.monotonic() + ATTACK_S
        while time.monotonic() < deadline:
            for name, socket in sockets.items():
                parts = odd_subscription(rng, kept[name])
                if len(parts) == 1 and parts[0][:1] in (b"\0", b"\1"):
                    send(socket, parts if rng.random() < 0.8 else [b"\1tracks/cam/"])
                while socket.poll(0):
                    got.append(socket.recv_multipart()[0])
            time.sleep(0.002)
        refused = daemon.metrics()['trackd_auth_rejected_total{reason="subscription"}']
        assert refused > 100
        assert not [topic for topic in got if b"/cam/" in topic]


@within(60, 200)
def test_random_messages_of_allowed_keys_ban_them_and_a_correct_subscriber_loses_nothing(daemon, keys):
    rng = random.Random(8)
    with Camera(daemon, keys) as camera, zmq_context() as context:
        for number in range(N_NONSENSE):
            socket = keys.xsub(context, daemon.tracks, f"viewer{number}")
            kept: list[bytes] = []
            until = time.monotonic() + ATTACK_S / N_NONSENSE
            while time.monotonic() < until:
                send(socket, odd_subscription(rng, kept))
                while socket.poll(0):
                    socket.recv_multipart()
                time.sleep(0.002)
            n = len(camera.seqs)
            wait_until(lambda n=n: len(camera.seqs) > n, 10)
        assert daemon.metrics()['trackd_auth_rejected_total{reason="upstream"}'] >= N_NONSENSE
