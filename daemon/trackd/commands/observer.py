"""The interface of objects that receive each frame of a recording, and its settlement."""

from __future__ import annotations

from abc import ABC, abstractmethod

from trackd_client.protocol import Tracks
from trackd_client.recordings.recording import RecordedFrame


class Observer(ABC):
    """Receives the frames of one recording, on the thread that collects its settlements."""

    @abstractmethod
    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        """Add a frame that was tracked; frames are added in order."""

    def add_untracked(self, frame: RecordedFrame) -> None:  # noqa: B027 -- most observers only need tracked frames
        """Add a frame that was rejected or dropped."""

    def close(self) -> None:  # noqa: B027 -- most observers have nothing to finish
        """End the recording."""
