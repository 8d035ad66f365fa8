"""The journal's file: opened, checked, and kept where a restart will look for it."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from trackd.store.state_dir import StateDir
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_CHECKPOINT_PAGES = 200
WAY_OUT = "Move it away to start without it: its streams then begin afresh"


class JournalFile:
    """A SQLite file in WAL mode, in a folder that is this process's alone; others may read a copy of both its files.

    Args:
        path: the file; made if absent.
        sync: whether a commit waits for the disk (survives a power failure) or only for the system (kill -9).
        schema: SQL that makes its tables where they are not there.
        version: the schema's.
        upgrades: SQL that makes the schema of an earlier version this one.

    Raises:
        ConfigError: the file cannot be used: damaged, of another version, another daemon's, or not to be written.
    """

    def __init__(self, path: Path, sync: bool, schema: str, version: int, upgrades: Mapping[int, str]) -> None:
        self.path = path
        self._sync = sync
        self._schema = schema
        self._version = version
        self._upgrades = upgrades
        self._copied = False  # the copy is there, and not opened yet
        try:
            self._folder = StateDir(path.parent)
        except BlockingIOError:
            raise ConfigError(
                f"daemon.state_dir: {path.parent} is used by another daemon; give each a folder of its own"
            ) from None
        except OSError as error:
            raise ConfigError(f"daemon.state_dir: {path.parent} cannot be used: {error}") from None
        self._connect()

    def _connect(self) -> None:
        path = self.path
        try:
            self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            # Nobody else may open it: the log's index is then in memory. In a mapped file it would end the process
            # (SIGBUS) on a disk that has become read-only.
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'OFF'}")
            if not self._sync:  # a little often rather than much at times: what is published waits for it
                self.db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
            version = self.db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, self._version, *self._upgrades):
                raise ConfigError(
                    f"{path} is a journal of version {version}; this trackd reads {self._version}. {WAY_OUT}"
                )
            if self.db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise ConfigError(f"{path} is damaged. {WAY_OUT}")
            upgrade = self._upgrades.get(version, "")
            if upgrade:
                logger.warning("%s is of version %d; it is made one of version %d", path, version, self._version)
            # A write, whether it changes anything or not: one that fails is to fail now.
            script = f"BEGIN IMMEDIATE; {upgrade} {self._schema} PRAGMA user_version = {self._version}; COMMIT;"
            self.db.executescript(script)
            self._stats = [(name, os.stat(name)) for name in (str(path), f"{path}-wal")]  # noqa: PTH116 (see `heal`)
        except (sqlite3.OperationalError, OSError) as error:
            raise ConfigError(f"daemon.state_dir: {path} cannot be written: {error}") from None
        except sqlite3.Error as error:
            raise ConfigError(f"daemon.state_dir: {path} cannot be used: {error}. {WAY_OUT}") from None

    def heal(self) -> None:
        """Have the file be where a restart will look for it: what is written to a file without a name is lost with us.

        Raises:
            OSError, sqlite3.Error: it is not there, and cannot be for now.
        """
        try:
            # At every commit: `Path.stat` takes several times as long.
            if all(os.path.samestat(os.stat(name), stat) for name, stat in self._stats):  # noqa: PTH116
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        try:
            if not self._copied:
                self._write_again()
            self._connect()
        except ConfigError as error:
            raise OSError(str(error)) from None
        self._copied = False
        logger.warning("%s was taken away while it was in use, and is there again with all that was in it", self.path)

    def _write_again(self) -> None:
        """What is open outlives its name: give it its name back, by a copy."""
        self._folder.find_again()
        _, mine = self._stats[0]
        if self.path.exists() and not os.path.samestat(self.path.stat(), mine):
            raise OSError("another file is in its place; move that away")
        copy = self.path.with_name(f".{self.path.name}.copy")
        copy.unlink(missing_ok=True)
        try:
            self.db.execute("VACUUM INTO ?", (str(copy),))
            with copy.open("rb") as file:
                os.fsync(file)
            for suffix in ("-wal", "-shm"):  # another file's log would be played onto the copy
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            copy.replace(self.path)
        finally:
            copy.unlink(missing_ok=True)
        self.db.close()
        self._copied = True

    def fold(self) -> None:
        """Fold the write-ahead log into the file, so that it does not grow."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file, and let others have its folder."""
        self.db.close()
        self._folder.close()
