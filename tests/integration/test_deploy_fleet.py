"""The NATS servers of deploy/fleet: TLS, the rights of a daemon, and a daemon that is added, with real servers."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

nats = pytest.importorskip("nats")

from deployed_servers import FLEET, MEMBERS, SIZE, DeployedServers, make_credentials  # noqa: E402
from nats_cluster import until_done  # noqa: E402
from nats_program import needs_nats  # noqa: E402

from trackd.fleet.jetstream import JetStreamStore  # noqa: E402
from trackd.fleet.settings import FleetSettings  # noqa: E402
from trackd.fleet.store import FencedError, Member  # noqa: E402

pytestmark = [
    needs_nats,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]
LOG, PIECES = f"TRACKD_{FLEET}_LOG", f"TRACKD_{FLEET}_PIECES"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedServers]:
    with DeployedServers(tmp_path_factory.mktemp("fleet")) as running:
        asyncio.run(create_all(running))
        yield running


@asynccontextmanager
async def connected(servers: DeployedServers, certificate: Path) -> AsyncIterator[tuple[Any, list[str]]]:
    """A connection, and the list of the errors that the servers have reported on it."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    connection = await nats.connect(**servers.options(certificate), error_cb=note)
    try:
        yield connection, errors
    finally:
        await connection.close()


async def one_error(errors: list[str]) -> None:
    """Wait until the servers have reported an error."""
    async with asyncio.timeout(5):
        while not errors:
            await asyncio.sleep(0.01)


def store_of(servers: DeployedServers, name: str) -> JetStreamStore:
    """The store of a daemon, with the certificate of a member."""
    certificate = servers.member(name)
    settings = FleetSettings(
        tuple(f"tls://127.0.0.1:{port}" for port in servers.ports),
        FLEET,
        tls_ca=str(servers.credentials / "members/servers-ca.pem"),
        tls_cert=str(certificate),
        tls_key=str(certificate.with_suffix(".key")),
        monitoring=tuple(f"http://127.0.0.1:{port}" for port in servers.http_ports),
    )
    return JetStreamStore(settings, name, f"instance of {name}")


async def create_all(servers: DeployedServers) -> None:
    """Create a fleet's streams, as the first member does."""
    store = store_of(servers, "daemon-0")
    try:
        await until_done(store.open)
    finally:
        await store.close()


def test_the_servers_form_one_cluster_that_writes_each_message_to_the_disk(servers: DeployedServers) -> None:
    for index in range(SIZE):
        assert len(servers.get(index, "varz")["cluster"]["urls"]) == SIZE
        assert servers.get(index, "jsz")["config"]["sync_always"] is True
        assert servers.get(index, "jsz")["meta_cluster"]["cluster_size"] == SIZE
        assert len({route["remote_name"] for route in servers.get(index, "routez")["routes"]}) == SIZE - 1


def test_a_member_may_do_all_that_a_daemon_does(servers: DeployedServers) -> None:
    me = Member("daemon-1", "instance of daemon-1", {"control": "tcp://127.0.0.1:5572"}, capacity=4)
    large = b"x" * 3_000_000  # stored in pieces: the servers take 1 MiB in one message

    async def run() -> None:
        store = store_of(servers, me.name)
        await until_done(store.open)
        try:
            await store.announce(me)
            assert (await store.members())[me.name] == me
            claimed = await store.claim("cam.1", me, None)
            first = await store.append("cam.1", claimed.term, claimed.sequence, b"frames")
            second = await store.append("cam.1", claimed.term, first, large)
            with pytest.raises(FencedError):
                await store.append("cam.1", claimed.term, first, b"of a former owner")
            assert [data async for _, _, data in store.read("cam.1", second)] == [b"", b"frames", large]
            await store.trim("cam.1", second)
            assert [data async for _, _, data in store.read("cam.1", second)] == [large]
            assert set(await store.owners()) == {"cam.1"}
            await store.put_file("gallery", large)
            assert await store.get_file("gallery") == large
            await store.put_file("gallery", b"small")
            assert await store.get_file("gallery") == b"small"
            assert await store.files() == ["gallery"]
            await store.release("cam.1", claimed.term)
            assert await store.locate("cam.1") is None
            await store.leave()
            assert me.name not in await store.members()
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    "subject",
    [
        "$KV.trackd_other_owners.cam",
        "$KV.trackd_other_members.daemon-0",
        "trackd.other.log.cam",
        "trackd.other.piece.cam.1.0",
        "$O.trackd_other_files.M.x",
        "$JS.API.STREAM.CREATE.TRACKD_other_LOG",
        "$JS.API.STREAM.MSG.GET.TRACKD_other_LOG",
        "$JS.API.DIRECT.GET.TRACKD_other_LOG.trackd.other.log.cam",
        "$JS.API.STREAM.PURGE.TRACKD_other_LOG",
        "$JS.API.CONSUMER.CREATE.TRACKD_other_LOG.x.trackd.other.log.cam",
        f"$KV.trackd_{FLEET}_members.daemon-1",
        f"$JS.API.STREAM.PURGE.KV_trackd_{FLEET}_members",
        f"$JS.API.STREAM.PURGE.KV_trackd_{FLEET}_owners",
        f"$JS.API.STREAM.DELETE.{LOG}",
        f"$JS.API.STREAM.UPDATE.{LOG}",
        f"$JS.API.STREAM.SNAPSHOT.{LOG}",
        f"$JS.API.CONSUMER.CREATE.{LOG}.x.trackd.{FLEET}.log.cam",
        "$JS.API.STREAM.CREATE.OWN",
        "$SYS.REQ.SERVER.PING",
        "$JS.API.SERVER.REMOVE",
        "anything",
    ],
)
def test_a_member_is_refused_elsewhere(servers: DeployedServers, subject: str) -> None:
    async def run() -> None:
        async with connected(servers, servers.member("daemon-0")) as (connection, errors):
            await connection.publish(subject, b"{}")
            await one_error(errors)
            assert "permissions violation for publish" in errors[0].lower()
            assert f'"{subject}"'.lower() in errors[0].lower()

    asyncio.run(run())


