"""The queue of outcomes that wait to be stored."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from trackd.store.waiting import WaitingOutcomes, sized


@dataclass(frozen=True)
class Result:
    name: str
    nbytes: int = 0
    records: tuple = ()


def names(outcomes: list[Result]) -> str:
    return "".join(outcome.name for outcome in outcomes)


def queue(text: str, most: int = 100, most_bytes: int = 1000, nbytes: int = 1) -> WaitingOutcomes[Result]:
    waiting: WaitingOutcomes[Result] = WaitingOutcomes(most, most_bytes)
    waiting.add(sized([Result(name, nbytes) for name in text]))
    return waiting


def test_outcomes_are_taken_in_order_and_those_of_a_failed_write_first():
    waiting = queue("cd")
    waiting.add_first(sized([Result("a"), Result("b")]))
    assert names(waiting.take()) == "abcd"
    assert not waiting.queue
    assert waiting.take() == []


@pytest.mark.parametrize(
    ("most", "most_bytes", "batches"),
    [(2, 1000, ["ab", "cd", "e"]), (100, 15, ["ab", "cd", "e"]), (100, 1, [*"abcde"])],
)
def test_a_batch_is_bounded_by_number_and_bytes(most, most_bytes, batches):
    waiting = queue("abcde", most, most_bytes, nbytes=10)
    assert [names(waiting.take()) for _ in batches] == batches


@pytest.mark.parametrize(("nbytes", "count"), [(0, 8193), (64 * 1024 * 1024, 5)])
def test_it_is_full_by_number_and_by_bytes_until_some_are_taken(nbytes, count):
    waiting = queue("x" * (count - 1), most=1, nbytes=nbytes)
    assert not waiting.full
    waiting.add(sized([Result("y", nbytes)]))
    assert waiting.full
    waiting.take()
    assert not waiting.full
