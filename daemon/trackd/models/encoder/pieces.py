"""Distribution of crops over threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch
from torch import Tensor


class Pieces:
    """Runs a function over pieces of a tensor, on the calling thread and its own, each with one torch thread.

    Torch's own threads synchronise after every layer and spin until the last one is done: with the cores busy that
    takes many times as long as one thread. These synchronise once, at the end.
    """

    def __init__(self, threads: int = 1) -> None:
        """Threads start with the first call.

        Args:
            threads: the most pieces that run at once, the calling thread's included.
        """
        self.threads = threads
        # Each thread first reads torch's number of threads: until then torch would use every core in it.
        self._pool = ThreadPoolExecutor(threads - 1, "encoder", torch.get_num_threads) if threads > 1 else None
        self._pool_in_use = threading.Lock()

    def sizes(self, n: int, least: int, most: int) -> list[int]:
        """The sizes of even pieces of n rows: one piece per thread if each then has at least `least` rows.

        Args:
            n: number of rows.
            least: minimum size of a piece, unless n is smaller.
            most: maximum size of a piece.
        """
        if not n:
            return []
        count = max(1, min(self.threads, n // least), -(-n // most))
        return [n // count + (i < n % count) for i in range(count)]

    def map(self, work: Callable[[Tensor], Tensor], pieces: Sequence[Tensor]) -> list[Tensor]:
        """The results of `work` for each piece, in order; `work` runs in inference mode, on any thread.

        A call during another one, which may be a long one, runs on its own thread instead of waiting.
        """
        if self._pool is None or len(pieces) == 1 or not self._pool_in_use.acquire(blocking=False):
            return [_inferring(work, piece) for piece in pieces]
        results: list[Tensor] = [pieces[0]] * len(pieces)
        todo = iter(range(len(pieces)))

        def run() -> None:
            for place in todo:  # each place is taken by one thread
                results[place] = _inferring(work, pieces[place])

        try:
            others = [self._pool.submit(run) for _ in range(min(self.threads, len(pieces)) - 1)]
            try:
                run()  # this thread is awake: the work begins before another one is
            finally:
                wait(others)
            for other in others:
                other.result()
            return results
        finally:
            self._pool_in_use.release()


def _inferring(work: Callable[[Tensor], Tensor], piece: Tensor) -> Tensor:
    with torch.inference_mode():  # the mode of one thread does not apply to others
        return work(piece)
