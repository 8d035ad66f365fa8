"""Who is shown every tracked frame of a recording, with what was sent and what came back."""

from __future__ import annotations

from abc import ABC, abstractmethod

from trackd_client.protocol import Tracks
from trackd_client.recordings.recording import RecordedFrame


class Observer(ABC):
    """Follows one recording on the thread that collects its updates."""

    @abstractmethod
    def add(self, frame: RecordedFrame, tracks: Tracks) -> None:
        """A frame that was tracked; frames come in their order."""

    def close(self) -> None:  # noqa: B027 -- most have nothing to finish
        """The recording has ended."""
