"""How a member reaches the servers of its fleet."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """The part of `daemon.fleet` that concerns the servers."""

    servers: tuple[str, ...]  # nats://host:port or tls://host:port; at least one
    name: str  # of the fleet: [A-Za-z0-9_-]{1,32}
    credentials: str | None = None  # the path of a NATS .creds file
    tls_ca: str | None = None  # path; None: the authorities of the system
    tls_cert: str | None = None  # path, with tls_key: of this member, for servers that verify their clients
    tls_key: str | None = None
    lease_s: int = 3
    replicas: int = 3  # copies of all that is stored: 1, 3 or 5
    monitoring: tuple[str, ...] = ()  # http://host:port of the servers' monitoring; empty: port 8222 of each server
