"""The client of a daemon: streams to send frames to, tracks to read, and control requests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from trackd_client.errors import FOLLOWS, TrackdError
from trackd_client.following.gap_filler import HistorySource
from trackd_client.following.subscription import Places
from trackd_client.protocol import ErrorCode, Tracks
from trackd_client.replies import DaemonStatus, StreamRecording, StreamStatus, read_recording, read_status
from trackd_client.requests import Requests
from trackd_client.sending.clock import CaptureLatency, ClockOffset
from trackd_client.sending.driver import IngestDriver
from trackd_client.sending.measured_clock import measured_clock
from trackd_client.stream_client import StreamClient
from trackd_client.transport.connection import Context

INGEST = "tcp://127.0.0.1:5570"
TRACKS = "tcp://127.0.0.1:5571"
CONTROL = "tcp://127.0.0.1:5572"
DRAIN_TIMEOUT_S = 60.0


class Client(StreamClient):
    """A connection to one daemon.

    Args:
        ingest: the endpoint for frames.
        tracks: the endpoint on which tracks and events are published.
        control: the endpoint for requests.
        context: a ZeroMQ context; the process's shared one if None.
        timeout_s: how long a call waits if it has no timeout of its own.
        server_key: the daemon's public CURVE key (`trackd_client.load_server_key`); None: no CURVE.
        client_keys: this client's public and secret key (`trackd_client.load_client_keys`).

    Raises:
        ValueError: a key is invalid, or only one of the two arguments is given.

    A socket connects at its first use. Every method may be called from any thread.
    """

    def __init__(
        self,
        ingest: str = INGEST,
        tracks: str = TRACKS,
        control: str = CONTROL,
        context: Context | None = None,
        timeout_s: float = 10.0,
        *,
        server_key: str | bytes | None = None,
        client_keys: tuple[str | bytes, str | bytes] | None = None,
    ) -> None:
        self.ingest_endpoint: str = ingest
        self.tracks_endpoint, self.control_endpoint = tracks, control
        super().__init__(context, timeout_s, server_key, client_keys)
        self._ingest: IngestDriver | None = None
        self._requests = Requests(self._context, control, self._keys)

    def clock(self, timeout_s: float | None = None) -> ClockOffset:
        """Return the offset of the daemon's clock, measured at the first call and then every two seconds.

        Raises:
            Timeout: the daemon did not answer; the text names the endpoint.
        """
        return measured_clock(self._ingest_driver(), self.timeout_s if timeout_s is None else timeout_s)

    @property
    def clock_offset_ns(self) -> int | None:
        """The daemon's clock minus this host's, or None before the first measurement; `clock` waits for it."""
        known = self._ingest.clock.at(time.time_ns()) if self._ingest is not None else None
        return known.offset_ns if known is not None else None

    @property
    def clock_uncertainty_ns(self) -> int | None:
        """The largest error of `clock_offset_ns`: half of a ping's round trip, plus the drift since then."""
        known = self._ingest.clock.at(time.time_ns()) if self._ingest is not None else None
        return known.uncertainty_ns if known is not None else None

    def capture_latency(self, tracks: Tracks) -> CaptureLatency:
        """Return the time from a frame's capture to this call. Call it when the settlement arrives.

        `tracks.t_ns` must be a time of the daemon's clock: the camera is on the daemon's host, or its stream was opened
        with `daemon_clock`. In the second case, add the uncertainty of the camera's own client.

        Raises:
            Timeout: the daemon's clock is not known, and the daemon does not answer.
        """
        now_ns = time.time_ns()
        clock = self.clock()
        return CaptureLatency(clock.daemon_ns(now_ns) - tracks.t_ns, clock.uncertainty_ns)

    def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol. The methods below cover most of them.

        Raises:
            TrackdError: the daemon refuses, or the connection was lost before the answer.
            Timeout: the daemon did not answer.
        """
        try:
            return self._requests.ask(method, params, self.timeout_s)
        except TrackdError as error:
            if error.code is ErrorCode.MOVED:
                raise TrackdError(f"{error.message}. {FOLLOWS}", error.code) from None
            raise

    def status(self) -> DaemonStatus:
        """Return the daemon's state and a row for each stream."""
        return read_status(self.request("status"))

    def streams(self) -> tuple[StreamStatus, ...]:
        """Return a row for each open stream."""
        return self.status().streams

    def recordings(self) -> list[StreamRecording]:
        """Return the recordings in the daemon's folder, oldest first, those that are still written last."""
        return [read_recording(row, active=False) for row in self.request("recording.list")]

    def models(self) -> list[Any]:
        """Return the loaded models."""
        return list(self.request("models"))

    def drain(self) -> Any:
        """Make the daemon stop accepting frames, settle the queued ones, write its snapshots and exit."""
        return self._requests.ask("drain", {}, max(self.timeout_s, DRAIN_TIMEOUT_S))

    def close(self) -> None:
        """Close all sockets. The daemon keeps open streams until a timeout or a takeover by another client."""
        self._close_subscriptions()
        if self._ingest is not None:
            self._ingest.close()
        self._requests.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        if self._ingest is not None:
            with self._ingest.turn():
                if (session := self._ingest.sessions.get(stream)) is not None:
                    session.configured(effective)

    def _driver_of(self, stream: str) -> IngestDriver:
        return self._ingest_driver()

    def _history_source(self) -> HistorySource:
        return self

    def _places(self) -> Places | None:
        return None

    def _ingest_driver(self) -> IngestDriver:
        with self._lock:
            if self._closed:
                raise TrackdError("the client is closed")
            if self._ingest is None:
                self._ingest = IngestDriver(self._context, self.ingest_endpoint, self._keys)
            return self._ingest
