"""The budget of handling time: who waits, for how long, and how much may wait."""

from __future__ import annotations

import pytest

from trackd.server.budget import BURST_NS, SHARE, TOTAL_SHARE, Budget

MS = 1_000_000
LONGEST_NS = int(BURST_NS / (1 - SHARE)) // MS * MS  # of work without a pause; meanwhile the budget fills by its share


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def budget(clock) -> Budget:
    return Budget(clock)


def spend(budget: Budget, client: bytes | str, ns: int) -> None:
    for _ in range(ns // MS):
        budget._clock.now_ns += MS  # the work takes this time
        budget.spend(client, MS)


def spend_all(budget: Budget, client: bytes) -> None:
    spend(budget, client, LONGEST_NS + MS)


def test_a_client_is_over_after_its_burst_and_has_its_share_again_later(budget, clock):
    spend(budget, b"a", LONGEST_NS - MS)
    assert not budget.may_refuse
    assert not budget.is_over(b"a", clock())
    spend(budget, b"a", 2 * MS)
    assert budget.may_refuse
    assert budget.is_over(b"a", clock())
    assert not budget.is_over(b"b", clock())
    clock.now_ns += int(3 * MS / SHARE)
    assert not budget.is_over(b"a", clock())


def test_all_clients_together_have_a_share_too(budget, clock):
    for number in range(8):
        spend(budget, f"key{number}", BURST_NS // 2)
    assert budget.is_over("another", clock())
    clock.now_ns += int(2 * BURST_NS / TOTAL_SHARE)
    assert not budget.is_over("another", clock())


def test_waiting_messages_are_handled_in_their_order_and_one_of_each_client_at_a_time(budget, clock):
    handled: list[str] = []
    for client in (b"a", b"b"):
        spend_all(budget, client)
        for number in range(2):
            assert budget.wait(client, 10, lambda who=client, number=number: handled.append(f"{who.decode()}{number}"))
    budget.run_waiting()
    assert handled == []
    clock.now_ns += int(2 * BURST_NS / SHARE)
    assert budget.is_over(b"a", clock()), "a later message must not overtake those that wait"
    budget.run_waiting()
    assert handled == ["a0", "b0"]
    budget.run_waiting()
    assert handled == ["a0", "b0", "a1", "b1"]
    budget.run_waiting()
    assert not budget.may_refuse


def test_the_number_and_the_bytes_of_waiting_messages_are_bounded(budget):
    spend_all(budget, b"a")
    accepted = sum(budget.wait(b"a", 100, lambda: None) for _ in range(1000))
    assert accepted == 256
    assert not budget.wait(b"b", 2_000_000, lambda: None)
    accepted = sum(budget.wait(b"%d" % number, 1_000_000, lambda: None) for number in range(1000))
    assert accepted == 67


def test_messages_of_a_client_that_is_held_wait_until_its_release(budget, clock):
    handled: list[int] = []
    budget.hold(b"a")
    assert budget.may_refuse
    assert budget.is_over(b"a", clock())
    assert budget.wait(b"a", 1, lambda: handled.append(1))
    budget.run_waiting()
    assert handled == []
    budget.release(b"a")
    budget.run_waiting()
    assert handled == [1]


def test_clients_with_a_full_budget_are_forgotten(budget, clock):
    for number in range(5000):
        budget.spend(b"%d" % number, 1)
        clock.now_ns += 1000
    assert len(budget._full_at) < 4200
