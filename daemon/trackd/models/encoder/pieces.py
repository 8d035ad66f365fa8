"""Crops shared out to threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


class Pieces:
    """Runs work over pieces of a tensor, on threads of its own, with torch at one thread in each.

    Torch's own threads meet after every layer, and spin until the last has come: with the cores busy that takes many
    times as long as one thread. These meet once, at the end.
    """

    def __init__(self, threads: int = 1) -> None:
        """Begin without threads; they start with the first work.

        Args:
            threads: at most so many pieces at once.
        """
        self.threads = threads
        # Each asks torch for its number of threads first: until then it would use every core.
        self._pool = ThreadPoolExecutor(threads, "encoder", torch.get_num_threads) if threads > 1 else None

    def sizes(self, n: int, least: int, most: int) -> list[int]:
        """Even sizes of pieces of n rows, a piece for each thread where that leaves `least` rows for each.

        Args:
            n: rows.
            least: in a piece, unless there are fewer.
            most: in a piece.
        """
        if not n:
            return []
        count = max(1, min(self.threads, n // least), -(-n // most))
        return [n // count + (i < n % count) for i in range(count)]

    def map(self, work: Callable[[Tensor], Tensor], pieces: Sequence[Tensor]) -> list[Tensor]:
        """What `work` gives for each piece, in order; called in inference mode, on any thread."""
        if self._pool is None or len(pieces) == 1:
            return [_inferring(work, piece) for piece in pieces]
        return list(self._pool.map(lambda piece: _inferring(work, piece), pieces))


def _inferring(work: Callable[[Tensor], Tensor], piece: Tensor) -> Tensor:
    with torch.inference_mode():  # of the calling thread only, else
        return work(piece)
