"""CURVE keys: key files, and their use on sockets.

A key file is a ZeroMQ certificate as written by `trackd keygen` and `zmq.auth.create_certificates`: a `metadata`
section and a `curve` section of `name = "value"` lines. Only its owner may have access to a file with a secret key.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import zmq
from zmq.utils import z85

_KEY_CHARACTERS = 40  # 32 bytes in Z85
_KEY_BYTES = 32
_MAX_FILE_BYTES = 65_536
_SECTIONS = ("metadata", "curve")


class KeyFileError(ValueError):
    """An unusable key file. The text names the file and what would be right."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The content of a key file. Keys are in Z85, 40 characters."""

    public_key: bytes
    secret_key: bytes | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CurveKeys:
    """The keys of a client that uses CURVE: its own pair and the daemon's public key."""

    server_key: bytes
    public_key: bytes
    secret_key: bytes = field(repr=False)

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Set the keys on a socket. Call this before the socket connects."""
        socket.curve_publickey = self.public_key
        socket.curve_secretkey = self.secret_key
        socket.curve_serverkey = self.server_key


def load_server_key(path: str | Path) -> bytes:
    """Return the daemon's public key from its `server.key`.

    Raises:
        KeyFileError: the file cannot be read, or has no public key.
    """
    return read_certificate(path).public_key


def load_client_keys(path: str | Path) -> tuple[bytes, bytes]:
    """Return a client's public and secret key from its `.key_secret` file.

    Raises:
        KeyFileError: the file cannot be read, others than its owner have access, or it has no pair of keys.
    """
    return secret_pair(Path(path))


class ClientKeys(TypedDict):
    """The key arguments of `Client`."""

    server_key: bytes | None
    client_keys: tuple[bytes, bytes] | None


NO_KEYS: ClientKeys = {"server_key": None, "client_keys": None}


def load_keys(server_key: Path | None, client_key: Path | None) -> ClientKeys:
    """Return the key arguments of `Client` from the files given on a command line.

    Raises:
        KeyFileError: a file cannot be used, or only one of the two is given.
    """
    if (server_key is None) != (client_key is None):
        missing = "--server-key" if server_key is None else "--client-key"
        raise KeyFileError(f"CURVE needs --server-key and --client-key; {missing} is missing")
    if server_key is None or client_key is None:
        return NO_KEYS
    return {"server_key": load_server_key(server_key), "client_keys": load_client_keys(client_key)}


def curve_keys(server_key: str | bytes | None, client_keys: tuple[str | bytes, str | bytes] | None) -> CurveKeys | None:
    """Check and return the keys of a client, or None if it has none.

    Raises:
        ValueError: only one argument is given, a key is invalid, or the public and secret key are not a pair.
    """
    if server_key is None and client_keys is None:
        return None
    if server_key is None or client_keys is None:
        missing = "server_key" if server_key is None else "client_keys"
        raise ValueError(f"CURVE needs server_key and client_keys; {missing} is missing")
    public_key, secret_key = (_key(value, "client_keys") for value in client_keys)
    _check_pair(public_key, secret_key, "client_keys")
    return CurveKeys(_key(server_key, "server_key"), public_key, secret_key)


def read_certificate(path: str | Path) -> Certificate:
    """Read a key file, without a check of its access rights.

    Raises:
        KeyFileError: the file cannot be read, or is not a key file.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_FILE_BYTES).decode()
    except OSError as error:
        raise KeyFileError(f"{path}: the key file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyFileError(f"{path}: a key file must be text; `trackd keygen` makes one") from None
    sections: dict[str, dict[str, str]] = {name: {} for name in _SECTIONS}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        name, equals, value = word.partition("=")
        if equals and section:
            sections[section][name.strip()] = value.strip().strip("\"'")
        elif word in sections:
            section = word
        else:
            # Do not print the line: it may contain a part of a secret key.
            raise KeyFileError(f'{path}: line {number} must be "metadata", "curve" or name = "value" below one of them')
    curve = sections["curve"]
    if "public-key" not in curve:
        raise KeyFileError(f'{path}: no public-key = "…" below "curve"; `trackd keygen` makes key files')
    secret = _key(curve["secret-key"], str(path)) if "secret-key" in curve else None
    return Certificate(_key(curve["public-key"], str(path)), secret, sections["metadata"])


def secret_pair(path: Path) -> tuple[bytes, bytes]:
    """Return the public and secret key of a file that only its owner can access.

    Raises:
        KeyFileError: the file cannot be read, others have access, or it has no pair of keys.
    """
    check_private(path)
    certificate = read_certificate(path)
    if certificate.secret_key is None:
        raise KeyFileError(f"{path}: no secret key; give the .key_secret file")
    _check_pair(certificate.public_key, certificate.secret_key, str(path))
    return certificate.public_key, certificate.secret_key


def check_private(path: Path) -> None:
    """Check that only the owner of a secret file can read or write it.

    Raises:
        KeyFileError: others have access, or the path is not a file.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise KeyFileError(f"{path}: the file cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise KeyFileError(f"{path}: must be a file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise KeyFileError(f"{path}: only its owner may access a secret file, mode 0600; got {mode:04o}: chmod 600 it")


def _key(value: str | bytes, where: str) -> bytes:
    key = value.encode() if isinstance(value, str) else value
    try:
        if len(key) == _KEY_CHARACTERS and len(z85.decode(key)) == _KEY_BYTES:
            return key
    except (KeyError, ValueError, OverflowError, struct.error):
        pass
    # Do not print the value: it may be a mistyped secret key.
    raise KeyFileError(f"{where}: a key must be {_KEY_CHARACTERS} characters of Z85; got {len(key)} that are not")


def _check_pair(public_key: bytes, secret_key: bytes, where: str) -> None:
    if zmq.curve_public(secret_key) != public_key:
        raise KeyFileError(f"{where}: the public and the secret key are not a pair")
