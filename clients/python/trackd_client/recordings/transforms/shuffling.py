"""Clips in random order, each as a separate recording.

A stream's frame indices rise, so one stream cannot hold clips in random order. `dataloader.shuffle` therefore plays
every clip as a separate recording, `<name>-clip0007`, with the frame indices and times of the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording, RecordingError

MAX_NAME = 120
MAX_CLIPS = 100_000  # each is a recording and a stream of its own


class ClipRecording(DerivedRecording):
    """One clip of another recording.

    Args:
        recording: the whole recording.
        number: the clip's number in the recording, from 0.
    """

    def __init__(self, recording: Recording, number: int) -> None:
        super().__init__(recording)
        suffix = f"-clip{number:04d}"
        self.name = recording.name[: MAX_NAME - len(suffix)] + suffix
        self._clip = recording.clips[number]

    @property
    def clips(self) -> Sequence[Clip]:
        """Only this clip."""
        return (self._clip,)

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clip, with its true index."""
        return self._recording.frames(self.clips if clips is None else clips)


def shuffled(recordings: Sequence[Recording], seed: int | None) -> list[Recording]:
    """Every clip of all recordings, in an order that the seed determines. The labels are read, for the clips.

    Raises:
        RecordingError: there are more than 100,000 clips.
    """
    n_clips = sum(len(recording.clips) for recording in recordings)
    if n_clips > MAX_CLIPS:
        raise RecordingError(
            f"dataloader.test_dataloader.shuffle plays every clip as a recording of its own, at most {MAX_CLIPS}; "
            f"there are {n_clips}: set a longer dataset.test_dataset.clip_length, or a smaller n_chunks"
        )
    every = [ClipRecording(recording, i) for recording in recordings for i in range(len(recording.clips))]
    order = np.random.default_rng(seed).permutation(len(every))
    return [every[i] for i in order]
