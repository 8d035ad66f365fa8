"""The corrections of a whole recording, by the frame after them, for formats that hold them in one place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from trackd.outputs.records import OutputRecord


def note_corrections(found: list[Any], record: OutputRecord) -> None:
    """Add the corrections before a frame, as `[frame_index, [correction, …]]`."""
    if record.corrections:
        found.append([record.frame_index, [dict(correction) for correction in record.corrections]])


def corrections_text(found: Sequence[Any]) -> str:
    """All of them as one JSON text."""
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
