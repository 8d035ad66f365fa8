"""What actions send, as real receivers get it: UDP, OSC, HTTP, ZeroMQ, a serial line, MQTT, a program."""

from __future__ import annotations

import http.server
import json
import os
import socket
import struct
import sys
import threading
import time
import tty
from contextlib import contextmanager

import pytest
import zmq
from daemon_process import wait_until

from trackd_client.actions.action import Action
from trackd_client.actions.actions import open_action
from trackd_client.actions.outlet import Outlet
from trackd_client.actions.settings import read_actions
from trackd_client.errors import TrackdError
from trackd_client.triggers.firing import Firing

FIRING = Firing("at-feeder", "zone_enter", "cam", 2**50, 7, 107, 2**60 + 1, 3, "ålice", x=1.5, y=2.25, zone="feeder")
LONG_S = 30.0


def opened(**tree) -> Action:
    return open_action("a", read_actions({"actions": {"a": tree}})["a"])


@contextmanager
def udp_listener():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(LONG_S)
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_udp_datagram_has_the_fields_as_json_or_a_template():
    with udp_listener() as (listener, to):
        for tree, text in [
            ({"json": {"t": "{t_ns}", "who": "{name}", "at": ["{x}", "{y}"], "other": "{other}", "v": "{value}",
                       "one": 1}},
             '{"t":1152921504606846977,"who":"ålice","at":[1.5,2.25],"other":null,"v":null,"one":1}'),
            ({"message": 'say "{rule}" {track}{other}'}, 'say "at-feeder" 3'),
        ]:  # fmt: skip
            action = opened(kind="udp", to=to, **tree)
            action.send(FIRING)
            assert listener.recv(65536).decode() == text
            action.close()
        action = opened(kind="udp", to=to)
        action.send(FIRING)
        assert json.loads(listener.recv(65536)) == {
            "rule": "at-feeder", "when": "zone_enter", "stream": "cam", "epoch": 2**50, "seq": 7, "frame_index": 107,
            "t_ns": 2**60 + 1, "track": 3, "name": "ålice", "x": 1.5, "y": 2.25, "zone": "feeder",
        }  # fmt: skip
        action.close()


