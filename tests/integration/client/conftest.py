"""Fixtures of the client's tests: a scripted daemon and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq
from fake_daemon import FakeDaemon

from trackd_client import Client


@pytest.fixture
def context() -> Iterator[zmq.Context]:
    made = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture
def daemon(context) -> Iterator[FakeDaemon]:
    made = FakeDaemon(context)
    yield made
    made.stop()


@pytest.fixture
def client(daemon) -> Iterator[Client]:
    with Client(**daemon.endpoints, timeout_s=5.0) as made:
        yield made
