"""The allow-list: a folder with one file for each client that may come in, looked at again and again."""

from __future__ import annotations

import logging
import stat
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from trackd.server.access.grants import Grant, grant_of
from trackd_client.transport.curve import KeyFileError, read_certificate

logger = logging.getLogger(__name__)

_Signature = tuple[tuple[str, int, int, int, int], ...]


class Keyring:
    """The grants by public key, as the folder's files say.

    One thread calls `refresh`; any thread reads the attributes.

    Attributes:
        grants: by public key; replaced as a whole where one changes.
        narrowed: counts the changes in which a key lost a right to read.

    Args:
        folder: holds `*.key` files.

    Raises:
        KeyFileError: the folder, or a file in it, cannot be used. Later on a bad file only keeps its own key out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.narrowed = 0
        self._signature = _signature(folder)
        self.grants, problems = _read(folder)
        if problems:
            raise KeyFileError(problems[0])

    def refresh(self) -> bool:
        """Look at the folder; whether the grants have changed."""
        try:
            signature = _signature(self.folder)
        except KeyFileError as error:
            if self._signature:
                logger.error("%s; nobody is let in", error)
            self._signature = ()
            return self._take(MappingProxyType({}))
        if signature == self._signature:
            return False
        self._signature = signature
        grants, problems = _read(self.folder)
        for problem in problems:
            logger.error("%s; its key is not let in", problem)
        return self._take(grants)

    def _take(self, grants: Mapping[str, Grant]) -> bool:
        if grants == self.grants:
            return False
        before, self.grants = self.grants, grants
        if any(grant.reads_more_than(grants.get(key)) for key, grant in before.items()):
            self.narrowed += 1
        logger.info("keys: %d clients are authorized", len(grants))
        return True


def _signature(folder: Path) -> _Signature:
    """What changes when a key file does: the change time cannot be set back by whoever writes the file."""
    rows = []
    try:
        if folder.stat().st_mode & 0o022:
            raise KeyFileError(
                f"{folder}: who may write to the folder of authorized clients lets anybody in; chmod 700 it"
            )
        for path in folder.iterdir():
            if path.suffix == ".key":
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # it went between the two looks
                rows.append((path.name, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode))
    except OSError as error:
        raise KeyFileError(f"{folder}: the folder of authorized clients cannot be read: {error.strerror}") from None
    return tuple(sorted(rows))


def _read(folder: Path) -> tuple[Mapping[str, Grant], list[str]]:
    grants: dict[str, Grant] = {}
    problems: list[str] = []
    twice: set[str] = set()
    for path in sorted(folder.glob("*.key")):
        try:
            grant = _read_grant(path)
        except FileNotFoundError:
            continue
        except KeyFileError as error:
            problems.append(str(error))
            continue
        if grant.key in grants:
            twice.add(grant.key)
            problems.append(f"{path}: holds the same key as that of {grants[grant.key].name!r}; keep one of them")
        grants[grant.key] = grant
    # Which of two files is meant cannot be known, and the wider one would be the wrong guess.
    return MappingProxyType({key: grant for key, grant in grants.items() if key not in twice}), problems


def _read_grant(path: Path) -> Grant:
    writable = stat.S_IMODE(path.stat().st_mode) & 0o022
    certificate = read_certificate(path)
    if certificate.secret_key is not None:
        raise KeyFileError(f"{path}: holds a secret key, which is the client's alone; put its .key file here")
    if writable:
        raise KeyFileError(f"{path}: others than its owner may write it; chmod go-w it")
    try:
        return grant_of(certificate.metadata, certificate.public_key, path.stem)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
