"""This daemon as a member of a fleet: its name, its endpoints, and its log, made of the configuration."""

from __future__ import annotations

import importlib.util
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path

from trackd import __version__
from trackd.config import FleetConfig, at
from trackd.engine.outcome import CommandResult, Outcome
from trackd.fleet.figures import FleetFigures
from trackd.fleet.log import FleetLog
from trackd.fleet.settings import FleetSettings
from trackd.fleet.store import Member
from trackd_client.configuration import ConfigError
from trackd_client.protocol import ErrorCode, ProtocolError

_ANY_HOST = re.compile(r"tcp://(\*|0\.0\.0\.0|\[::\]):\d+")


def open_log(config: FleetConfig, deliver: Callable[[list[Outcome]], None], base: Path | None) -> FleetLog[Outcome]:
    """Return the log of this member; nothing is connected yet.

    Args:
        config: of the fleet.
        deliver: receives the outcomes that are stored.
        base: the configuration file's folder, which relative paths are tried against first.

    Raises:
        ConfigError: NATS's package is not installed.
    """
    if importlib.util.find_spec("nats") is None:
        raise ConfigError("daemon.fleet needs the package nats-py; install it with: pip install 'trackd[fleet]'")
    from trackd.fleet.jetstream import JetStreamStore  # a single daemon imports nothing of NATS

    def path(name: str | None) -> str | None:
        return None if name is None else str(at(name, base))

    settings = FleetSettings(
        servers=tuple(config.servers), name=config.name, credentials=path(config.credentials),
        tls_ca=path(config.tls_ca), tls_cert=path(config.tls_cert), tls_key=path(config.tls_key),
        lease_s=config.lease_s,
        replicas=config.replicas, monitoring=tuple(config.monitoring),
    )  # fmt: skip
    instance = secrets.token_hex(8)
    store = JetStreamStore(settings, member_name(config), instance)
    return FleetLog(store, instance, deliver, _refused, FleetFigures())


def member_name(config: FleetConfig) -> str:
    """Return this member's name: as configured, else the host's name with other characters as '-'."""
    return config.member or re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:64]


def member_of(config: FleetConfig, addresses: Mapping[str, str], instance: str) -> Member:
    """Return this member as the others and the clients see it.

    Args:
        config: of the fleet.
        addresses: as bound: ingest, tracks, control, and http.
        instance: of this process.

    Raises:
        ConfigError: an address is bound on all interfaces, so that clients cannot be told where it is.
    """
    if config.endpoints is not None:
        endpoints = config.endpoints.model_dump(exclude_none=True)
    else:
        endpoints = {name: addresses[name] for name in ("ingest", "tracks", "control")}
    for name, endpoint in endpoints.items():
        if _ANY_HOST.fullmatch(endpoint):
            raise ConfigError(
                f"daemon.fleet.endpoints must give the address under which clients reach {name}; it is {endpoint!r}, "
                "which is bound on all interfaces"
            )
    if "http" in addresses:
        endpoints.setdefault("http", addresses["http"])
    return Member(member_name(config), instance, endpoints, config.capacity, version=__version__)


def _refused(outcome: Outcome) -> Outcome | None:
    """Return what is delivered in place of an outcome of a lost stream: a command ends with an error."""
    if not isinstance(outcome, CommandResult):
        return None
    error = ProtocolError(ErrorCode.MOVED, "another member has the stream now; ask for it with locate")
    return CommandResult(outcome.done, None, error)
