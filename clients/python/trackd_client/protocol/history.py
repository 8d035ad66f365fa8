"""Decoding a row of a `history` result, whose arrays are lists, to the value that a `tracks` message holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trackd_client.protocol.arrays import DTYPES
from trackd_client.protocol.decode import tracks_from_map
from trackd_client.protocol.errors import bad_message
from trackd_client.protocol.messages import Tracks

_SHAPES = {"track_ids": (-1,), "track_scores": (-1,), "boxes": (-1, 4), "scores": (-1,)}


def tracks_from_history(row: dict[str, Any]) -> Tracks:
    """The settlement in one row of a `history` result.

    Floats become 32-bit: keypoints that were sent as 64-bit floats lose precision.

    Raises:
        ProtocolError: `bad_message`, if the row is not a settlement.
    """

    def array(name: str, dtypes: Sequence[str]) -> Any:
        values = row.get(name)
        try:
            made = np.array(values if values is not None else [], DTYPES[dtypes[0]])
            if name == "keypoints":
                return (
                    made if made.ndim == 3 else made.reshape(len(made), -1, 2) if made.size else made.reshape(0, 0, 2)
                )
            return made.reshape(_SHAPES[name])
        except (TypeError, ValueError, OverflowError):
            raise bad_message(f"{name} of a history row must be a list of numbers of its shape") from None

    return tracks_from_map(row, array)
