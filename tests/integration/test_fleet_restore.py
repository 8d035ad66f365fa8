"""The runbook of docs/fleet.md on real servers: an empty disk, a backup of one server, and a restore from it."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

nats = pytest.importorskip("nats")

from deployed_servers import FLEET, SIZE, DeployedServers  # noqa: E402
from nats.js.api import StreamConfig  # noqa: E402
from nats.js.errors import NoStreamResponseError  # noqa: E402
from nats_program import needs_nats  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    needs_nats,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
LOG, SUBJECT = f"TRACKD_{FLEET}_LOG", f"trackd.{FLEET}.log.cam"
WITHIN_S = 40.0


async def _append(servers: DeployedServers, texts: list[bytes], create: bool) -> None:
    connection = await nats.connect(**servers.options(servers.member("daemon-0")))
    try:
        stream = connection.jetstream(timeout=10)
        if create:
            await stream.add_stream(StreamConfig(name=LOG, subjects=[f"trackd.{FLEET}.log.>"], num_replicas=SIZE))
        deadline = time.monotonic() + WITHIN_S
        for text in texts:
            while True:
                try:
                    await stream.publish(SUBJECT, text)
                    break
                except NoStreamResponseError:  # the stream has no leader yet, and nothing is stored
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.2)
    finally:
        await connection.close()


def append(servers: DeployedServers, *texts: bytes, create: bool = False) -> None:
    asyncio.run(_append(servers, list(texts), create))


async def _stored(servers: DeployedServers) -> tuple[list[bytes], list[bool]]:
    connection = await nats.connect(**servers.options(servers.credentials / "admin/fleet.crt"))
    try:
        stream = connection.jetstream(timeout=3)
        info = await stream.stream_info(LOG)
        texts = [(await stream.get_msg(LOG, seq + 1)).data for seq in range(info.state.last_seq)]
        return texts, [replica.current for replica in info.cluster.replicas]
    finally:
        await connection.close()


def stored(servers: DeployedServers) -> list[bytes]:
    """The messages of the log, once its leader and both other copies are there."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        state: Any = None
        try:
            state = asyncio.run(_stored(servers))
            if state[1] == [True] * (SIZE - 1):
                return list(state[0])
        except nats.errors.Error as error:  # no leader yet
            state = error
        assert time.monotonic() < deadline, state
        time.sleep(0.5)


def test_a_server_with_an_empty_disk_and_a_restore_from_the_copy_of_one_server(tmp_path: Path) -> None:
    before, after = [b"%d" % number for number in range(50)], [b"later"]
    with DeployedServers(tmp_path) as servers:
        append(servers, *before, create=True)

        servers.stop(2)
        shutil.rmtree(servers.place(2) / "store")
        servers.start(2)
        servers.wait_until_ready([2], WITHIN_S)
        assert stored(servers) == before

        servers.stop(0)  # the others go on without it
        shutil.copytree(servers.place(0) / "store", tmp_path / "backup")
        append(servers, *after)
        servers.start(0)
        servers.wait_until_ready([0], WITHIN_S)
        assert stored(servers) == before + after

        for index in range(SIZE):
            servers.stop(index)
            shutil.rmtree(servers.place(index) / "store")
        shutil.copytree(tmp_path / "backup", servers.place(0) / "store")
        servers.start(0)
        time.sleep(2)  # it has read its store before the others, which are empty, look for a leader
        servers.start(1)
        servers.start(2)
        servers.wait_until_ready(range(SIZE), WITHIN_S)
        assert stored(servers) == before
        append(servers, b"new")
        assert stored(servers) == [*before, b"new"]
