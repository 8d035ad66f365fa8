"""The corrections of a whole recording, as formats without a place of their own hold them: one JSON text.

It is a list of `[frame_index, [correction, …]]`: what people corrected before that frame.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trackd_client.excerpt import excerpt
from trackd_client.recordings.limits import MAX_WHOLE
from trackd_client.recordings.recording import RecordingError


def corrections_of(given: Any, path: Path) -> dict[int, list[dict[str, Any]]]:
    """The corrections by the index of the frame that they precede.

    Args:
        given: the JSON text, or its value; None for none.
        path: the file, for error texts.

    Raises:
        RecordingError: it is something else.
    """
    if given is None:
        return {}
    try:
        value = json.loads(given) if isinstance(given, str) else given
    except (ValueError, RecursionError) as error:
        raise RecordingError(f"{path}, corrections: not JSON: {error}") from None
    if not isinstance(value, list) or not all(map(_is_entry, value)):
        raise RecordingError(
            f"{path}, corrections: must be a list of [frame_index, [correction]]; got {excerpt(value)}"
        )
    return dict(value)


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 2 or type(entry[0]) is not int or not 0 <= entry[0] <= MAX_WHOLE:
        return False
    return isinstance(entry[1], list) and all(isinstance(each, dict) for each in entry[1])
