"""The folder of recordings: one folder each, and a small file in it that says whose it is."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from trackd.recording.recording import Recording
from trackd_client.message_log.writer import segments

INFO = "recording.json"
MOST_INFO_BYTES = 4096
MOST_LISTED = 256  # the newest


def write_info(folder: Path, recording: Recording) -> None:
    """Write the file that says whose recording a folder has; with its counts, once it has ended.

    Raises:
        OSError: it cannot be written.
    """
    info: dict[str, Any] = {"stream": recording.stream, "author": recording.author, "t_ns": recording.t_ns}
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
    rows = []
    for path in folder.glob(f"*/{INFO}"):
        if path.parent.name in active:
            continue
        info = _read(path)
        if info is not None:
            rows.append(info)
    return sorted(rows, key=lambda row: row["t_ns"])[-MOST_LISTED:]


def _read(path: Path) -> dict[str, Any] | None:
    """Return the row of one recording; None where its file is not valid."""
    try:
        with path.open("rb") as file:
            info = json.loads(file.read(MOST_INFO_BYTES))
        nbytes = sum(segment.stat().st_size for segment in segments(path.parent))
        row = {
            "stream": str(info["stream"]), "recording": path.parent.name, "author": str(info["author"]),
            "t_ns": int(info["t_ns"]), "bytes": nbytes, "active": False,
        }  # fmt: skip
        return {**row, **{key: info.get(key) for key in ("seconds", "messages", "missing", "reason")}}
    except (OSError, ValueError, KeyError, TypeError):
        return None
