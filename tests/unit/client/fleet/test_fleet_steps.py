"""How a stream is located, and when a request is repeated: without sockets."""

from __future__ import annotations

import pytest
from test_fleet_directory import A, B, C, result

from trackd_client.errors import Timeout, TrackdError, Unreachable
from trackd_client.fleet.directory import Directory
from trackd_client.fleet.steps import PAUSE_S, Ask, Pause, locating, requesting
from trackd_client.protocol import ErrorCode

MOVED = TrackdError("it is at b", ErrorCode.MOVED)
UNKNOWN = TrackdError("not open", ErrorCode.UNKNOWN_STREAM)
BUSY = TrackdError("being closed", ErrorCode.STREAM_BUSY)


class Run:
    """Runs steps with scripted answers; `asked` are the endpoints with the methods, `None` for a pause."""

    def __init__(self, steps, *answers: object) -> None:
        self.asked: list[tuple[str, str] | None] = []
        self.result: object = None
        step = next(steps)
        try:
            for answer in answers:
                if isinstance(step, Pause):
                    self.asked.append(None)
                    step = steps.send(None)
                assert isinstance(step, Ask)
                self.asked.append((step.endpoint, step.method))
                step = steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
            self.asked.append(None if isinstance(step, Pause) else (step.endpoint, step.method))
        except StopIteration as done:
            self.result = done.value


def test_the_next_member_is_asked_at_once_and_all_of_them_again_after_a_pause():
    run = Run(locating(Directory([A, B]), "cam"), Unreachable("no"), MOVED, MOVED, result("b", 3))
    assert run.asked == [(A, "locate"), (B, "locate"), None, (A, "locate"), (B, "locate")]
    assert run.result.member == "b"


def test_after_a_stale_answer_the_next_member_is_asked_after_a_pause():
    directory = Directory([A, B])
    directory.accept("cam", Run(locating(directory, "cam"), result("b", 9)).result)
    run = Run(locating(directory, "cam"), result("a", 8), result("b", 9))
    assert run.asked == [(A, "locate"), None, (B, "locate")]
    assert run.result.term == 9


def test_a_request_goes_to_the_owner_and_is_sent_there_again_without_a_question():
    directory = Directory([A])
    assert Run(requesting(directory, "tracks.live", {"stream": "cam"}), result("b"), "rows").result == "rows"
    run = Run(requesting(directory, "tracks.live", {"stream": "cam"}), "more")
    assert run.asked == [(B, "tracks.live")]


@pytest.mark.parametrize("error", [MOVED, UNKNOWN, Unreachable("no")])
@pytest.mark.parametrize("method", ["history", "stream.reset"])
def test_a_request_that_was_not_done_follows_the_stream(error, method):
    directory = Directory([A])
    Run(requesting(directory, method, {"stream": "cam"}), result("b", 1), "rows")
    run = Run(requesting(directory, method, {"stream": "cam"}), error, result("c", 2), "rows")
    assert run.asked == [(B, method), (A, "locate"), (C, method)]
    assert run.result == "rows"


def test_a_request_that_may_have_been_done_is_not_repeated():
    directory = Directory([A])
    for error in (Timeout("no answer"), TrackdError("the connection was lost; the request may have been done")):
        with pytest.raises(TrackdError) as raised:
            Run(requesting(directory, "stream.reset", {"stream": "cam"}), result("b", 1), error)
        assert raised.value is error
        directory.forget("cam", directory.place("cam"))


def test_a_request_that_only_reads_is_repeated_after_a_timeout():
    run = Run(
        requesting(Directory([A]), "history", {"stream": "cam"}), result("b", 1), Timeout("no"), result("c", 2), []
    )
    assert run.asked == [(A, "locate"), (B, "history"), None, (A, "locate"), (C, "history")]


def test_an_owner_that_does_not_know_its_stream_yet_is_asked_again():
    run = Run(requesting(Directory([A]), "history", {"stream": "cam"}), result("b", 1), UNKNOWN, result("b", 1), [7])
    assert run.asked == [(A, "locate"), (B, "history"), None, (A, "locate"), (B, "history")]
    assert run.result == [7]


def test_a_stream_that_nobody_owns_is_refused_by_the_member_that_would_get_it():
    with pytest.raises(TrackdError) as raised:
        Run(requesting(Directory([A]), "tracks.live", {"stream": "cam"}), result("b", 0), UNKNOWN)
    assert raised.value is UNKNOWN


def test_other_refusals_are_final():
    with pytest.raises(TrackdError) as raised:
        Run(requesting(Directory([A]), "tracks.live", {"stream": "cam"}), result("b", 1), BUSY)
    assert raised.value is BUSY


def test_a_request_without_a_stream_goes_to_any_member():
    run = Run(requesting(Directory([A, B]), "status", {}), Unreachable("no"), Timeout("no"), "fine")
    assert run.asked == [(A, "status"), (B, "status"), None, (A, "status")]
    assert run.result == "fine"
    assert PAUSE_S > 0
