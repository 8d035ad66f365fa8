"""News from the outputs thread for the IO thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class Progress:
    """A queue of streams whose records were written, and of calls that are due on the IO thread.

    Args:
        wake: wakes the IO thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._news: deque[str | Callable[[], None]] = deque()

    def tell(self, news: str | Callable[[], None]) -> None:
        """Add a stream's name or a call. For any thread."""
        self._news.append(news)
        if len(self._news) == 1:  # else the IO thread takes it with what it was woken for
            self._wake()

    def take(self) -> tuple[set[str], list[Callable[[], None]]]:
        """Return the streams and the calls since the last time."""
        names: set[str] = set()
        calls: list[Callable[[], None]] = []
        while self._news:
            news = self._news.popleft()
            if isinstance(news, str):
                names.add(news)
            else:
                calls.append(news)
        return names, calls
