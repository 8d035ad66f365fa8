"""Client SDK of trackd: send frames and detections, receive track ids live.

Example:
    with Client() as client, client.open_stream("cam1", reply="tracks") as stream:
        tracks = stream.track(image, Detections(boxes=boxes))
        tracks.track_ids
"""

from trackd_client.async_client import AsyncClient
from trackd_client.async_fleet_client import AsyncFleetClient
from trackd_client.client import Client
from trackd_client.detections import Detections, Skeleton
from trackd_client.errors import StreamLost, Timeout, TrackdError
from trackd_client.fleet.place import Place
from trackd_client.fleet_client import FleetClient
from trackd_client.following.subscription import EventSubscription
from trackd_client.following.tracks import TracksSubscription
from trackd_client.protocol import EncodedImage, Error, ErrorCode, Event, EventName, SharedImage, Status, Timing, Tracks
from trackd_client.replies import (
    Corrected,
    DaemonStatus,
    LiveTrack,
    LiveTracks,
    StreamRecording,
    StreamStatus,
    StreamZones,
)
from trackd_client.sending.async_stream import AsyncStream
from trackd_client.sending.clock import CaptureLatency, ClockOffset
from trackd_client.sending.stream import Stream
from trackd_client.transport.curve import KeyFileError, load_client_keys, load_server_key
from trackd_client.transport.shared_memory import ImageRing

__all__ = [
    "AsyncClient",
    "AsyncFleetClient",
    "AsyncStream",
    "CaptureLatency",
    "Client",
    "ClockOffset",
    "Corrected",
    "DaemonStatus",
    "Detections",
    "EncodedImage",
    "Error",
    "ErrorCode",
    "Event",
    "EventName",
    "EventSubscription",
    "FleetClient",
    "ImageRing",
    "KeyFileError",
    "LiveTrack",
    "LiveTracks",
    "Place",
    "SharedImage",
    "Skeleton",
    "Status",
    "Stream",
    "StreamLost",
    "StreamRecording",
    "StreamStatus",
    "StreamZones",
    "Timeout",
    "Timing",
    "TrackdError",
    "Tracks",
    "TracksSubscription",
    "load_client_keys",
    "load_server_key",
]
