"""Cameras that send to a fleet, a follower of each, and the laws that hold whatever happens to the members."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import zmq
from cameras import detections
from follower import content

from trackd import track
from trackd_client import FleetClient, Tracks
from trackd_client.protocol import EventName, ProtocolError, decode

FPS = 30.0
_END_S = 60.0


class FleetCamera:
    """One stream: a client that sends at a fixed rate, and another one that follows it from the first frame.

    Attributes:
        sent: the number of frames.
        acked: the number of frames that are known to be settled.
        rows: the settlements, with the monotonic time of their receipt.
    """

    def __init__(self, controls: Sequence[str], name: str, camera: int, fps: float = FPS) -> None:
        self.name, self.camera, self._fps = name, camera, fps
        self.sent = self.acked = 0
        self.rows: list[tuple[float, Tracks]] = []
        self.faults: list[BaseException] = []
        self._stopping = threading.Event()
        self._sender = FleetClient(controls, timeout_s=30)
        self._reader = FleetClient(controls, timeout_s=30)
        self._opened = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(run,), daemon=True) for run in (self._send,)]
        self._threads[0].start()
        assert self._opened.wait(30), self.faults
        self._threads.append(threading.Thread(target=self._guarded, args=(self._follow,), daemon=True))
        self._threads[1].start()

    def _guarded(self, run: Any) -> None:
        try:
            run()
        except BaseException as error:
            self.faults.append(error)

    def _send(self) -> None:
        stream = self._sender.open_stream(self.name, frame_shape=(480, 640))
        self._opened.set()
        due = time.monotonic()
        while not self._stopping.is_set():
            index = self.sent
            stream.send(
                None, detections(self.camera, index), frame_index=index, t_ns=round(index * 1e9 / 30), timeout_s=_END_S
            )
            self.sent += 1
            self.acked = self.sent - stream.unacked
            due = max(due + 1 / self._fps, time.monotonic() - 1.0)
            time.sleep(max(0.0, due - time.monotonic()))
        stream.close(timeout_s=_END_S)
        self.acked = self.sent

    def _follow(self) -> None:
        for tracks in self._reader.tracks(self.name, from_seq=0, until_closed=True):
            self.rows.append((time.monotonic(), tracks))

    def stop(self) -> None:
        """Close the stream, and read it to its end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(_END_S)
            assert not thread.is_alive(), f"{self.name}: {len(self.rows)} settlements of {self.sent} frames"
        self.close()
        assert not self.faults, self.faults

    def close(self) -> None:
        self._sender.close()
        self._reader.close()

    def gap_after(self, moment: float) -> float:
        """Return the time between the last settlement before a moment, plus 0.5 s, and the next one; seconds."""
        times = [at for at, _ in self.rows]
        gaps = [(later - at, at) for at, later in pairwise(times) if moment - 1 <= at <= moment + 0.5]
        return max(gaps)[0]

    def assert_undisturbed(self) -> None:
        """Each frame was settled once, in order, in one epoch, with the ids of an undisturbed run."""
        rows = [tracks for _, tracks in self.rows]
        assert [tracks.seq for tracks in rows] == list(range(self.sent))
        assert [tracks.frame_index for tracks in rows] == list(range(self.sent))
        assert len({tracks.epoch for tracks in rows}) == 1
        assert {str(tracks.status) for tracks in rows} == {"tracked"}
        wanted = track(detections(self.camera, index) for index in range(self.sent))
        differing = [
            tracks.seq
            for tracks, frame in zip(rows, wanted, strict=True)
            if not np.array_equal(tracks.track_ids, frame.track_ids)
        ]
        assert not differing, (
            f"{self.name}: {len(differing)} of {self.sent} frames have other ids, first {differing[:3]}"
        )


class Published:
    """All that the members publish, by plain SUB sockets: which contents each settlement was published with."""

    def __init__(self, endpoints: Sequence[str]) -> None:
        self.contents: dict[tuple[str, int, int], set[str]] = defaultdict(set)
        self.by_member: dict[str, list[tuple[float, Tracks]]] = {endpoint: [] for endpoint in endpoints}
        self.moved: list[str] = []  # streams, by the events
        self._stopping = False
        self._thread = threading.Thread(target=self._run, args=(list(endpoints),), daemon=True)
        self._thread.start()

    def _run(self, endpoints: list[str]) -> None:
        with zmq.Context() as context:
            poller, sockets = zmq.Poller(), {}
            for endpoint in endpoints:
                plain = context.socket(zmq.SUB)
                plain.rcvhwm, plain.linger = 0, 0
                plain.subscribe(b"")
                plain.connect(endpoint)
                poller.register(plain, zmq.POLLIN)
                sockets[plain] = endpoint
            while not self._stopping:
                for plain, _ in poller.poll(50):
                    self._take(sockets[plain], plain.recv_multipart())
            for plain in sockets:
                plain.close(linger=0)

    def _take(self, endpoint: str, parts: list[bytes]) -> None:
        try:
            message = decode(parts[1:])
        except ProtocolError:
            return
        if isinstance(message, Tracks):
            digest = hashlib.sha256(repr(content(message)).encode()).hexdigest()
            self.contents[message.stream, message.epoch, message.seq].add(digest)
            self.by_member[endpoint].append((time.monotonic(), message))
        elif getattr(message, "event", None) is EventName.MOVED:
            self.moved.append(message.stream)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(10)

    def assert_once(self) -> None:
        """No settlement was published with two contents."""
        assert self.contents
        twice = [key for key, found in self.contents.items() if len(found) > 1]
        assert not twice, twice[:5]
