"""`trackd keygen`: key pairs for a daemon and its clients, in files that only their owner can read."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

import zmq

from trackd.server.access.grants import parse_rights, parse_streams
from trackd_client.configuration import ConfigError
from trackd_client.transport.curve import KeyFileError, secret_pair

SERVER = "server"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def make_keys(folder: Path, name: str, streams: Sequence[str], rights: Sequence[str]) -> list[Path]:
    """Make a client's keys, and the server's where the folder has none.

    Args:
        folder: for `server.key_secret`, `server.key`, `NAME.key_secret`, and `clients/NAME.key`: the allow-list.
        name: of the client.
        streams: patterns of the stream names that the rights apply to.
        rights: any of `publish`, `subscribe`, `control`.

    Returns:
        the files that were made.

    Raises:
        ConfigError: an invalid name, pattern or right, or a file that exists; no file is ever overwritten.
    """
    if not _NAME.fullmatch(name) or name == SERVER:
        raise ConfigError(f"--name must consist of letters, digits and . _ -, and must not be {SERVER!r}; got {name!r}")
    try:
        metadata = {
            "name": name,
            "streams": ", ".join(parse_streams(streams)),
            "may": ", ".join(sorted(parse_rights(rights))),
        }
    except KeyFileError as error:
        raise ConfigError(str(error)) from None
    if not streams or not rights:
        raise ConfigError(f"--streams and --may must not be empty; got {metadata['streams']!r}, {metadata['may']!r}")
    clients = folder / "clients"
    secret, public = folder / f"{name}.key_secret", clients / f"{name}.key"
    for path in (secret, public):
        if path.exists():
            raise ConfigError(f"{path} is there already, and keys are not overwritten; give another --name")
    made: list[Path] = []
    try:
        for path in (folder, clients):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise ConfigError(f"{path}: a folder of keys must be for its owner alone, mode 0700; got {mode:04o}")
        if not (folder / f"{SERVER}.key_secret").exists():
            made += _make_pair(folder / f"{SERVER}.key_secret", folder / f"{SERVER}.key", {"name": SERVER})
        else:
            secret_pair(folder / f"{SERVER}.key_secret")
        made += _make_pair(secret, public, metadata)
    except OSError as error:
        raise ConfigError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
    except KeyFileError as error:
        raise ConfigError(str(error)) from None
    return made


def _make_pair(secret: Path, public: Path, metadata: Mapping[str, str]) -> list[Path]:
    public_key, secret_key = (key.decode() for key in zmq.curve_keypair())
    head = "metadata\n" + "".join(f'    {name} = "{value}"\n' for name, value in metadata.items())
    curve = f'curve\n    public-key = "{public_key}"\n'
    _write(secret, f'# A secret: for {metadata["name"]!r} alone.\n{head}{curve}    secret-key = "{secret_key}"\n')
    _write(public, f"# The public key of {metadata['name']!r}.\n{head}{curve}")
    return [secret, public]


def _write(path: Path, text: str) -> None:
    """Write a file for its owner alone; it gets its name when it is complete, since a daemon may read the folder."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        os.link(part, path)  # unlike a rename, it fails where the file exists
    finally:
        part.unlink()
