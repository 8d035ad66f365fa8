"""A frame on its way, and what has become of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trackd_client.protocol import Error, Frame, Tracks, encode
from trackd_client.protocol.arrays import Part

Parts = list[Part]


@dataclass(slots=True)
class PendingFrame:
    """A frame that was taken for sending, until someone has read what became of it."""

    frame: Frame
    parts: Parts
    size: int  # bytes on the wire
    wants_tracks: bool = False
    tracks: Tracks | None = None
    error: Error | None = None  # the daemon rejected this frame
    settled: bool = False

    @property
    def answered(self) -> bool:
        """The daemon has said what became of it, or that something did."""
        return self.tracks is not None or self.error is not None or self.settled

    @property
    def unseen(self) -> bool:
        """It settled while we were away: its tracks are in `history`."""
        return self.settled and self.tracks is None and self.error is None

    def own(self) -> None:
        """Copy the image: its owner goes on while the frame may have to be sent again."""
        if isinstance(self.frame.image, np.ndarray):
            self.frame = replace(self.frame, image=self.frame.image.copy())
            self.parts = encode(self.frame)
