"""A settlement as `history` gives it, with lists for arrays, back to the value that `tracks` bears."""

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
    """One row of a `history` result.

    Floats come back as 32-bit; what was sent as 64-bit keypoints loses what lies beyond that.

    Raises:
        ProtocolError: `bad_message`, where the row is not a settlement.
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
            raise bad_message(f"{name} of a history row is not the list that it should be") from None

    return tracks_from_map(row, array)
