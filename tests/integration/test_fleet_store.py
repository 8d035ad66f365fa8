"""The store of a fleet on real NATS servers: the fence, claims, leases, logs, and servers that die."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nats_cluster import NatsCluster, until_done
from tcp_proxy import TcpProxy

from trackd.fleet.check import check_sync, check_version
from trackd.fleet.jetstream import JetStreamStore
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import AwayError, FencedError, Member, NameTakenError, OwnedError, Owner
from trackd.identity.gallery import Galleries, Gallery
from trackd.server.fleet_galleries import FleetGalleries
from trackd_client.configuration import ConfigError


@pytest.fixture(scope="module")
def cluster() -> Iterator[NatsCluster]:
    with NatsCluster(3) as servers:
        yield servers


class Members:
    """Two members with a store each."""

    def __init__(self, cluster: NatsCluster, fleet: str, urls: tuple[str, ...] = ()) -> None:
        self.settings = FleetSettings(
            tuple(cluster.urls), fleet, monitoring=tuple(cluster.monitors), lease_s=3, replicas=3
        )
        self.a = JetStreamStore(replace(self.settings, servers=urls or self.settings.servers), "a", "one")
        self.b = JetStreamStore(self.settings, "b", "two")
        self.ma = Member("a", "one", {"control": "tcp://127.0.0.1:1"}, 8)
        self.mb = Member("b", "two", {"control": "tcp://127.0.0.1:2"}, 8)

    async def __aenter__(self) -> Members:
        for store in (self.a, self.b):
            await until_done(store.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.a.close()
        await self.b.close()


async def read(store: JetStreamStore, stream: str, up_to: int) -> list[tuple[int, int, bytes]]:
    return [message async for message in store.read(stream, up_to)]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 100))


def test_an_append_of_a_former_owner_is_refused_and_all_others_are_read_in_order(cluster):
    async def test() -> None:
        async with Members(cluster, "fence") as m:
            first = await m.a.claim("cam.1", m.ma, None)
            assert (first.term, await m.a.locate("cam.1")) == (1, Owner("a", "one", 1))
            at = first.sequence
            for number in range(5):
                at = await m.a.append("cam.1", 1, at, b"message %d" % number)
            second = await m.b.claim("cam.1", m.mb, Owner("a", "one", 1))
            assert second.term == 2
            with pytest.raises(FencedError, match="term 2"):
                await m.a.append("cam.1", 1, at, b"too late")
            last = await m.b.append("cam.1", 2, second.sequence, b"next")
            found = await read(m.b, "cam.1", last)
            assert [term for _, term, _ in found] == [1] * 6 + [2, 2]
            assert [data for _, _, data in found] == [b"", *(b"message %d" % n for n in range(5)), b"", b"next"]
            assert await m.a.owners() == {"cam.1": Owner("b", "two", 2)}
            await m.a.release("cam.1", 1)  # it has it no more
            assert await m.b.locate("cam.1") == Owner("b", "two", 2)
            await m.b.release("cam.1", 2)
            assert await m.b.locate("cam.1") is None
            again = await m.a.claim("cam.1", m.ma, None)
            assert again.term == 3

    run(test())


def test_of_two_claims_at_the_same_time_one_wins(cluster):
    async def test() -> None:
        async with Members(cluster, "race") as m:
            for number in range(20):
                stream = f"cam{number}"
                claims = await asyncio.gather(
                    m.a.claim(stream, m.ma, None), m.b.claim(stream, m.mb, None), return_exceptions=True
                )
                won = [claim for claim in claims if not isinstance(claim, BaseException)]
                assert len(won) == 1, claims
                assert isinstance(next(claim for claim in claims if claim not in won), OwnedError)
                store = m.a if claims[0] in won else m.b
                owner = await store.locate(stream)
                assert owner.term == won[0].term
                await store.append(stream, owner.term, won[0].sequence, b"mine")

    run(test())


def test_an_append_whose_answer_is_lost_is_stored_once(cluster):
    async def test() -> None:
        proxy = TcpProxy(cluster.urls[0].replace("nats://", "tcp://"))
        try:
            async with Members(cluster, "cut", (proxy.address.replace("tcp://", "nats://"),)) as m:
                claimed = await m.a.claim("cam", m.ma, None)
                at, stored = claimed.sequence, []
                for number in range(24):
                    data = b"%d" % number
                    append = asyncio.ensure_future(until_done(m.a.append, "cam", claimed.term, at, data))
                    if number % 3 == 0:
                        await asyncio.sleep(0.0005 * (number % 7))
                        proxy.cut()
                    at = await append
                    stored.append(data)
                found = await read(m.b, "cam", at)
                assert [data for _, _, data in found] == [b"", *stored]
                assert proxy.cuts >= 6
        finally:
            proxy.close()

    run(test())


def test_a_lease_ends_and_a_name_is_not_given_twice(cluster):
    async def test() -> None:
        async with Members(cluster, "lease") as m:
            await m.a.announce(m.ma)
            await m.b.announce(m.mb)
            assert await m.b.members() == {"a": m.ma, "b": m.mb}
            second = JetStreamStore(m.settings, "a", "three")
            await until_done(second.open)
            with pytest.raises(NameTakenError, match="instance is one"):
                await second.announce(replace(m.ma, instance="three"))
            began = time.monotonic()
            await m.a.announce(replace(m.ma, streams=3))
            assert (await m.b.member("a")).streams == 3
            while await m.b.member("a") is not None:
                await asyncio.sleep(0.05)
                assert time.monotonic() - began < 10
            assert 2.5 <= time.monotonic() - began <= 5.5
            while True:  # the servers delete the key a little later
                try:
                    await second.announce(replace(m.ma, instance="three"))
                    break
                except NameTakenError:
                    assert time.monotonic() - began < 10
                    await asyncio.sleep(0.1)
            assert (await m.b.member("a")).instance == "three"
            await second.leave()
            assert await m.b.member("a") is None
            await second.close()

    run(test())


def test_rubbish_in_the_buckets_is_left_out_and_can_be_claimed_over(cluster, caplog):
    async def test() -> None:
        async with Members(cluster, "rubbish") as m:
            client = await m.a._connection.ready()
            for subject in ("members.x", "owners.cam"):
                for value in (b"rubbish", b"[]", b'{"term": -4, "member": "a", "instance": "one"}', b"null"):
                    await client.jetstream().publish(f"$KV.trackd_rubbish_{subject}", value)
            await client.jetstream().publish("trackd.rubbish.log.cam", b"by hand")
            await m.a.announce(m.ma)
            assert set(await m.b.members()) == {"a"}
            assert await m.a.locate("cam") is None
            claimed = await m.a.claim("cam", m.ma, None)
            found = await read(m.b, "cam", claimed.sequence)
            assert [(term, data) for _, term, data in found] == [(-1, b"by hand"), (claimed.term, b"")]

    with caplog.at_level(logging.ERROR):
        run(test())
    assert "cannot be read" in caplog.text


def test_a_large_message_is_stored_in_pieces_which_are_deleted_with_it(cluster):
    async def test() -> None:
        async with Members(cluster, "pieces") as m:
            claimed = await m.a.claim("cam", m.ma, None)
            large = bytes(range(256)) * 12_000
            one = await m.a.append("cam", 1, claimed.sequence, large)
            two = await m.a.append("cam", 1, one, large[::-1])
            found = await read(m.b, "cam", two)
            assert [data for _, _, data in found] == [b"", large, large[::-1]]
            await m.b.trim("cam", two)
            assert [data for _, _, data in await read(m.a, "cam", two)] == [large[::-1]]
            info = await m.a._connection.api("STREAM.INFO.TRACKD_pieces_PIECES")
            assert 0 < info["state"]["bytes"] < 1.2 * len(large)
            three = await m.a.append("cam", 1, two, b"small")
            await m.a.trim("cam", three)
            assert (await m.a._connection.api("STREAM.INFO.TRACKD_pieces_PIECES"))["state"]["messages"] == 0
            with pytest.raises(ValueError, match="at most"):
                await m.a.append("cam", 1, three, bytes(257 * 1024 * 1024))

    run(test())


def test_files_are_shared(cluster):
    async def test() -> None:
        async with Members(cluster, "files") as m:
            assert await m.b.get_file("galleries/mice") is None
            await m.a.put_file("galleries/mice", b"one")
            await m.a.put_file("galleries/mice", b"two" * 100_000)
            assert await m.b.get_file("galleries/mice") == b"two" * 100_000
            assert await m.b.files() == ["galleries/mice"]

    run(test())


def test_a_gallery_that_one_member_has_saved_is_used_by_another(cluster, tmp_path):
    async def test() -> None:
        async with Members(cluster, "galleries") as m:
            one, other = Galleries(tmp_path / "one"), Galleries(tmp_path / "other")
            saved = Gallery(
                ("Ann", "Ben"), np.eye(2, 8), np.full(2, 40.0), np.eye(8), 1.0,
                {key: np.ones(4) for key in ("within", "across", "other")},
            )  # fmt: skip
            path = one.save("mice", saved)
            await FleetGalleries(m.a, one).share("mice")
            shared = FleetGalleries(m.b, other)
            await shared.fetch("mice")
            assert other.path("mice").read_bytes() == path.read_bytes()
            assert other.names() == ["mice"]
            for name in ("unknown", "../mice"):  # nothing changes, and nothing is written elsewhere
                await shared.fetch(name)
            assert other.names() == ["mice"]

    run(test())


def test_appends_survive_the_leader_and_wait_for_the_majority(cluster):
    async def test() -> None:
        async with Members(cluster, "died") as m:
            claimed = await m.a.claim("cam", m.ma, None)
            at, stored = claimed.sequence, []

            async def append(number: int) -> None:
                nonlocal at
                data = b"%d" % number
                at = await until_done(m.a.append, "cam", claimed.term, at, data)
                stored.append(data)

            for number in range(20):
                await append(number)
            leader = cluster.leader("TRACKD_died_LOG")
            cluster.kill(leader)
            for number in range(20, 40):
                await append(number)
            cluster.kill((leader + 1) % 3)
            with pytest.raises(AwayError):
                await m.a.append("cam", claimed.term, at, b"40")
            with pytest.raises(AwayError):
                await m.b.claim("cam2", m.mb, None)
            cluster.start(leader)
            cluster.start((leader + 1) % 3)
            returned = time.monotonic()
            await append(40)  # the same that was refused, and may have been stored
            assert time.monotonic() - returned < 20
            found = await until_done(read, m.b, "cam", at)
            assert [data for _, _, data in found] == [b"", *stored]
            await asyncio.to_thread(cluster.wait_until_current)

    run(test())


def test_servers_that_cannot_hold_a_fleet_are_refused(cluster):
    async def test() -> None:
        settings = Members(cluster, "checked").settings
        for changed, text in (
            (replace(settings, replicas=5), "as many servers"),
            (replace(settings, tls_ca="/nowhere/ca.pem"), "no file"),
        ):
            store = JetStreamStore(changed, "a", "one")
            with pytest.raises(ConfigError, match=text):
                await until_done(store.open)
            await store.close()
        store = JetStreamStore(settings, "a", "one")
        await until_done(store.open)
        other = JetStreamStore(replace(settings, replicas=1), "b", "two")
        with pytest.raises(ConfigError, match="replicas is 1"):
            await until_done(other.open)
        await other.close()
        await store.close()

    run(test())
    check_version({"version": "2.11.0"})
    for version in ("2.10.22", "2.9", "1.99.0", "", "beta"):
        with pytest.raises(ConfigError, match=r"2\.11 or newer"):
            check_version({"version": version, "server_name": "n0"})
    check_sync("http://n0:8222", {"jetstream": {"config": {"sync_always": True}}})
    with pytest.raises(ConfigError, match="sync_interval: always"):
        check_sync("http://n0:8222", {"jetstream": {"config": {"sync_interval": 120_000_000_000}}})
    with pytest.raises(ConfigError, match="no JetStream"):
        check_sync("http://n0:8222", {"jetstream": {}})
