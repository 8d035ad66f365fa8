"""The folder of recordings: one folder each, and a small file in it that says whose it is."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trackd.recording.recording import Recording
from trackd_client.configuration import ConfigError
from trackd_client.message_log.writer import segments

INFO = "recording.json"
MOST_INFO_BYTES = 4096
MOST_LISTED = 256  # the newest


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A recording that has no end yet, and that no thread writes."""

    name: str
    author: str
    t_ns: int
    after_seq: int


def check_writable(key: str, folder: Path) -> None:
    """Create the folder that a key of the configuration names, if it is absent, and check that it can be written to.

    Raises:
        ConfigError: it cannot.
    """
    probe = folder / f".trackd-{time.time_ns()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{key} must be a folder that can be written to: {error.strerror}; got {str(folder)!r}"
        ) from None


def write_info(folder: Path, recording: Recording) -> None:
    """Write the file that says whose recording a folder has; with its counts, once it has ended.

    Raises:
        OSError: it cannot be written.
    """
    info: dict[str, Any] = {name: getattr(recording, name) for name in ("stream", "author", "t_ns", "after_seq")}
    if recording.ended_ns:
        info.update({**recording.as_map(), "reason": recording.reason})
    part = folder / f".{INFO}.part"
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(info) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / INFO)


def finished(folder: Path, active: frozenset[str]) -> list[dict[str, Any]]:
    """Return a row for each recording that no thread writes any more, oldest first, of the newest ones.

    One that a kill has ended has no `seconds`, `messages` and `missing`: null.

    Args:
        folder: of all recordings.
        active: the names of those that are still written.
    """
    rows = [row for row in _rows(folder) if row["recording"] not in active]
    return [{key: row[key] for key in row if key != "after_seq"} for row in rows[-MOST_LISTED:]]


def unfinished(folder: Path) -> dict[str, Unfinished]:
    """Return by stream the newest recording, if it has not ended: a kill of the daemon has cut it."""
    newest: dict[str, dict[str, Any]] = {}
    for row in _rows(folder):  # rising in time
        newest[row["stream"]] = row
    return {
        stream: Unfinished(row["recording"], row["author"], row["t_ns"], row["after_seq"])
        for stream, row in newest.items()
        if row["seconds"] is None
    }


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [row for path in folder.glob(f"*/{INFO}") if (row := _read(path)) is not None]
    return sorted(rows, key=lambda row: int(row["t_ns"]))


def _read(path: Path) -> dict[str, Any] | None:
    """Return the row of one recording; None where its file is not valid."""
    try:
        with path.open("rb") as file:
            info = json.loads(file.read(MOST_INFO_BYTES))
        nbytes = sum(segment.stat().st_size for segment in segments(path.parent))
        row = {
            "stream": str(info["stream"]), "recording": path.parent.name, "author": str(info["author"]),
            "t_ns": int(info["t_ns"]), "after_seq": int(info["after_seq"]), "bytes": nbytes, "active": False,
        }  # fmt: skip
        return {**row, **{key: info.get(key) for key in ("seconds", "messages", "missing", "reason")}}
    except (OSError, ValueError, KeyError, TypeError):
        return None
