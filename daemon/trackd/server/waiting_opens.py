"""Opens of streams whose output files may continue those of a daemon that was killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from trackd.outputs.session_log import EarlierSession
from trackd.outputs.thread import OutputsThread
from trackd.server.checks import as_protocol_error
from trackd.server.publisher import Publisher
from trackd_client.protocol import ErrorCode, Open, ProtocolError


@dataclass(frozen=True, slots=True, eq=False)
class WaitingOpen:
    """An `open` as the IO thread has received it."""

    owner: bytes  # the routing id of the connection
    message: Open
    now_ns: int  # monotonic
    key: str  # the public key of the connection; "" without CURVE


def check_not_opening(waiting: WaitingOpen | None, owner: bytes, message: Open) -> None:
    """Check that no other connection opens a stream, or that this one takes it over.

    Args:
        waiting: the `open` of the stream that is under way; None: there is none.
        owner: the routing id of the connection that asks.
        message: its `open`.

    Raises:
        ProtocolError: another one does (`stream_busy`).
    """
    if waiting is not None and waiting.owner != owner and not message.takeover:
        raise ProtocolError(
            ErrorCode.STREAM_BUSY,
            f"another connection is opening stream {message.stream!r}; open it with takeover to become its owner",
            stream=message.stream,
        )


class WaitingOpens:
    """Opens that wait until the disk was read: the first track id depends on it. Only the IO thread uses it.

    Args:
        outputs: finds the files.
        publisher: of refusals.
        create: opens the stream, with the session that was found, or None, and an epoch above the given one.
    """

    def __init__(
        self,
        outputs: OutputsThread,
        publisher: Publisher,
        create: Callable[[WaitingOpen, EarlierSession | None, int], None],
    ) -> None:
        self._outputs = outputs
        self._publisher = publisher
        self._create = create
        self._by_stream: dict[str, WaitingOpen] = {}

    def check(self, owner: bytes, message: Open) -> None:
        """Check that no other connection opens the stream; the latest `open` of one connection is the one that counts.

        Raises:
            ProtocolError: another one does (`stream_busy`).
        """
        check_not_opening(self._by_stream.get(message.stream), owner, message)

    def add(self, waiting: WaitingOpen, kinds: Sequence[str], above: int = 0) -> None:
        """Let an `open` wait.

        Args:
            waiting: the `open`.
            kinds: the formats of the stream's outputs.
            above: the stream's epoch is above this one.
        """
        name = waiting.message.stream
        self._by_stream[name] = waiting
        self._outputs.find_session(name, kinds, waiting.message, partial(self._found, waiting, above))

    def _found(self, waiting: WaitingOpen, above: int, earlier: EarlierSession | None) -> None:
        name = waiting.message.stream
        if self._by_stream.get(name) is not waiting:
            return  # a later `open` waits
        del self._by_stream[name]
        try:
            self._create(waiting, earlier, above)
        except Exception as error:
            self._publisher.refuse(waiting.owner, as_protocol_error(error, name))
