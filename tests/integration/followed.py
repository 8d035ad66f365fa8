"""A stream that is followed on a thread."""

from __future__ import annotations

import threading

from trackd_client import Client, FleetClient, Tracks


def follow(
    client: Client | FleetClient, stream: str, into: list[Tracks], from_seq: int | None = None
) -> threading.Thread:
    """Follow a stream to its close on a thread, which is returned after the subscription; it closes the client."""
    subscription = client.tracks(stream, from_seq=from_seq, until_closed=True, timeout_s=60)

    def run() -> None:
        with client:
            into.extend(subscription)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
