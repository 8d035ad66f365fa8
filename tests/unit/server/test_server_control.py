"""The control socket: a new method is a function of its call, and every fault of a request has its reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
import zmq

from trackd.config import Config
from trackd.daemon import wire_limits
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.models.registry import ModelRegistry
from trackd.observe.metrics import Metrics
from trackd.server.access.grants import UNRESTRICTED, Grant, Right
from trackd.server.control.call import READERS, Call, DaemonParts
from trackd.server.control.control import Control
from trackd.server.session import Sessions
from trackd_client.protocol import fields as read
from trackd_client.transport.multipart import receive_message

LIMITS = wire_limits(Config().limits)


def count_streams(call: Call) -> None:
    """A method that is not trackd's: `streams.count`, with the text that the reply repeats."""
    call.grant.require_any(READERS)
    call.answer({"streams": len(call.daemon.sessions), "label": read.text(call.params, "label")})


class Wire:
    """A control socket in this process and one client of it; the test's thread does what the IO thread does."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.client = self.context.socket(zmq.DEALER)
        self.client.rcvtimeo = 5000
        self.metrics = Metrics(Inbox(1))
        self.drained = 0
        parts = DaemonParts(
            Sessions(lambda: 0.0), None, Inbox(1), Outbox(), ModelRegistry(Config()), None, self.drain, 0.0, None
        )
        self.control = Control(self.router, parts, self.metrics, LIMITS, {"streams.count": count_streams})
        port = self.router.bind_to_random_port("tcp://127.0.0.1")
        self.client.connect(f"tcp://127.0.0.1:{port}")

    def drain(self) -> None:
        self.drained += 1

    def request(self, method: str, grant: Grant | None = UNRESTRICTED, **params: Any) -> dict[str, Any]:
        message = {"v": 1, "kind": "request", "id": 7, "method": method, "params": params}
        self.client.send(msgpack.packb(message))
        assert self.router.poll(5000)
        parts, _ = receive_message(self.router, LIMITS.parts)
        self.control.handle(parts[:1], parts[1:], grant)
        reply = msgpack.unpackb(self.client.recv())
        assert (reply["kind"], reply["id"]) == ("reply", 7)
        return reply


@pytest.fixture
def wire() -> Iterator[Wire]:
    made = Wire()
    yield made
    made.context.destroy(linger=0)


def test_a_method_that_is_registered_by_its_name_answers_over_the_wire(wire):
    assert wire.request("streams.count", label="here")["result"] == {"streams": 0, "label": "here"}


def test_a_registered_method_checks_the_grant_and_the_params_of_its_call(wire):
    publisher = Grant("camera", "", ("*",), frozenset({Right.PUBLISH}))
    assert wire.request("streams.count", publisher, label="here")["error"]["code"] == "forbidden"
    assert wire.request("streams.count", label=3)["error"]["code"] == "bad_message"
    assert wire.request("streams.count", None, label="here")["error"]["code"] == "forbidden"


def test_a_registered_method_stands_beside_the_daemons_own(wire):
    assert [row["name"] for row in wire.request("models")["result"]] == ["motion"]
    assert "did you mean 'streams.count'" in wire.request("streams.cuont")["error"]["message"]


def test_a_method_that_fails_gets_an_internal_error_and_the_next_request_is_answered(wire, caplog):
    def fail(call: Call) -> None:
        raise RuntimeError("staged")

    wire.control = Control(wire.router, wire.control._daemon, wire.metrics, LIMITS, {"fail": fail})
    error = wire.request("fail")["error"]
    assert (error["code"], error["message"]) == ("internal", "RuntimeError: staged")
    assert "a request could not be handled" in caplog.text
    assert wire.request("models")["result"]


def test_drain_answers_first_and_then_drains_the_daemon(wire):
    assert wire.request("drain")["result"] == {"draining": True, "queued": 0}
    assert wire.drained == 1
    reader = Grant("viewer", "", ("*",), frozenset({Right.SUBSCRIBE}))
    assert wire.request("drain", reader)["error"]["code"] == "forbidden"
    assert wire.drained == 1


@pytest.mark.parametrize("right", [Right.PUBLISH, Right.SUBSCRIBE])
def test_a_correction_needs_the_right_to_control_its_stream(wire, right):
    asked = {"stream": "cam", "action": "end", "track": 0}
    reader = Grant("reader", "", ("*",), frozenset({right}))
    assert wire.request("stream.correct", reader, **asked)["error"]["code"] == "forbidden"
    other = Grant("other", "", ("lab*",), frozenset({Right.CONTROL}))
    assert wire.request("stream.correct", other, **asked)["error"]["code"] == "forbidden"
