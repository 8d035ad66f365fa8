"""What a program may read of one of its streams, whichever way it waits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trackd_client.sending.frame_input import FrameInput
from trackd_client.sending.session import StreamSession


class StreamState:
    """The state of a stream, which `Stream` and `AsyncStream` show."""

    _session: StreamSession
    _input: FrameInput

    @property
    def epoch(self) -> int:
        """The stream's epoch. It rises each time the stream's state is reset; track ids are unique within it."""
        return self._session.epoch

    @property
    def next_seq(self) -> int:
        """The seq of the next frame."""
        return self._session.next_seq

    @property
    def last_frame_index(self) -> int:
        """The index of the last frame that was sent, or of the last one before a resume; −1 for none."""
        return self._input.last_index

    @property
    def config(self) -> Mapping[str, Any]:
        """The effective configuration, as sent by the daemon."""
        return self._session.config

    @property
    def n_rejected(self) -> int:
        """The number of frames that the daemon has rejected."""
        return self._session.n_rejected

    @property
    def rejection_causes(self) -> list[str]:
        """One line for each cause of rejected frames: how many, the first and the last seq, and the reason."""
        return self._session.rejection_causes

    @property
    def logs_rejections(self) -> bool:
        """Whether rejected frames are logged; set it to false if the caller reports them."""
        return self._session.logs_rejections

    @logs_rejections.setter
    def logs_rejections(self, wanted: bool) -> None:
        self._session.logs_rejections = wanted

    @property
    def unacked(self) -> int:
        """The number of frames that were sent and are not settled yet."""
        return self._session.unacked
