"""A stream with outputs: a raw client that keeps to its credit, and readers of the frames that its files hold."""

from __future__ import annotations

import time
from pathlib import Path

from raw_client import RawClient, walking_boxes

N_BOXES = 40


def csv_frames(path: Path) -> list[int]:
    """The frame of each row."""
    return [int(line.split(",")[0]) for line in path.read_text().splitlines()[1:]]


def mot_frames(path: Path) -> list[int]:
    """The frame of each row, from 0."""
    return [int(line.split(",")[0]) - 1 for line in path.read_text().splitlines()]


class Sender:
    """A stream of a raw client that sends as its credit allows, and repeats the frames that exceeded it."""

    def __init__(self, client: RawClient, stream: str, n_boxes: int = N_BOXES, **config: object) -> None:
        self.client, self.stream, self.n_boxes = client, stream, n_boxes
        self.credit = client.open(stream, config=config)["credit"]
        self.next_seq = 0
        self.acked = -1
        self.paused = False
        self.errors: list[str] = []

    def send(self, until: int, for_s: float) -> None:
        """Send up to a seq and wait for its ack; stop when the time is over."""
        deadline = time.monotonic() + for_s
        while self.acked < until - 1 and time.monotonic() < deadline:
            while self.credit > 0 and self.next_seq < until and not self.paused:
                self.client.frame(self.stream, self.next_seq, walking_boxes(self.next_seq, self.n_boxes))
                self.next_seq += 1
                self.credit -= 1
            self.receive(10)

    def receive(self, wait_ms: int) -> None:
        """Receive messages, until none arrives for some time."""
        while self.client.ingest.poll(wait_ms):
            self._receive(self.client.recv())

    def _receive(self, message: dict) -> None:
        if message["kind"] == "ack":
            self.acked = message["seq"]
            self.credit += message["credit"]
            self.paused = False
        elif message["kind"] == "error" and message["code"] == "no_credit" and message["seq"] < self.next_seq:
            self.credit += self.next_seq - message["seq"]
            self.next_seq = message["seq"]
            self.paused = True
        elif message["kind"] == "error" and message["code"] == "internal":
            self.errors.append(message["message"])
