"""The client of a program: of one daemon, or of a fleet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trackd_client.client import CONTROL, INGEST, TRACKS, Client
from trackd_client.fleet_client import FleetClient
from trackd_client.transport.curve import load_keys


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Of one daemon."""

    ingest: str = INGEST
    tracks: str = TRACKS
    control: str = CONTROL


def connected(
    daemon: Endpoints, fleet: Sequence[str], timeout_s: float, server_key: Path | None, client_key: Path | None
) -> Client | FleetClient:
    """Return a client; `with` closes it.

    Args:
        daemon: used where `fleet` is empty.
        fleet: control endpoints of members of a fleet.
        timeout_s: how long a call waits for an answer.
        server_key: the daemon's public key file, or that of all members; None: no CURVE.
        client_key: this client's secret key file.

    Raises:
        KeyFileError: a file cannot be used, or only one of the two is given.
    """
    keys = load_keys(server_key, client_key)
    if fleet:
        return FleetClient(fleet, timeout_s=timeout_s, **keys)
    return Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=timeout_s, **keys)
