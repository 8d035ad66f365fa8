"""The journal's file: open it, check it, and restore it at its path if it is moved or deleted."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

from trackd.store.state_dir import StateDir
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_CHECKPOINT_PAGES = 200  # of the write-ahead log, before SQLite copies them into the file
WAY_OUT = "Move it away to start without it: its streams then start from the beginning"


class JournalFile:
    """A SQLite file in WAL mode, in a folder that this process has locked. Others may read copies of its two files.

    Args:
        path: the file; created if absent.
        sync: whether a commit waits for the disk, and so survives a power failure; else it survives a killed process.
        schema: SQL that creates the tables that are missing.
        version: the version of the schema.
        upgrades: by earlier version, the SQL that turns its schema into this one.

    Raises:
        ConfigError: the file is damaged, of another version, used by another daemon, or not writable.
    """

    def __init__(self, path: Path, sync: bool, schema: str, version: int, upgrades: Mapping[int, str]) -> None:
        self.path = path
        self._sync = sync
        self._schema = schema
        self._version = version
        self._upgrades = upgrades
        self._copied = False  # a copy is at the path, and is not opened yet
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
            # With exclusive access SQLite keeps the log's index in memory. Otherwise it is a mapped file, and on a disk
            # that has become read-only a write to it would kill the process (SIGBUS).
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.db.execute("PRAGMA journal_mode = WAL")
            self.db.execute(f"PRAGMA synchronous = {'FULL' if self._sync else 'OFF'}")
            if not self._sync:  # often and little at a time: frames are published only after it
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
                logger.warning("%s is of version %d; it is converted to version %d", path, version, self._version)
            # This always writes, so that a file that cannot be written fails at start.
            script = f"BEGIN IMMEDIATE; {upgrade} {self._schema} PRAGMA user_version = {self._version}; COMMIT;"
            self.db.executescript(script)
            self._stats = [(name, os.stat(name)) for name in (str(path), f"{path}-wal")]  # noqa: PTH116 (see `restore_if_missing`)
        except (sqlite3.OperationalError, OSError) as error:
            raise ConfigError(f"daemon.state_dir: {path} cannot be written: {error}") from None
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the text of an error may quote damaged names
            raise ConfigError(f"daemon.state_dir: {path} cannot be used: {error}. {WAY_OUT}") from None

    def restore_if_missing(self) -> None:
        """Check that the file is still at its path, and write it there again if not.

        A file that was deleted stays open, but its contents are lost when this process ends.

        Raises:
            OSError, sqlite3.Error: the file is missing and could not be written. The call may be repeated.
        """
        try:
            # This runs at every commit, and `Path.stat` takes several times as long.
            if all(os.path.samestat(os.stat(name), stat) for name, stat in self._stats):  # noqa: PTH116
                return
        except (FileNotFoundError, NotADirectoryError):
            pass
        try:
            if not self._copied:
                self._write_copy()
            self._connect()
        except ConfigError as error:
            raise OSError(str(error)) from None
        self._copied = False
        logger.warning("%s was taken away while it was in use; all of its contents were written there again", self.path)

    def _write_copy(self) -> None:
        """Write the contents of the open file to its path."""
        self._folder.create_if_missing()
        _, own = self._stats[0]
        if self.path.exists() and not os.path.samestat(self.path.stat(), own):
            raise OSError("another file is in its place; move that away")
        copy = self.path.with_name(f".{self.path.name}.copy")
        copy.unlink(missing_ok=True)
        try:
            self.db.execute("VACUUM INTO ?", (str(copy),))
            with copy.open("rb") as file:
                os.fsync(file)
            for suffix in ("-wal", "-shm"):  # SQLite would apply the log of another file to the copy
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
            copy.replace(self.path)
        finally:
            copy.unlink(missing_ok=True)
        self.db.close()
        self._copied = True

    def fold(self) -> None:
        """Copy the write-ahead log into the file and truncate the log."""
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file and unlock its folder."""
        self.db.close()
        self._folder.close()