def test_an_osc_server_gets_typed_arguments():
    dispatcher = pytest.importorskip("pythonosc.dispatcher")
    server = pytest.importorskip("pythonosc.osc_server")
    got: list[tuple] = []
    table = dispatcher.Dispatcher()
    table.set_default_handler(lambda address, *args: got.append((address, *args)))
    with server.ThreadingOSCUDPServer(("127.0.0.1", 0), table) as osc:
        thread = threading.Thread(target=osc.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            action = opened(
                kind="osc", to=f"127.0.0.1:{osc.server_address[1]}", address="/arena/{stream}/{rule}",
                args=["{track}", "{x}", "{name}", "{t_ns}", "{other}", "{value}", 5, 0.5, True, "{zone}!"],
            )  # fmt: skip
            action.send(FIRING)
            wait_until(lambda: got, LONG_S, "the OSC message")
            action.close()
        finally:
            osc.shutdown()
            thread.join()
    assert got == [("/arena/cam/at-feeder", 3, 1.5, "ålice", 2**60 + 1, None, None, 5, 0.5, True, "feeder!")]


def test_an_http_server_gets_a_post_and_its_refusal_is_a_failure():
    got: list[tuple[str, str | None, bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.headers["X-Rig"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(404 if self.path == "/none" else 204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            base = f"http://127.0.0.1:{server.server_address[1]}"
            outlets = [
                Outlet(path, opened(kind="http", url=base + path, headers={"X-Rig": "1"}, message="{track}"), 8)
                for path in ("/hook", "/none")
            ]
            for outlet in outlets:
                outlet.send(FIRING, time.monotonic_ns())
            wait_until(lambda: outlets[0].sent == 1 and outlets[1].failed == 1, LONG_S, "the answers")
            for outlet in outlets:
                outlet.close(LONG_S)
        finally:
            server.shutdown()
            thread.join()
    assert sorted(got) == [("/hook", "1", b"3"), ("/none", "1", b"3")]


@pytest.mark.parametrize(("kind", "parts"), [("push", [b"3"]), ("pub", [b"cam/at-feeder", b"3"])])
def test_a_zeromq_socket_gets_the_message(kind, parts):
    with zmq.Context() as context, context.socket(zmq.PULL if kind == "push" else zmq.SUB) as receiver:
        receiver.setsockopt(zmq.LINGER, 0)
        receiver.setsockopt(zmq.RCVTIMEO, 100)
        port = receiver.bind_to_random_port("tcp://127.0.0.1")
        if kind == "pub":
            receiver.setsockopt(zmq.SUBSCRIBE, b"cam/")
        action = opened(
            kind="zmq", endpoint=f"tcp://127.0.0.1:{port}", socket=kind, topic="{stream}/{rule}", message="{track}"
        )
        outlet = Outlet("a", action, 8)
        got: list[list[bytes]] = []

        def received() -> bool:
            """Send again until the connection is there: before, PUB drops messages and PUSH refuses them."""
            outlet.send(FIRING, time.monotonic_ns())
            try:
                got.append(receiver.recv_multipart())
            except zmq.Again:
                return False
            return True

        wait_until(received, LONG_S, "the message")
        outlet.close()
    assert got == [parts]


def test_a_serial_line_gets_bytes():
    pytest.importorskip("serial")
    ours, theirs = os.openpty()
    tty.setraw(ours)
    try:
        outlet = Outlet("a", opened(kind="serial", port=os.ttyname(theirs), baud=9600, message="{track},{x}"), 8)
        outlet.send(FIRING, time.monotonic_ns())
        wait_until(lambda: outlet.sent + outlet.failed, LONG_S, "the write")
        assert os.read(ours, 100) == b"3,1.5\n"
        outlet.close(LONG_S)
    finally:
        os.close(ours)
        os.close(theirs)


def test_a_serial_line_that_is_absent_is_named_at_the_start():
    pytest.importorskip("serial")
    with pytest.raises(TrackdError, match=r"actions\.a: cannot be opened: .*/dev/no-such-line"):
        opened(kind="serial", port="/dev/no-such-line")


def test_a_program_gets_arguments_that_no_shell_reads(tmp_path):
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('|'.join(sys.argv[2:]))"
    path = tmp_path / "out"
    action = opened(
        kind="command", args=[sys.executable, "-c", code, str(path), "{rule}; touch x", "$({name})", "{track}"]
    )
    action.send(FIRING)
    assert path.read_text() == "at-feeder; touch x|$(ålice)|3"


def test_a_program_that_fails_or_hangs_is_a_failure():
    for args in (["import sys; sys.exit(3)"], ["import time; time.sleep(60)"]):
        outlet = Outlet("a", opened(kind="command", args=[sys.executable, "-c", *args], timeout_s=0.5), 8)
        outlet.send(FIRING, time.monotonic_ns())
        wait_until(lambda outlet=outlet: outlet.failed == 1, LONG_S, "the failure")
        outlet.close(LONG_S)


class Broker:
    """A minimal MQTT 3.1.1 broker for one client: CONNACK, PUBACK, and what was published."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.published: list[tuple[str, bytes]] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as stream:
            while head := stream.read(1):
                length = shift = 0
                while True:
                    byte = stream.read(1)[0]
                    length |= (byte & 127) << shift
                    shift += 7
                    if byte < 128:
                        break
                body = stream.read(length)
                if head[0] >> 4 == 1:
                    connection.sendall(b"\x20\x02\x00\x00")
                elif head[0] >> 4 == 3:
                    size = struct.unpack(">H", body[:2])[0]
                    qos = (head[0] >> 1) & 3
                    rest = body[2 + size :]
                    self.published.append((body[2 : 2 + size].decode(), rest[2:] if qos else rest))
                    if qos:
                        connection.sendall(b"\x40\x02" + rest[:2])
                elif head[0] >> 4 == 14:
                    return


@pytest.mark.parametrize("qos", [0, 1])
def test_an_mqtt_broker_gets_a_publication(qos):
    pytest.importorskip("paho.mqtt.client")
    broker = Broker()
    to = f"127.0.0.1:{broker.listener.getsockname()[1]}"
    outlet = Outlet("a", opened(kind="mqtt", broker=to, qos=qos, message="{track}", timeout_s=20.0), 8)

    def published() -> bool:
        """Send again until the connection is there: before, a message of qos 0 is refused."""
        if outlet.sent == 0 and outlet.failed == published.tries:  # type: ignore[attr-defined]
            published.tries += 1  # type: ignore[attr-defined]
            outlet.send(FIRING, time.monotonic_ns())
        return outlet.sent > 0

    published.tries = 0  # type: ignore[attr-defined]
    wait_until(published, LONG_S, "the publication")
    outlet.close(LONG_S)
    broker.thread.join(LONG_S)
    broker.listener.close()
    assert broker.published[-1] == ("trackd/cam/at-feeder", b"3")


class Slow(Action):
    """Waits until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.closed = False

    def send(self, firing: Firing) -> None:
        self.go.wait(LONG_S)

    def close(self) -> None:
        self.closed = True


def test_a_slow_action_does_not_delay_its_caller_and_what_it_cannot_queue_is_counted(caplog):
    slow = Slow()
    outlet = Outlet("slow", slow, 4)
    for _ in range(20):
        outlet.send(FIRING, time.monotonic_ns())
    assert not slow.go.is_set()  # the caller is back although nothing was sent
    assert 20 - 4 - 1 <= outlet.overflowed <= 20 - 4
    assert len([r for r in caplog.records if "is full" in r.getMessage()]) == 1
    slow.go.set()
    outlet.close(LONG_S)
    assert slow.closed
    assert outlet.sent + outlet.overflowed == 20
    assert outlet.behind_tracks.n == outlet.sent


def test_an_action_that_raises_does_not_end_the_others(caplog):
    class Faulty(Slow):
        def send(self, firing: Firing) -> None:
            raise RuntimeError("odd")

    outlet = Outlet("faulty", Faulty(), 4)
    for _ in range(3):
        outlet.send(FIRING, time.monotonic_ns())
    wait_until(lambda: outlet.failed == 3, LONG_S, "three failures")
    assert "RuntimeError: odd" in caplog.text
    outlet.close(LONG_S)
