"""The allow-list: a folder with a key file for each authorized client. The daemon reads it again when it changes."""

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
    """The grants in the folder's files, by public key.

    One thread calls `refresh`; any thread may read the attributes.

    Attributes:
        grants: by public key; the whole map is replaced when a grant changes.
        narrowed: counts the changes in which a key lost a right to read.

    Args:
        folder: holds `*.key` files.

    Raises:
        KeyFileError: the folder or a file in it cannot be used. After construction an invalid file is logged, and only
            its own key is refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.narrowed = 0
        self._signature = _signature(folder)
        self.grants, problems = _read(folder)
        if problems:
            raise KeyFileError(problems[0])

    def refresh(self) -> bool:
        """Read the folder again if it has changed; return whether the grants have changed."""
        try:
            signature = _signature(self.folder)
        except KeyFileError as error:
            if self._signature:
                logger.error("%s; no client is admitted", error)
            self._signature = ()
            return self._replace(MappingProxyType({}))
        if signature == self._signature:
            return False
        self._signature = signature
        grants, problems = _read(self.folder)
        for problem in problems:
            logger.error("%s; its key is refused", problem)
        return self._replace(grants)

    def _replace(self, grants: Mapping[str, Grant]) -> bool:
        if grants == self.grants:
            return False
        before, self.grants = self.grants, grants
        if any(grant.reads_more_than(grants.get(key)) for key, grant in before.items()):
            self.narrowed += 1
        logger.info("keys: %d clients are authorized", len(grants))
        return True


def _signature(folder: Path) -> _Signature:
    """A value that changes with every key file. It uses the change time, which a writer of the file cannot set back."""
    rows = []
    try:
        if folder.stat().st_mode & 0o022:
            raise KeyFileError(
                f"{folder}: any user who can write to the folder of authorized clients can admit clients; chmod 700 it"
            )
        for path in folder.iterdir():
            if path.suffix == ".key":
                try:
                    status = path.stat()
                except FileNotFoundError:
                    continue  # it was removed after the folder was listed
                rows.append((path.name, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode))
    except OSError as error:
        raise KeyFileError(f"{folder}: the folder of authorized clients cannot be read: {error.strerror}") from None
    return tuple(sorted(rows))


def _read(folder: Path) -> tuple[Mapping[str, Grant], list[str]]:
    grants: dict[str, Grant] = {}
    problems: list[str] = []
    duplicates: set[str] = set()
    for path in sorted(folder.glob("*.key")):
        try:
            grant = _read_grant(path)
        except FileNotFoundError:
            continue
        except KeyFileError as error:
            problems.append(str(error))
            continue
        if grant.key in grants:
            duplicates.add(grant.key)
            problems.append(f"{path}: holds the same key as that of {grants[grant.key].name!r}; keep one of them")
        grants[grant.key] = grant
    # Which of two files is right is unknown, and the wider grant would be the wrong guess. So neither counts.
    return MappingProxyType({key: grant for key, grant in grants.items() if key not in duplicates}), problems


def _read_grant(path: Path) -> Grant:
    writable = stat.S_IMODE(path.stat().st_mode) & 0o022
    certificate = read_certificate(path)
    if certificate.secret_key is not None:
        raise KeyFileError(f"{path}: holds a secret key, which only the client may have; put its .key file here")
    if writable:
        raise KeyFileError(f"{path}: users other than its owner can write it; chmod go-w it")
    try:
        return grant_of(certificate.metadata, certificate.public_key, path.stem)
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None
