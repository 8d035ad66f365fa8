"""Clips in random order, each a recording of its own.

A stream's frame indices rise, so a recording cannot jump back within one stream. `dataloader.shuffle` therefore
plays every clip as its own recording, `<name>-clip0007`, with the frame indices and times that it has in the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording

MAX_NAME = 120


class ClipRecording(DerivedRecording):
    """One clip of another recording.

    Args:
        recording: the whole.
        number: of the clip among the recording's clips, from 0.
    """

    def __init__(self, recording: Recording, number: int) -> None:
        super().__init__(recording)
        suffix = f"-clip{number:04d}"
        self.name = recording.name[: MAX_NAME - len(suffix)] + suffix
        self._clip = recording.clips[number]

    @property
    def clips(self) -> Sequence[Clip]:
        """The clip alone."""
        return (self._clip,)

    def frames(self, clips: Sequence[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clip, with its true index."""
        return self._recording.frames(self.clips if clips is None else clips)


def shuffled(recordings: Sequence[Recording], seed: int | None) -> list[Recording]:
    """Every clip of all recordings, in the seed's order. Reads the labels, to know the clips."""
    every = [ClipRecording(recording, i) for recording in recordings for i in range(len(recording.clips))]
    order = np.random.default_rng(seed).permutation(len(every))
    return [every[i] for i in order]
