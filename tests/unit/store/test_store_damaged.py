import sqlite3
from pathlib import Path

import pytest

from trackd.store.database import Database
from trackd.store.records import FrameRecord, OpenRecord
from trackd_client.configuration import ConfigError


def test_a_damaged_name_that_an_error_of_sqlite_quotes_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    Database(path, False, 1 << 24, 4).close()
    data = path.read_bytes()
    assert b"CREATE TABLE streams" in data
    path.write_bytes(
        data.replace(b"CREATE TABLE streams", b"CREATE \x90ABLE streams").replace(b"streams", b"str\x90ams")
    )
    with pytest.raises(ConfigError, match=r"journal.sqlite") as caught:
        list(Database(path, False, 1 << 24, 4).streams())
    assert "\n" not in str(caught.value)


def test_a_column_that_is_missing_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    database = Database(path, False, 1 << 24, 4)
    database.write([OpenRecord("a", 5, 0, {"config": {}}), FrameRecord("a", 5, 0, 0, 0, "tracked")])
    database.close()
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE frames DROP COLUMN reason")
    db.close()
    with pytest.raises(ConfigError, match=r"journal.sqlite") as caught:
        list(Database(path, False, 1 << 24, 4).streams())
    assert "\n" not in str(caught.value)
