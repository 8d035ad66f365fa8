"""The IO thread's time for messages that are no frames: each client has a budget, so a flood costs its sender."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

SHARE = 0.2  # of the IO thread's time that the messages of one client may take, in the long run
TOTAL_SHARE = 0.5  # the same for all clients together
BURST_NS = 500_000_000  # handling time that a client may use at once: 256 opens take less
_WAITING_MESSAGES = 256  # of a client over its budget
_WAITING_BYTES = 1_048_576  # the same
_TOTAL_WAITING_BYTES = 67_108_864
_MOST_CLIENTS = 4096  # that are stored before those with a full budget are removed
_FULL_NS = BURST_NS / SHARE  # the time in which an empty bucket is filled
_ALL_FULL_NS = BURST_NS / TOTAL_SHARE
_LOOK_NS = 10_000_000  # between two looks for clients that are over their budgets, while none waits
_TURN_NS = 2_000_000  # spent on waiting messages in one turn

Client = bytes | str  # a connection's routing id, or the public key of a client


class Budget:
    """Which messages are handled now, and which wait; only the IO thread uses it.

    A client's budget is a token bucket of handling time. It is stored as the time at which the bucket is full again.
    The messages of a client over its budget wait, in order, until it has some again. Only so many may wait.

    Args:
        clock: monotonic, ns.

    Attributes:
        may_refuse: whether any client may be over its budget; false nearly always, and then no frame is delayed by
            asking.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self.may_refuse = False
        self._next_look_ns = 0
        self._full_at: dict[Client, int] = {}
        self._all_full_at = 0
        self._waiting: dict[Client, deque[tuple[int, Callable[[], None]]]] = {}  # each message: its size, its handling
        self._held: set[Client] = set()
        self._bytes_of: dict[Client, int] = {}
        self._total_bytes = 0

    def is_over(self, client: Client, now_ns: int) -> bool:
        """Return whether a message of this client, which is no frame, must wait."""
        return (
            self._full_at.get(client, 0) - now_ns > _FULL_NS
            or self._all_full_at - now_ns > _ALL_FULL_NS
            or client in self._waiting
            or client in self._held
        )

    def spend(self, client: Client, ns: int) -> None:
        """Note the time that a message of a client took."""
        now = self._clock()
        full_at = max(self._full_at.get(client, 0), now) + int(ns / SHARE)
        self._full_at[client] = full_at
        self._all_full_at = max(self._all_full_at, now) + int(ns / TOTAL_SHARE)
        self.may_refuse = self.may_refuse or self.is_over(client, now)
        if len(self._full_at) > _MOST_CLIENTS:
            self._full_at = {known: at for known, at in self._full_at.items() if at > now}
            if len(self._full_at) > _MOST_CLIENTS:
                self._full_at = {client: full_at}

    def hold(self, client: Client) -> None:
        """Let all further messages of a client wait, until `release`: its last request is still being answered."""
        self._held.add(client)
        self.may_refuse = True

    def release(self, client: Client) -> None:
        """End `hold`."""
        self._held.discard(client)

    def wait(self, client: Client, nbytes: int, handle: Callable[[], None]) -> bool:
        """Let a message wait; return False where too many of this client wait already.

        Args:
            client: its sender.
            nbytes: its size.
            handle: handles it; called later, by `run_waiting`.
        """
        held = self._bytes_of.get(client, 0) + nbytes
        if held > _WAITING_BYTES or self._total_bytes + nbytes > _TOTAL_WAITING_BYTES:
            return False
        messages = self._waiting.get(client)
        if messages is None:
            messages = self._waiting[client] = deque()
        elif len(messages) >= _WAITING_MESSAGES:
            return False
        messages.append((nbytes, handle))
        self._bytes_of[client] = held
        self._total_bytes += nbytes
        return True

    def run_waiting(self) -> None:
        """Handle waiting messages whose clients have a budget again: one of each client, then the next of each."""
        until = self._clock() + _TURN_NS
        now = until - _TURN_NS
        if not self._waiting and not self._held and now >= self._next_look_ns:
            self._next_look_ns = now + _LOOK_NS
            self._full_at = {client: at for client, at in self._full_at.items() if at > now}
            self.may_refuse = any(self.is_over(client, now) for client in self._full_at)
        for client in list(self._waiting):
            now = self._clock()
            if now >= until:
                return
            messages = self._waiting.pop(client)
            if self.is_over(client, now):
                self._waiting[client] = messages
                continue
            nbytes, handle = messages.popleft()
            self._bytes_of[client] -= nbytes
            self._total_bytes -= nbytes
            if messages:
                self._waiting[client] = messages  # at the end: the others come first
            else:
                del self._bytes_of[client]
            handle()
