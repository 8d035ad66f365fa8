"""The journal's file: open it, check it, and restore it at its path if it is moved or deleted."""

from __future__ import annotations

import logging
import os
import sqlite3
from pathlib import Path

from trackd.store import schema
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

    Attributes:
        is_new: whether the file was absent or empty.
        upgraded: whether it was converted from an earlier version.

    Raises:
        ConfigError: the file is damaged, of another version, used by another daemon, or not writable.
    """

    def __init__(self, path: Path, sync: bool) -> None:
        self.path = path
        self._sync = sync
        self._copied = False  # a copy is at the path, and is not opened yet
        try:
            self._folder = StateDir(path.parent)
        except BlockingIOError:
            raise ConfigError(
                f"daemon.state_dir: {path.parent} is used by another daemon; give each a folder of its own"
            ) from None
        except OSError as error:
            raise ConfigError(f"daemon.state_dir: {path.parent} cannot be used: {error}") from None
        self.is_new = not path.exists() or path.stat().st_size == 0
        if self.is_new:
            self._set_log_aside()
        self.upgraded = False
        try:
            self._connect()
        except ConfigError:
            self._folder.close()
            raise

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
            self._prepare_tables()
            self._stats = [(name, name.stat()) for name in (path, path.with_name(f"{path.name}-wal"))]
        except ConfigError:
            self.db.close()
            raise
        except (sqlite3.OperationalError, OSError) as error:
            raise ConfigError(f"daemon.state_dir: {path} cannot be written: {one_line(error)}") from None
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the text of an error may quote damaged names
            self.db.close()
            raise ConfigError(
                f"daemon.state_dir: {path} cannot be used: {one_line(error)}. {repair_hint(path)}"
            ) from None

    def _prepare_tables(self) -> None:
        """Create or convert the tables; this always writes, so that a file that cannot be written fails at start."""
        db, path = self.db, self.path
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
            raise ConfigError(f"{path} is damaged: its pages are not consistent. {repair_hint(path)}")
        empty = version == 0 and db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if not (empty or version == schema.VERSION or version in schema.EARLIER_VERSIONS):
            raise ConfigError(
                f"{path} is a journal of version {version}; this trackd reads {schema.VERSION}. {WAY_OUT}"
            )
        schema.read_damaged_texts(db)  # a damaged definition is no valid text
        db.execute("BEGIN IMMEDIATE")
        if empty:
            schema.create(db)
        elif version != schema.VERSION:
            logger.warning("%s is of version %d; it is converted to version %d", path, version, schema.VERSION)
            schema.upgrade(db)
            self.upgraded = True
        if (table := schema.differs(db)) is not None:
            raise ConfigError(f"{path} is damaged: its table {table!r} is defined otherwise. {repair_hint(path)}")
        db.execute(f"PRAGMA user_version = {schema.VERSION}")
        db.execute("COMMIT")
        db.text_factory = str

    def _set_log_aside(self) -> None:
        """Rename a write-ahead log without its file, which SQLite would delete."""
        log = self.path.with_name(f"{self.path.name}-wal")
        if log.exists() and log.stat().st_size > 0:
            number = 1
            while (kept := log.with_name(f"{log.name}.{number}")).exists():
                number += 1
            log.rename(kept)
            logger.error("%s has no %s beside it and cannot be read alone; it is kept as %s", log, self.path.name, kept)

    @property
    def folder(self) -> StateDir:
        """Its folder, which this process has locked."""
        return self._folder

    def restore_if_missing(self) -> None:
        """Check that the file is still at its path, and write it there again if not.

        A file that was deleted stays open, but its contents are lost when this process ends.

        Raises:
            OSError, sqlite3.Error: the file is missing and could not be written. The call may be repeated.
        """
        try:
            if all(os.path.samestat(name.stat(), stat) for name, stat in self._stats):
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


def repair_hint(path: Path) -> str:
    """Return what can be done about a damaged journal."""
    return f"`trackd journal repair {path.parent}` saves what can be saved. {WAY_OUT}"


def one_line(error: Exception) -> str:
    """Return the text of an error of SQLite as one line: it may quote what is in the file."""
    return " ".join(str(error).split())[:300]
