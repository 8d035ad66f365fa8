"""Whether servers can hold a fleet: with JetStream, of a version that knows what is needed, and safe on the disk."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from trackd.fleet.jetstream_connection import Connection, RefusedError
from trackd.fleet.settings import FleetSettings
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

LEAST_VERSION = (2, 11)  # the first with a time to live for each message
_MONITORING_PORT = 8222
_READ_S = 1.0
_MOST_BYTES = 4 * 1024 * 1024
_NO_JETSTREAM = (10039, 10076)  # not enabled for the account, or for the server


async def check_servers(connection: Connection, settings: FleetSettings) -> None:
    """Check the servers of a fleet that is connected.

    Raises:
        ConfigError: they cannot hold the fleet.
        AwayError: they do not answer.
    """
    check_version(connection.server_info)
    try:
        await connection.api("INFO")
    except RefusedError as error:
        if error.code in _NO_JETSTREAM:
            raise ConfigError(
                f"daemon.fleet.servers: {connection.server_info.get('server_name')} has no JetStream for this account "
                f"({error.text}); start nats-server with a jetstream section"
            ) from None
        raise
    figures = await asyncio.gather(*(asyncio.to_thread(_read, url) for url in _monitoring(settings)))
    for url, found in figures:
        if found is None:
            logger.info("%s cannot be read; sync_interval of that server is not checked and must be `always`", url)
        else:
            check_sync(url, found)


def check_version(info: Mapping[str, Any]) -> None:
    """Check what a server says of itself.

    Raises:
        ConfigError: its version is too old, or cannot be read.
    """
    version = str(info.get("version", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is None or (int(numbers[1]), int(numbers[2])) < LEAST_VERSION:
        raise ConfigError(
            f"daemon.fleet.servers: {info.get('server_name')} is nats-server {version or 'of no known version'}; "
            f"it must be {LEAST_VERSION[0]}.{LEAST_VERSION[1]} or newer"
        )


def check_sync(url: str, varz: Mapping[str, Any]) -> None:
    """Check what the monitoring of a server shows.

    Raises:
        ConfigError: it acknowledges messages that are not on its disk.
    """
    jetstream = varz.get("jetstream")
    config = jetstream.get("config") if isinstance(jetstream, Mapping) else None
    if not config:
        raise ConfigError(f"daemon.fleet.servers: {url} has no JetStream; start nats-server with a jetstream section")
    if not config.get("sync_always"):
        raise ConfigError(
            f"daemon.fleet.servers: {url} has sync_interval {config.get('sync_interval')} ns, so that a power cut "
            "loses what it has acknowledged; set `sync_interval: always` in the jetstream section of its configuration"
        )


def _monitoring(settings: FleetSettings) -> tuple[str, ...]:
    if settings.monitoring:
        return settings.monitoring
    hosts = dict.fromkeys(urlsplit(server).hostname for server in settings.servers)
    return tuple(f"http://{host}:{_MONITORING_PORT}" for host in hosts)


def _read(url: str) -> tuple[str, Mapping[str, Any] | None]:
    try:
        with urllib.request.urlopen(f"{url}/varz", timeout=_READ_S) as reply:
            found = json.loads(reply.read(_MOST_BYTES))
    except (OSError, ValueError):  # no monitoring there, or something else
        return url, None
    return url, found if isinstance(found, dict) and "server_id" in found else None
