"""What a member of a fleet announces of itself."""

from __future__ import annotations

import pytest

from trackd.config import FleetConfig
from trackd.server.fleet_member import member_of
from trackd_client.configuration import ConfigError, validate

BOUND = {name: f"tcp://0.0.0.0:{port}" for name, port in (("ingest", 1), ("tracks", 2), ("control", 3))}
NAMED = {name: f"tcp://daemon-0:{port}" for name, port in (("ingest", 1), ("tracks", 2), ("control", 3))}


def config(**endpoints: str) -> FleetConfig:
    data = {"servers": ["nats://n:4222"], "name": "plant", "endpoints": endpoints or None}
    return validate(FleetConfig, data, "daemon.fleet")


def test_the_page_is_where_it_is_bound_unless_the_configuration_names_another_address():
    here = {**BOUND, "http": "http://0.0.0.0:9570"}
    assert member_of(config(**NAMED), here, "one").endpoints == {**NAMED, "http": "http://0.0.0.0:9570"}
    named = config(**NAMED, http="http://daemon-0:9570")
    assert member_of(named, here, "one").endpoints["http"] == "http://daemon-0:9570"
    assert "http" not in member_of(config(**NAMED), BOUND, "one").endpoints


def test_addresses_that_no_client_can_use_are_refused():
    with pytest.raises(ConfigError, match=r"daemon.fleet.endpoints must give .* ingest"):
        member_of(config(), BOUND, "one")
    for page in ("daemon-0:9570", "javascript:alert(1)", "http://h/path"):
        with pytest.raises(ConfigError, match=r"http should be the address"):
            config(**NAMED, http=page)
