"""Which addresses the daemon may bind: nothing beyond loopback without keys or a token, unless it is asked for."""

from __future__ import annotations

import ipaddress
import os
import stat
from pathlib import Path

from trackd.config import Config
from trackd_client.configuration import ConfigError


def check_addresses(config: Config) -> None:
    """Check all addresses of the configuration, before any of them is bound.

    Raises:
        ConfigError: an address is malformed, or must not be bound with this configuration.
    """
    endpoints = config.daemon.endpoints
    check_endpoint("ingest", endpoints.ingest, config)
    check_endpoint("tracks", endpoints.tracks, config)
    check_endpoint("control", endpoints.control, config)
    if config.daemon.http is not None:
        check_http(config.daemon.http, config)


def check_endpoint(name: str, endpoint: str, config: Config) -> None:
    """Refuse a bind beyond loopback without CURVE, unless `security.insecure` asks for it.

    Raises:
        ConfigError: the endpoint must not be bound with this configuration.
    """
    if config.security.curve:
        if endpoint.startswith("inproc://"):
            raise ConfigError(
                f"daemon.endpoints.{name} must be tcp:// or ipc:// with security.curve: inproc has no keys; "
                f"got {endpoint!r}"
            )
        if endpoint.startswith("ipc://*"):
            # ZeroMQ removes such a file after its listener is closed, when the next listener is already bound there.
            raise ConfigError(
                f"daemon.endpoints.{name}: with security.curve an ipc address needs a path; got {endpoint!r}"
            )
        return
    if config.security.insecure:
        return
    if endpoint.startswith("ipc://@"):
        raise ConfigError(
            f"daemon.endpoints.{name}: an abstract ipc address is open to everybody on this machine, and needs "
            f"security.curve or security.insecure; got {endpoint!r}"
        )
    if not endpoint.startswith("tcp://"):
        return
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    if not is_loopback(host):
        raise ConfigError(
            f"daemon.endpoints.{name} must be on loopback or ipc while security.curve is false, "
            f"unless security.insecure is true; got {endpoint!r}"
        )


def check_http(address: str, config: Config) -> None:
    """Refuse an HTTP bind beyond loopback without a token, unless `security.insecure` asks for it.

    Raises:
        ConfigError: the address is not `host:port`, or must not be bound with this configuration.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"daemon.http must be host:port or null; got {address!r}")
    guarded = config.security.insecure or config.security.http_token_file is not None
    if not guarded and not is_loopback(host.strip("[]")):
        raise ConfigError(
            "daemon.http must be on loopback, unless security.http_token_file names a token or security.insecure is "
            f"true; got {address!r}"
        )


def make_folder(name: str, endpoint: str, config: Config) -> None:
    """Make the folder of an ipc socket. Without CURVE it must belong to the daemon's user alone.

    Any user who can enter the folder can connect to the socket. Endpoints of other transports need no folder.

    Raises:
        ConfigError: the folder cannot be made, or other users can enter it.
    """
    path = endpoint.removeprefix("ipc://")
    if path == endpoint or path.startswith(("*", "@")):
        return
    folder = Path(path).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise ConfigError(f"daemon.endpoints.{name}: {folder} cannot be made: {error.strerror}") from None
    open_to_others = status.st_mode & 0o077 or status.st_uid != os.geteuid()
    if open_to_others and not (config.security.curve or config.security.insecure):
        raise ConfigError(
            f"daemon.endpoints.{name}: without security.curve the folder of an ipc socket must belong to the daemon's "
            f"user alone, mode 0700; got {stat.S_IMODE(status.st_mode):04o} of uid {status.st_uid} for {str(folder)!r}"
        )


def is_loopback(host: str) -> bool:
    """Whether an address or name stands for this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
