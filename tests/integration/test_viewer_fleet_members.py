"""The viewer's socket of real members of a fleet, over real NATS servers: whose streams it lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from daemon_process import wait_until
from fleet_of_daemons import FleetMember, FleetOfDaemons
from nats_cluster import NatsCluster
from viewer_page import Page

from trackd_client import Client


@pytest.fixture
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetOfDaemons]:
    with NatsCluster(3) as cluster, FleetOfDaemons(cluster.urls, tmp_path_factory.mktemp("fleet"), n=2) as members:
        wait_for_rosters(members)
        yield members


def wait_for_rosters(fleet: FleetOfDaemons) -> None:
    """Wait until each member places streams on both."""
    for member in fleet.members:
        wait_until(lambda member=member: len(member.ask("locate", stream="any")["fleet"]) == 2, 20, "both are known")


def fleet_of(member: FleetMember, fits: Any) -> dict[str, Any]:
    """Return what a page of a member is sent of the fleet, once it fits."""
    with Page(member.process) as page:
        message = page.until(lambda m: m["type"] == "streams" and fits(m["fleet"]))
        found: dict[str, Any] = message["fleet"]
        return found


def test_each_member_lists_the_streams_of_the_other_until_its_owner_is_gone(fleet: FleetOfDaemons) -> None:
    names = [f"cam{number}" for number in range(8)]
    owned: dict[str, list[str]] = {member.name: [] for member in fleet.members}
    clients = {member.name: Client(**member.at) for member in fleet.members}
    try:
        for name in names:
            place = fleet.members[0].ask("locate", stream=name)["member"]
            clients[place].open_stream(name)
            owned[place].append(name)
        assert all(owned.values()), "each member has a part of the streams"
        here, other = fleet.members
        for one, its_other in ((here, other), (other, here)):
            streams = owned[its_other.name]
            seen = fleet_of(one, lambda seen, streams=streams: len(seen["streams"]) == len(streams))
            assert seen["member"] == one.name
            assert seen["streams"] == [[name, its_other.name] for name in streams]
            assert dict(seen["members"]) == {name: len(each) for name, each in owned.items()}
            assert seen["pages"] == {its_other.name: its_other.process.addresses["http"] + "/"}
            assert (seen["unowned"], seen["away"]) == (0, False)
        other.kill()
        seen = fleet_of(here, lambda seen: seen["unowned"] > 0)
        assert seen["streams"] == [[name, None] for name in owned[other.name]]
        assert dict(seen["members"]) == {here.name: len(owned[here.name])}
    finally:
        for client in clients.values():
            client.close()


def test_a_page_says_that_the_store_is_away_and_keeps_the_last_rows(tmp_path: Any) -> None:
    with NatsCluster(3) as cluster, FleetOfDaemons(cluster.urls, tmp_path, n=2) as fleet:
        wait_for_rosters(fleet)
        here, other = fleet.members
        name = next(f"cam{n}" for n in range(50) if here.ask("locate", stream=f"cam{n}")["member"] == other.name)
        with Client(**other.at) as client:
            client.open_stream(name)
            with Page(here.process) as page:
                page.until(lambda m: m["type"] == "streams" and m["fleet"]["streams"] == [[name, other.name]])
                for number in range(3):
                    cluster.kill(number)
                seen = page.until(lambda m: m["type"] == "streams" and m["fleet"]["away"])["fleet"]
                assert seen["streams"] == [[name, other.name]]
