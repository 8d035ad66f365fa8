"""A blocking iterator in an asyncio event loop: a thread reads it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from trackd_client.errors import TrackdError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_MOST = 1024  # values that the thread reads ahead


class Closable(Protocol[T_co]):
    """An iterator that any thread may end."""

    closed: bool  # set it to end the iteration soon, without a wait

    def __iter__(self) -> Iterator[T_co]:
        """Return the iterator."""

    def close(self) -> None:
        """Free its sockets."""


class AsyncIteration(AsyncIterator[T], Generic[T]):
    """The values of a blocking iterator, for `async for`. One task at a time may iterate.

    The thread starts with the first value that is asked for, and reads at most 1,024 values ahead.

    Args:
        begin: makes the iterator, on the thread.
    """

    def __init__(self, begin: Callable[[], Closable[T]]) -> None:
        self._begin = begin
        self._loop = asyncio.get_running_loop()
        self._values: deque[T] = deque()
        self._room = threading.Semaphore(_MOST)
        self._changed = asyncio.Event()
        self._error: BaseException | None = None
        self._ended = False
        self.closed = False
        self._source: Closable[T] | None = None
        self._lock = threading.Lock()  # guards `_source` and `closed` against the thread
        self._thread: threading.Thread | None = None

    def __aiter__(self) -> AsyncIteration[T]:
        return self

    async def __anext__(self) -> T:
        if self._thread is None and not self.closed:
            self._thread = threading.Thread(target=self._read, name="trackd-follow", daemon=True)
            self._thread.start()
        while not self._values:
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            if self._ended or self.closed:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        self._room.release()
        return self._values.popleft()

    def close(self) -> None:
        """End the iteration. The thread ends within a tenth of a second."""
        with self._lock:
            self.closed = True
            if self._source is not None:
                self._source.closed = True
        self._room.release()
        self._changed.set()

    def _read(self) -> None:
        error: BaseException | None = None
        try:
            source = self._begin()
            with self._lock:
                self._source = source
                source.closed = source.closed or self.closed
            try:
                for value in source:
                    self._room.acquire()
                    if self.closed:
                        break
                    self._loop.call_soon_threadsafe(self._add, value)
            finally:
                source.close()
        except (TrackdError, OSError) as raised:
            error = None if self.closed else raised
        except RuntimeError:  # the event loop is closed
            return
        with suppress(RuntimeError):  # the same
            self._loop.call_soon_threadsafe(self._end, error)

    def _add(self, value: T) -> None:
        self._values.append(value)
        self._changed.set()

    def _end(self, error: BaseException | None) -> None:
        self._error = error
        self._ended = True
        self._changed.set()
