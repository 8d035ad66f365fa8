"""One page: its WebSocket from the first message to its end; runs on the thread of the HTTP server.

A sending and a receiving task share what waits: of each stream one frame, one list of streams, some events, and the
replies to the requests that are outstanding.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from starlette.websockets import WebSocket, WebSocketDisconnect

from trackd import __version__
from trackd.viewer.hub import Hub, PageRequest, Watch
from trackd.viewer.messages import (
    Ask,
    Hello,
    WatchStreams,
    decode,
    hello_message,
    refused_message,
    reply_head,
    reply_message,
)
from trackd_client.protocol import ErrorCode, ProtocolError, Reply, Tracks
from trackd_client.protocol.packed import rows_pieces

logger = logging.getLogger(__name__)

HELLO_S = 5.0
MOST_OUTSTANDING = 16  # requests of a page without a reply
_MOST_EVENTS = 256
_CLOSE_S = 1.0
_BETWEEN_S = 0.005  # at least, between two messages of a page that are read
UNAUTHORIZED, TOO_MANY, BAD_MESSAGE = 4401, 4429, 4400  # codes of a close

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Admission:
    """Who may open the viewer.

    Attributes:
        token: that a page must give; None: none is needed.
        reads: whether a page without a token may read, where none is configured.
        acts: whether a page without a token may act, where none is configured.
    """

    token: str | None
    reads: bool
    acts: bool

    def control(self, given: str | None) -> bool:
        """Return whether a page with this token may act.

        Raises:
            PermissionError: it may not even read.
        """
        if self.token is None:
            if not self.reads:
                raise PermissionError("the viewer needs a token here: security.http_token_file names it")
            return self.acts
        # Compared as bytes in constant time: compare_digest refuses text that is not ASCII.
        if not hmac.compare_digest((given or "").encode(errors="replace"), self.token.encode()):
            raise PermissionError("a token is needed" if given is None else "the token is wrong")
        return True


class Page:
    """An admitted page."""

    def __init__(self, socket: WebSocket, hub: Hub, control: bool, fps: int) -> None:
        self._socket = socket
        self._hub = hub
        self._control = control
        self._fps = fps
        self._loop = asyncio.get_running_loop()
        self._client = f"viewer page {next(_numbers)}"
        self._wake = asyncio.Event()
        self._replies: deque[bytes | tuple[int, list[Tracks]]] = deque()
        self._events: deque[bytes] = deque(maxlen=_MOST_EVENTS)
        self._streams: bytes | None = None
        self._frames: dict[str, tuple[Watch, bytes]] = {}  # by stream
        self._outstanding = 0
        self._has_room = asyncio.Event()  # for another request; until then nothing of the page is read
        self._has_room.set()

    # --- any thread ---

    def show(self, watch: Watch, message: bytes) -> None:
        """Send a frame; the watch takes no other one until it is sent."""
        self._on_loop(lambda: self._frames.__setitem__(watch.stream, (watch, message)))

    def tell_streams(self, message: bytes) -> None:
        """Send the list of streams."""
        self._on_loop(lambda: setattr(self, "_streams", message))

    def tell_event(self, message: bytes) -> None:
        """Send an event."""
        self._on_loop(lambda: self._events.append(message))

    def _on_loop(self, do: Callable[[], object]) -> None:
        def done() -> None:
            do()
            self._wake.set()

        with contextlib.suppress(RuntimeError):  # the server has ended
            self._loop.call_soon_threadsafe(done)

    # --- the server's thread ---

    async def run(self) -> None:
        """Serve the page until it ends, or sends what is not valid."""
        sending = asyncio.create_task(self._send())
        receiving = asyncio.create_task(self._receive())
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            results = await asyncio.gather(sending, receiving, return_exceptions=True)
        for error in results:
            if isinstance(error, ProtocolError):
                await close(self._socket, BAD_MESSAGE, error.message)
            elif isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect | OSError):
                logger.error("a page of the viewer failed", exc_info=error)

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._replies or self._events or self._streams is not None or self._frames:
                if self._replies:
                    await self._send_reply(self._replies.popleft())
                elif self._events:
                    await self._send_bytes(self._events.popleft())
                elif self._streams is not None:
                    message, self._streams = self._streams, None
                    await self._send_bytes(message)
                else:
                    watch, message = self._frames.pop(next(iter(self._frames)))
                    await self._send_bytes(message)
                    self._hub.sent(watch)

    async def _send_reply(self, reply: bytes | tuple[int, list[Tracks]]) -> None:
        if not isinstance(reply, bytes):
            request_id, rows = reply
            packed = bytearray(reply_head(request_id))
            for piece in rows_pieces(rows):
                packed += piece
                await asyncio.sleep(0)  # between pieces the other pages, and requests for metrics, have their turns
            reply = bytes(packed)
        await self._send_bytes(reply)
        self._outstanding -= 1
        self._has_room.set()

    async def _send_bytes(self, message: bytes) -> None:
        try:
            await self._socket.send_bytes(message)
        except (
            RuntimeError
        ) as error:  # the server has closed the socket by itself: a message too large, no answer to a ping
            raise WebSocketDisconnect(1006) from error

    async def _receive(self) -> None:
        while True:
            message = decode(await _received(self._socket))
            match message:
                case WatchStreams():
                    self._hub.watch(self, message.limited(self._fps))
                    self._frames = {name: frame for name, frame in self._frames.items() if name in message.wishes}
                case Ask():
                    self._ask(message)
                case Hello():
                    raise ProtocolError(ErrorCode.BAD_MESSAGE, "hello is the first message alone")
            await asyncio.sleep(_BETWEEN_S)
            await self._has_room.wait()

    def _ask(self, ask: Ask) -> None:
        self._outstanding += 1
        if self._outstanding >= MOST_OUTSTANDING:
            self._has_room.clear()

        def answer(reply: Reply) -> None:
            self._on_loop(lambda: self._replies.append(reply_message(reply)))

        def answer_with_rows(rows: list[Tracks]) -> None:
            self._on_loop(lambda: self._replies.append((ask.id, rows)))

        self._hub.request(PageRequest(self._client, self._control, ask, answer, answer_with_rows))


async def _received(socket: WebSocket) -> bytes:
    """Return the next message of a page.

    Raises:
        ProtocolError: it is text.
        WebSocketDisconnect: the page has ended.
    """
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message["code"])
    data = message.get("bytes")
    if data is None:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "a message must be binary MessagePack; got text")
    return bytes(data)


async def first_message(socket: WebSocket) -> Hello:
    """Return the `hello` of a page.

    Raises:
        ProtocolError: the first message is another one, or does not come in time.
        WebSocketDisconnect: the page has ended.
    """
    try:
        async with asyncio.timeout(HELLO_S):
            message = decode(await _received(socket))
    except TimeoutError:
        raise ProtocolError(ErrorCode.BAD_MESSAGE, f"hello must come within {HELLO_S:g} s") from None
    if not isinstance(message, Hello):
        raise ProtocolError(ErrorCode.BAD_MESSAGE, "the first message must be hello")
    return message


async def close(socket: WebSocket, code: int, reason: str) -> None:
    """Close a page's socket, if it is open."""
    with contextlib.suppress(
        RuntimeError, WebSocketDisconnect, OSError
    ):  # also TimeoutError, of a page that reads nothing
        async with asyncio.timeout(_CLOSE_S):
            await socket.close(code, reason.encode()[:120].decode(errors="ignore"))  # a close has at most 123 bytes


async def refuse(socket: WebSocket, code: int, reason: str) -> None:
    """Tell a page that it is not admitted, and why."""
    with contextlib.suppress(RuntimeError, WebSocketDisconnect, OSError):
        await socket.send_bytes(refused_message(reason))
    await close(socket, code, reason)


async def admitted(socket: WebSocket, admission: Admission) -> bool | None:
    """Receive `hello`; return whether the page may act, None where it is refused."""
    try:
        return admission.control((await first_message(socket)).token)
    except PermissionError as error:
        await refuse(socket, UNAUTHORIZED, str(error))
    except ProtocolError as error:
        await close(socket, BAD_MESSAGE, error.message)
    except WebSocketDisconnect:
        pass
    return None


async def serve(socket: WebSocket, hub: Hub, control: bool, fps: int) -> None:
    """Serve an admitted page to its end.

    Args:
        socket: its WebSocket.
        hub: the hand-over to the daemon.
        control: the page may act.
        fps: the highest rate of a stream.
    """
    page = Page(socket, hub, control, fps)
    hub.add(page)
    try:
        await socket.send_bytes(hello_message(__version__, control))
        await page.run()
    except (WebSocketDisconnect, OSError):
        pass
    finally:
        hub.remove(page)
