"""`AsyncClient` against real daemons."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import numpy as np
import pytest
from daemon_process import DaemonProcess
from raw_client import walking_boxes

from trackd_client import AsyncClient, Client, Detections, StreamLost, Timeout, TrackdError


def detections(seq: int) -> Detections:
    return Detections(boxes=walking_boxes(seq))


@pytest.fixture(scope="module")
def daemon():
    with DaemonProcess("stream.queue_depth=8") as running:
        yield running


def client_of(daemon: DaemonProcess, **kwargs) -> AsyncClient:
    at = daemon.addresses
    return AsyncClient(at["ingest"], at["tracks"], at["control"], **kwargs)


def test_a_closed_loop_gives_the_ids_of_the_blocking_client(daemon):
    at = daemon.addresses
    with (
        Client(at["ingest"], at["tracks"], at["control"]) as blocking,
        blocking.open_stream("sync-loop", reply="tracks") as stream,
    ):
        expected = [stream.track(None, detections(seq)).track_ids.tolist() for seq in range(30)]

    async def run() -> list[list[int]]:
        async with client_of(daemon) as client, await client.open_stream("async-loop", reply="tracks") as stream:
            return [(await stream.track(None, detections(seq))).track_ids.tolist() for seq in range(30)]

    assert asyncio.run(run()) == expected


def test_every_frame_is_settled_once_and_in_order_beyond_the_credit(daemon):
    async def run() -> tuple[list[int], list[int]]:
        async with client_of(daemon) as client:

            async def follow() -> list[int]:
                following = client.tracks("burst", from_seq=0, timeout_s=60, until_closed=True)
                return [tracks.seq async for tracks in following]

            stream = await client.open_stream("burst")
            following = asyncio.create_task(follow())
            sent = [await stream.send(None, detections(seq)) for seq in range(300)]
            await stream.flush(60)
            assert stream.unacked == 0
            await stream.close()
            return sent, await asyncio.wait_for(following, 60)

    sent, seen = asyncio.run(run())
    assert sent == list(range(300))
    assert seen == sent


def test_many_streams_share_one_client_and_no_thread(daemon):
    async def one(client: AsyncClient, name: str) -> list[int]:
        async with await client.open_stream(name, reply="tracks") as stream:
            return [(await stream.track(None, detections(seq))).seq for seq in range(20)]

    async def run() -> list[list[int]]:
        async with client_of(daemon) as client:
            rows = await asyncio.gather(*(one(client, f"many{i}") for i in range(12)))
            assert threading.active_count() == threads
            return rows

    threads = threading.active_count()
    assert asyncio.run(run()) == [list(range(20))] * 12


def test_requests_are_answered_beside_each_other_and_beside_frames(daemon):
    async def run() -> None:
        async with client_of(daemon) as client, await client.open_stream("asked", reply="tracks") as stream:
            for seq in range(5):
                await stream.track(None, detections(seq))
            status, live, history, position = await asyncio.gather(
                client.status(), client.live("asked"), client.history("asked"), client.live_position("asked")
            )
            assert "asked" in {row.stream for row in status.streams}
            assert len(live.tracks) == len(walking_boxes(0))
            assert [tracks.seq for tracks in history] == list(range(5))
            assert position == (stream.epoch, 4)
            effective = await client.configure("asked", {"stream": {"on_overload": "drop_oldest"}})
            assert effective["stream"]["on_overload"] == "drop_oldest"
            epoch = await client.reset("asked")
            assert epoch > live.epoch
            assert (await stream.track(None, detections(5))).epoch == epoch

    asyncio.run(run())


def test_a_correction_applies_from_the_next_frame_on(daemon):
    async def run() -> None:
        async with client_of(daemon) as client, await client.open_stream("corrected", reply="tracks") as stream:
            first, second, *others = (await stream.track(None, detections(0))).track_ids.tolist()
            done = await client.swap_tracks("corrected", first, second, author="tester")
            assert (done.number, done.seq) == (1, 0)
            await client.rename_track("corrected", first, "Ada")
            tracks = await stream.track(None, detections(1))
            assert tracks.track_ids.tolist() == [second, first, *others]
            assert tracks.names[1] == "Ada"
            with pytest.raises(TrackdError, match="there is no track 99"):
                await client.end_track("corrected", 99)

    asyncio.run(run())


def test_refusals_and_wrong_values_are_errors_with_their_reason(daemon):
    async def run() -> None:
        async with client_of(daemon) as client:
            with pytest.raises(TrackdError, match="max_tracks"):
                await client.open_stream("wrong", config={"max_tracks": -3})
            with pytest.raises(TrackdError, match="name"):
                await client.open_stream("a name with blanks")
            stream = await client.open_stream("right", reply="tracks")
            with pytest.raises(TrackdError, match="open in this client"):
                await client.open_stream("right")
            with pytest.raises(TrackdError, match="nanoseconds"):
                await stream.track(None, detections(0), t_ns=1.5)
            assert (await stream.track(None, detections(0))).seq == 0
            await client.request("stream.close", stream="right")

            async def send_one_more() -> None:
                await stream.send(None, detections(1))
                await stream.flush()

            with pytest.raises(StreamLost):
                await send_one_more()

    asyncio.run(run())


def test_a_cancelled_call_leaves_the_stream_usable(daemon):
    async def run() -> None:
        async with client_of(daemon) as client, await client.open_stream("cancelled", reply="tracks") as stream:
            image = np.zeros((40, 60), np.uint8)
            for seq in range(10):
                call = asyncio.create_task(stream.track(image, detections(seq)))
                await asyncio.sleep(0)  # the frame is sent, or waits for credit
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                image[:] = seq  # the client holds a copy by now
            await stream.flush()
            sent = stream.next_seq
            assert sent >= 8  # the depth of the queue
            assert [tracks.seq for tracks in await client.history("cancelled")] == list(range(sent))
            assert (await stream.track(image, detections(10))).seq == sent

    asyncio.run(run())


def test_images_pass_through_shared_memory(daemon):
    async def run() -> int:
        async with client_of(daemon) as client:
            stream = await client.open_stream("shared", shared_memory=True, reply="tracks")
            async with stream:
                for seq in range(40):
                    tracks = await stream.track(np.full((48, 64), seq, np.uint8), detections(seq))
                tracks = await stream.track(np.zeros((24, 32, 3), np.uint8), detections(40))
            return tracks.seq

    assert asyncio.run(run()) == 40


def test_a_daemon_that_does_not_answer_is_a_timeout_that_names_it():
    async def run() -> None:
        async with AsyncClient("tcp://127.0.0.1:9", "tcp://127.0.0.1:9", "tcp://127.0.0.1:9", timeout_s=0.2) as client:
            with pytest.raises(Timeout, match=r"tcp://127\.0\.0\.1:9 did not open stream 'x' within 0\.2 s"):
                await client.open_stream("x")
            with pytest.raises(Timeout, match="did not answer status within"):
                await client.status()
            with pytest.raises(Timeout, match="ping"):
                await client.clock()

    asyncio.run(run())


def test_a_closed_client_says_so(daemon):
    async def run() -> None:
        client = client_of(daemon)
        await client.status()
        await client.close()
        await client.close()
        for call in (client.status(), client.open_stream("x"), client.clock()):
            with pytest.raises(TrackdError, match="closed"):
                await call
        with pytest.raises(TrackdError, match="closed"):
            client.tracks("x")

    asyncio.run(run())


def test_the_daemons_clock_is_known_and_the_owner_stays_alive_while_it_waits():
    async def run() -> None:
        with DaemonProcess("stream.owner_timeout_s=5", "stream.idle_timeout_s=5") as daemon:
            async with client_of(daemon) as client, await client.open_stream("idle", reply="tracks") as stream:
                await stream.track(None, detections(0))
                clock = await client.clock()
                assert abs(clock.offset_ns) < 1_000_000_000
                await asyncio.sleep(6.5)  # longer than both timeouts: only pings keep the stream
                tracks = await stream.track(None, detections(1))
                assert (tracks.seq, tracks.epoch) == (1, stream.epoch)
                assert (await client.capture_latency(tracks)).latency_ns < 60_000_000_000

    asyncio.run(run())


def test_a_stream_continues_with_a_daemon_that_was_killed_and_started_again(tmp_path):
    state = f"daemon.state_dir={tmp_path}"

    async def run() -> None:
        with DaemonProcess(state) as first:
            at = first.addresses
            fixed = [f"daemon.endpoints.{name}={at[name]}" for name in ("ingest", "tracks", "control")]
            client = client_of(first, timeout_s=60)
            stream = await client.open_stream("survivor", reply="tracks")
            before = [(await stream.track(None, detections(seq))).track_ids.tolist() for seq in range(10)]
            os.kill(first.process.pid, signal.SIGKILL)
            await asyncio.to_thread(first.process.wait)
        sending = asyncio.create_task(stream.track(None, detections(10)))
        await asyncio.sleep(0.3)
        starting = asyncio.to_thread(DaemonProcess, state, *fixed)
        second = await starting
        try:
            assert (await asyncio.wait_for(sending, 60)).track_ids.tolist() == before[-1]
            seqs = [tracks.seq for tracks in await client.history("survivor")]
            assert seqs == list(range(11))
            await stream.close()
            await client.close()
        finally:
            second.__exit__()

    asyncio.run(run())
