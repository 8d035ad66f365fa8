"""The requests of pages on the IO thread: rights, the budget of time, and the lists of streams."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trackd.engine.stream_zones import StreamZones
from trackd.server.budget import Budget
from trackd.server.pages import Pages
from trackd.viewer.hub import Hub, PageRequest
from trackd.viewer.messages import Ask
from trackd_client.protocol import ErrorCode, Reply

MS = 1_000_000


class Control:
    """Runs nothing: it notes what it is asked, and answers with the name of the method."""

    def __init__(self, budget: Budget, ns: int = 0) -> None:
        self.asked: list[tuple] = []
        self._budget, self._ns = budget, ns

    def run(self, name, params, grant, client, answer, answer_with_rows) -> None:
        self.asked.append((name, grant))
        self._budget.spend(client, self._ns)
        answer(name)


class Desk:
    """A hub with one page, and the IO thread's part."""

    def __init__(self, ns: int = 0, streams: int = 0) -> None:
        self.now = 1000 * MS
        self.hub = Hub(pages=(SimpleNamespace(),))
        self.replies: list[Reply] = []
        budget = Budget(lambda: self.now)
        self.budget = budget
        self.control = Control(budget, ns)
        session = SimpleNamespace(
            name="cam", epoch=1, model="motion", next_seq=3, skeleton=None, frame_shape=None, opening=False,
            queue=SimpleNamespace(depth=32), zones=StreamZones(),
        )  # fmt: skip
        self.sessions = [session] * streams
        self.pages = Pages(self.hub, self.control, self.sessions, [], budget, self.clock)  # type: ignore[arg-type]

    def clock(self) -> int:
        return self.now

    def ask(self, method: str, control: bool = True, client: str = "page 1") -> None:
        request = PageRequest(client, control, Ask(1, method, {}, 50), self.replies.append, lambda rows: None)
        self.hub.request(request)
        self.pages.run()


@pytest.mark.parametrize("method", ["status", "history", "tracks.live", "models", "stream.zones", "recording.list"])
def test_a_page_that_may_only_read_may_ask_for_what_readers_get(method):
    desk = Desk()
    desk.ask(method, control=False)
    assert desk.replies == [Reply(1, method)]
    assert {str(right) for right in desk.control.asked[0][1].rights} == {"subscribe"}


@pytest.mark.parametrize(
    "method",
    [
        "stream.correct", "stream.set_zones", "stream.reset", "stream.close", "recording.start", "recording.stop",
    ],
)  # fmt: skip
def test_a_page_may_act_only_with_the_right_to(method):
    desk = Desk()
    desk.ask(method, control=False)
    assert desk.replies[0].error is not None
    assert desk.replies[0].error[0] is ErrorCode.FORBIDDEN
    assert desk.control.asked == []
    desk.ask(method)
    assert desk.replies[1] == Reply(1, method)


@pytest.mark.parametrize("method", ["drain", "model.load", "stream.configure", "", "x" * 5000])
def test_no_page_may_ask_for_anything_else(method):
    desk = Desk()
    desk.ask(method)
    assert desk.replies[0].error is not None
    assert desk.replies[0].error[0] is ErrorCode.BAD_MESSAGE
    assert len(desk.replies[0].error[1]) < 300
    assert desk.control.asked == []


def test_a_page_that_has_used_its_budget_of_time_waits_and_other_pages_do_not():
    desk = Desk(ns=150 * MS)
    for _ in range(6):
        desk.ask("history")
    answered = len(desk.replies)
    assert answered < 6
    desk.now += 250 * MS  # the budget of all clients together is filled faster than that of one
    desk.ask("history")
    assert len(desk.replies) == answered
    desk.ask("status", client="page 2")
    assert len(desk.replies) == answered + 1
    for _ in range(100):
        desk.now += 100 * MS
        desk.budget.run_waiting()
    assert len(desk.replies) == 8


def test_a_page_over_its_budget_cannot_let_any_number_of_requests_wait():
    desk = Desk(ns=1000 * MS)
    for _ in range(400):
        desk.ask("history")
    codes = [reply.error[0] for reply in desk.replies if reply.error is not None]
    assert set(codes) == {ErrorCode.OVER_BUDGET}
    assert 100 < len(codes) < 200


def test_streams_are_listed_for_an_event_and_not_while_lists_would_take_more_than_a_fiftieth_of_the_time():
    desk = Desk(streams=3)
    clock = iter(range(0, 10_000 * MS, MS))
    desk.pages._clock = lambda: next(clock) + 1000 * MS
    desk.hub.request(None)
    desk.pages.run()
    assert [row.stream for row in desk.hub.rows or []] == ["cam"] * 3
    desk.hub.rows = None
    for _ in range(5):
        desk.hub.request(None)
        desk.pages.run()
    assert desk.hub.rows is None  # the heartbeat will list them
    desk.pages.list_streams()
    assert desk.hub.rows is not None


def test_without_a_page_no_streams_are_listed():
    desk = Desk(streams=3)
    desk.hub.pages = ()
    desk.hub.request(None)
    desk.pages.run()
    assert desk.hub.rows is None
