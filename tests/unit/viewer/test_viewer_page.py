"""What waits for a page is bounded, whatever the page does; the socket is a stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgpack
import pytest
from starlette.websockets import WebSocketDisconnect

from trackd.viewer.hub import Hub, PageRequest, Watch
from trackd.viewer.messages import Wish
from trackd.viewer.page import BAD_MESSAGE, MOST_OUTSTANDING, Page, serve
from trackd_client.protocol import Reply, Status, Tracks


class Socket:
    """A page's WebSocket: the test gives what it receives; it sends nothing while `is_blocked`."""

    def __init__(self) -> None:
        self.sent: list[dict] = []
        self.closed: tuple[int, str] | None = None
        self.is_gone = False
        self._given: asyncio.Queue[dict] = asyncio.Queue()
        self._open = asyncio.Event()
        self._open.set()

    def give(self, **message: object) -> None:
        self._given.put_nowait({"type": "websocket.receive", "bytes": msgpack.packb(message)})

    def end(self) -> None:
        self.is_gone = True
        self._given.put_nowait({"type": "websocket.disconnect", "code": 1001})

    def block(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def receive(self) -> dict:
        return await self._given.get()

    async def send_bytes(self, data: bytes) -> None:
        await self._open.wait()
        if self.is_gone:
            raise WebSocketDisconnect(1006)
        self.sent.append(msgpack.unpackb(data))

    async def close(self, code: int, reason: str) -> None:
        self.closed = code, reason


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.005)


def with_page(test: Callable) -> None:
    """Run `test(socket, hub, page)` beside a served page."""

    async def run() -> None:
        socket, hub = Socket(), Hub()
        serving = asyncio.create_task(serve(socket, hub, True, 15))  # type: ignore[arg-type]
        await until(lambda: len(socket.sent) == 1)
        await test(socket, hub, hub.pages[0])
        socket.end()
        hub.pages[0].tell_streams(b"")  # as each second: a page that is not read ends with what it is sent
        await asyncio.wait_for(serving, 20)
        assert hub.pages == ()
        assert hub.watched == {}

    asyncio.run(run())


def wish(*streams: str) -> dict:
    return {name: {"fps": 15, "width": 320, "image": True} for name in streams}


def test_a_page_that_watches_a_stream_again_and_again_and_reads_nothing_holds_one_frame_of_it():
    async def test(socket: Socket, hub: Hub, page: Page) -> None:
        socket.block()
        for number in range(30):
            socket.give(type="watch", streams=wish("cam") if number % 2 else {})
            await until(lambda number=number: ("cam" in hub.watched) is bool(number % 2))
            watch = Watch(page, "cam", Wish(15, 320, True))
            page.show(watch, msgpack.packb(number))
        await asyncio.sleep(0.05)
        socket.release()
        await until(lambda: socket.sent[-1] == 29)
        assert len(socket.sent) <= 3  # hello, the frame that was being sent, the newest one

    with_page(test)


def test_a_page_is_not_read_while_too_many_of_its_requests_wait():
    async def test(socket: Socket, hub: Hub, page: Page) -> None:
        for number in range(100):
            socket.give(type="request", id=number, method="status")
        await until(lambda: len(hub.due) > MOST_OUTSTANDING)
        await asyncio.sleep(0.2)
        requests = [request for request in hub.due if isinstance(request, PageRequest)]
        assert len(requests) == MOST_OUTSTANDING
        requests[0].answer(Reply(0, {"ready": True}))
        await until(lambda: len(hub.due) == MOST_OUTSTANDING + 2)  # and the one that asks for the streams
        assert socket.sent[-1] == {"type": "reply", "id": 0, "result": {"ready": True}}

    with_page(test)


def test_rows_are_one_reply_with_the_id_of_the_request():
    async def test(socket: Socket, hub: Hub, page: Page) -> None:
        socket.give(type="request", id=5, method="history")
        await until(lambda: len(hub.due) == 2)
        rows = [Tracks("cam", 1, seq, seq, seq, Status.DROPPED, reason="overload") for seq in range(40)]
        hub.due[1].answer_with_rows(rows)
        await until(lambda: len(socket.sent) == 2)
        reply = socket.sent[1]
        assert (reply["type"], reply["id"]) == ("reply", 5)
        assert [row["seq"] for row in reply["result"]] == list(range(40))

    with_page(test)


def test_of_the_lists_of_streams_that_wait_only_the_newest_is_sent_and_of_events_the_last_ones():
    async def test(socket: Socket, hub: Hub, page: Page) -> None:
        socket.block()
        page.tell_event(msgpack.packb("being sent"))
        await asyncio.sleep(0.05)
        for number in range(500):
            page.tell_streams(msgpack.packb(["streams", number]))
            page.tell_event(msgpack.packb(["event", number]))
        await asyncio.sleep(0.05)
        socket.release()
        await until(lambda: ["streams", 499] in socket.sent)
        told = socket.sent[2:]
        assert [message for message in told if message[0] == "streams"] == [["streams", 499]]
        events = [message[1] for message in told if message[0] == "event"]
        assert events == list(range(500 - len(events), 500))
        assert len(events) == 256

    with_page(test)


@pytest.mark.parametrize("junk", [{"type": "hello", "token": None}, {"type": "watch", "streams": 3}, {}])
def test_a_message_that_is_not_valid_ends_the_page_with_the_reason(junk):
    async def run() -> None:
        socket, hub = Socket(), Hub()
        socket.give(**junk)
        await asyncio.wait_for(serve(socket, hub, True, 15), 20)  # type: ignore[arg-type]
        assert socket.closed is not None
        assert socket.closed[0] == BAD_MESSAGE
        assert socket.closed[1]
        assert hub.pages == ()

    asyncio.run(run())


def test_a_page_that_goes_while_it_is_sent_something_ends_without_an_error(caplog):
    class Gone(Socket):
        async def send_bytes(self, data: bytes) -> None:
            await super().send_bytes(data)
            self.is_gone = True

    async def run() -> None:
        socket, hub = Gone(), Hub()
        serving = asyncio.create_task(serve(socket, hub, True, 15))  # type: ignore[arg-type]
        await until(lambda: bool(hub.pages and socket.sent))
        hub.pages[0].tell_event(b"event")
        await asyncio.wait_for(serving, 20)
        assert hub.pages == ()

    asyncio.run(run())
    assert not caplog.records
