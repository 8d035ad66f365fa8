"""The interface of objects that receive each tracked frame of a recording, and its settlement."""

from __future__ import annotations

from abc import ABC, abstractmethod

from trackd_client.protocol import Tracks
from trackd_client.recordings.recording import RecordedFrame


class Observer(ABC):
    """Receives the tracked frames of one recording, on the thread that collects its settlements."""

    @abstractmethod
    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        """Add a frame that was tracked; frames are added in order."""

    def close(self) -> None:  # noqa: B027 -- most observers have nothing to finish
        """End the recording."""
