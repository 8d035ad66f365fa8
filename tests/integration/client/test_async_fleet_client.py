"""A client of a fleet in an event loop follows its streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from fake_daemon import TWO
from fake_fleet import FakeFleet, beat

from trackd_client import AsyncFleetClient, Timeout


@pytest.fixture
def fleet() -> Iterator[FakeFleet]:
    made = FakeFleet("a", "b", "c")
    yield made
    made.stop()


def test_a_stream_goes_on_after_a_kill_and_a_move(fleet):
    async def run() -> None:
        async with AsyncFleetClient(fleet.control, timeout_s=10.0) as client:
            stream = await client.open_stream("cam", reply="tracks")
            for _ in range(3):
                await stream.track(None, TWO)
            fleet.kill("a")
            asyncio.get_running_loop().call_later(0.8, lambda: fleet.expire("a", placed="c"))
            started = time.monotonic()
            assert (await stream.track(None, TWO)).seq == 3
            assert time.monotonic() - started >= 0.8
            await asyncio.to_thread(fleet.hand_on, "cam", "b")
            assert (await stream.track(None, TWO)).seq == 4
            assert [row.seq for row in await client.history("cam")] == [0, 1, 2, 3, 4]
            assert (await client.locate("cam")).member == "b"
            await stream.close()
            async with await client.open_stream("cam") as again:
                await again.send(None, TWO)

    asyncio.run(run())


def test_a_silent_owner_is_left(fleet):
    async def run() -> None:
        async with AsyncFleetClient(fleet.control, timeout_s=8.0) as client:
            stream = await client.open_stream("cam", reply="tracks")
            await stream.track(None, TWO)
            wake = fleet.members["a"].freeze()
            fleet.expire("a", placed="b")
            assert (await stream.track(None, TWO)).seq == 1
            assert fleet.stored("cam").owner == "b"
            wake.set()
            await stream.close()

    asyncio.run(run())


def test_a_subscription_follows_a_move(fleet):
    async def run() -> None:
        async with AsyncFleetClient(fleet.control, timeout_s=5.0) as client:
            stream = await client.open_stream("cam", reply="tracks")
            await stream.track(None, TWO)
            seqs = []
            async for tracks in client.tracks("cam", from_seq=0, timeout_s=5.0):
                seqs.append(tracks.seq)
                if len(seqs) == 6:
                    break
                if len(seqs) == 3:
                    await asyncio.to_thread(fleet.hand_on, "cam", "b")
                await stream.track(None, TWO)
                await asyncio.to_thread(beat, fleet, "cam")
            assert seqs == list(range(6))
            await stream.close()

    asyncio.run(run())


def test_an_open_without_an_owner_says_what_each_member_answered(fleet):
    fleet.away = True

    async def run() -> None:
        async with AsyncFleetClient(fleet.control, timeout_s=1.0) as client:
            with pytest.raises(Timeout, match=r"no member of the fleet opened stream 'cam' within 1 s.*store cannot"):
                await client.open_stream("cam")
            with pytest.raises(Timeout, match="knows where stream 'cam' is within 1 s"):
                await client.locate("cam")

    asyncio.run(run())