@pytest.mark.parametrize("subject", [">", f"trackd.{FLEET}.log.>", f"$KV.trackd_{FLEET}_owners.>", "$JS.API.>"])
def test_a_member_may_not_listen_to_the_requests_of_others(servers: DeployedServers, subject: str) -> None:
    async def run() -> None:
        async with connected(servers, servers.member("daemon-0")) as (connection, errors):
            await connection.subscribe(subject)
            await connection.flush(timeout=5)
            await one_error(errors)
            assert "permissions violation for subscription" in errors[0].lower()

    asyncio.run(run())


def test_the_administrator_may_change_a_stream_and_the_system_user_sees_all_servers(servers: DeployedServers) -> None:
    async def run() -> None:
        async with connected(servers, servers.credentials / "admin/fleet.crt") as (connection, errors):
            stream = connection.jetstream(timeout=10)
            config = (await stream.stream_info(PIECES)).config
            config.description = "changed"
            assert (await stream.update_stream(config)).config.description == "changed"
            assert errors == []
        async with connected(servers, servers.credentials / "admin/system.crt") as (connection, errors):
            inbox = connection.new_inbox()
            replies = await connection.subscribe(inbox)
            await connection.publish("$SYS.REQ.SERVER.PING", reply=inbox)
            for _ in range(SIZE):
                await replies.next_msg(timeout=5)
            assert errors == []

    asyncio.run(run())


def test_a_client_without_a_certificate_or_with_one_of_another_authority_is_refused(
    servers: DeployedServers, tmp_path: Path
) -> None:
    make_credentials(tmp_path / "others", MEMBERS)
    for certificate in (None, tmp_path / "others/members/daemon-0.crt", servers.credentials / "server/server.crt"):

        async def run(certificate: Path | None = certificate) -> None:
            await asyncio.wait_for(nats.connect(**servers.options(certificate, index=0)), 10)

        with pytest.raises((OSError, nats.errors.Error, TimeoutError)):
            asyncio.run(run())


def test_a_client_refuses_a_server_of_another_authority(servers: DeployedServers, tmp_path: Path) -> None:
    make_credentials(tmp_path / "others", MEMBERS)

    async def run() -> None:
        options = servers.options(servers.member("daemon-0"), index=0)
        options["tls"] = ssl.create_default_context(cafile=str(tmp_path / "others/server/servers-ca.pem"))
        options["tls"].load_cert_chain(servers.member("daemon-0"), servers.member("daemon-0").with_suffix(".key"))
        await asyncio.wait_for(nats.connect(**options), 10)

    with pytest.raises((OSError, nats.errors.Error, TimeoutError)):
        asyncio.run(run())


def accepts_as_a_server(servers: DeployedServers, certificate: Path) -> bool:
    """Whether the port of the routes takes a certificate: it says what it is, or it ends the connection."""
    context = ssl.create_default_context(cafile=str(servers.credentials / "server/servers-ca.pem"))
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with socket.create_connection(("127.0.0.1", servers.route_ports[0]), timeout=5) as plain:
        try:
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                return secured.recv(4096).startswith(b"INFO ")
        except OSError:
            return False


def test_the_routes_take_servers_and_refuse_the_certificate_of_a_daemon(servers: DeployedServers) -> None:
    assert accepts_as_a_server(servers, servers.credentials / "server/server.crt")
    assert not accepts_as_a_server(servers, servers.member("daemon-0"))


def test_a_member_is_added_without_a_restart_and_no_other_file_changes(servers: DeployedServers) -> None:
    kept = {path: path.read_bytes() for path in servers.credentials.rglob("*") if path.suffix in (".crt", ".key")}
    make_credentials(servers.credentials, ("daemon-9",))
    assert {path: path.read_bytes() for path in kept} == kept
    for index in range(SIZE):
        servers.configure(index)
        servers.send(index, signal.SIGHUP)

    async def run() -> None:
        for attempt in range(50):
            try:
                async with connected(servers, servers.member("daemon-9")) as (connection, errors):
                    await connection.jetstream(timeout=10).publish(f"$KV.trackd_{FLEET}_members.daemon-9", b"{}")
                    assert errors == []
                    return
            except nats.errors.Error:
                assert attempt < 49
                await asyncio.sleep(0.1)

    asyncio.run(run())
    for index in range(SIZE):
        assert "Reloaded server configuration" in (servers.place(index) / "log").read_text()


def test_the_binary_finds_no_fault_in_the_configuration(servers: DeployedServers) -> None:
    command, environment = servers.command(0, "-t")
    done = subprocess.run(
        command, env=environment, cwd=servers.place(0), capture_output=True, text=True, timeout=30, check=True
    )
    assert re.search(r"nats\.conf is valid", done.stdout + done.stderr)
