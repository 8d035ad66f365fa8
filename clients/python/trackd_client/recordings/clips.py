"""The clips of a recording that are played."""

from __future__ import annotations

import numpy as np

from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import Clips


def plan_clips(start: int, stop: int, dataset: TestDataset) -> Clips:
    """The clips to play of the frames `start` to `stop` (not included).

    The last clip holds the remaining frames and may be shorter. A sample of clips is drawn without replacement by
    `dataset.seed` and played in recording order.

    Args:
        start: first frame index.
        stop: one past the last frame index.
        dataset: its `chunk`, `clip_length`, `n_chunks` and `seed`.
    """
    clips = Clips(start, stop, dataset.clip_length if dataset.chunk else max(stop - start, 1))
    generator = np.random.default_rng(dataset.seed)
    n_wanted = _count(len(clips), dataset.n_chunks)
    if n_wanted < len(clips):
        chosen = generator.choice(len(clips), n_wanted, replace=False)
        return Clips(clips.start, clips.stop, clips.length, np.sort(chosen))
    return clips


def _count(n_clips: int, n_chunks: float) -> int:
    """The number of clips that `n_chunks` selects, at least one: a float is a fraction of them, an int a number."""
    if isinstance(n_chunks, int):
        return min(n_chunks, n_clips)
    # The small term corrects products such as 0.29 · 100, which is 28.999…
    return min(max(int(n_chunks * n_clips + 1e-9), 1), n_clips)
