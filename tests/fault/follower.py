"""A reader of the four cameras' tracks: through the SDK, and with a plain SUB socket that receives repeats too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import zmq
from cameras import STREAMS

from trackd_client import Client, Tracks
from trackd_client.protocol import ProtocolError, decode

SILENCE_S = 60.0


def content(tracks: Tracks) -> tuple[Any, ...]:
    """Return the fields that must not differ between runs: all but timing and epoch."""
    arrays = (tracks.track_ids, tracks.track_scores, tracks.boxes)
    return (
        tracks.seq, tracks.frame_index, tracks.t_ns, str(tracks.status), tracks.reason,
        *(None if array is None else (array.shape, array.tobytes()) for array in arrays),
        tracks.new_tracks, tracks.lost_tracks, tracks.found_tracks, tracks.ended_tracks, tracks.restored_tracks,
        tracks.flags, tracks.parents,
    )  # fmt: skip


class Follower:
    """Reads each stream from its first frame in a separate thread, also over restarts of the daemon.

    Attributes:
        rows: by stream, the settlements of the SDK's subscription.
        published: the settlements that a plain SUB socket received, with gaps and repeats.
    """

    def __init__(self, at: dict[str, str]) -> None:
        self.rows: dict[str, list[Tracks]] = {name: [] for name in STREAMS}
        self.published: list[Tracks] = []
        self.unreadable = 0
        self.failures: list[BaseException] = []
        self._stopping = False
        self._client = Client(at["ingest"], at["tracks"], at["control"], timeout_s=SILENCE_S)
        self._context = zmq.Context()
        plain = self._context.socket(zmq.SUB)
        plain.rcvhwm = 0
        plain.subscribe(b"tracks/")
        plain.connect(at["tracks"])
        self._threads = [threading.Thread(target=self._listen, args=(plain,), daemon=True)]
        for name in STREAMS:
            subscription = self._client.tracks(name, from_seq=0)
            self._threads.append(threading.Thread(target=self._read, args=(name, subscription), daemon=True))
        for thread in self._threads:
            thread.start()

    def counts(self) -> list[int]:
        """Return the next seq of each stream."""
        return [rows[-1].seq + 1 if (rows := self.rows[name]) else 0 for name in STREAMS]

    def wait_for(
        self, counts: list[int], timeout_s: float = SILENCE_S, unless: Callable[[], bool] = lambda: False
    ) -> None:
        """Wait until each stream has `counts` settlements, or until `unless` is true."""
        deadline = time.monotonic() + timeout_s
        while not unless() and any(have < want for have, want in zip(self.counts(), counts, strict=True)):
            assert not self.failures, self.failures
            assert time.monotonic() < deadline, f"{self.counts()} settlements within {timeout_s} s, not {counts}"
            time.sleep(0.01)

    def close(self) -> None:
        """End the threads and their sockets."""
        self._stopping = True
        self._client.close()
        for thread in self._threads:
            thread.join(5)
        self._context.destroy(linger=0)

    def _read(self, name: str, subscription: Any) -> None:
        try:
            self.rows[name].extend(subscription)
        except BaseException as error:
            if not self._stopping:
                self.failures.append(error)

    def _listen(self, plain: Any) -> None:
        while not self._stopping:
            if plain.poll(50):
                try:
                    self.published.append(decode(plain.recv_multipart()[1:]))
                except ProtocolError:
                    self.unreadable += 1
        plain.close(linger=0)
