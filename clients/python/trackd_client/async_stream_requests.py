"""The control requests about streams, for every asyncio client of the SDK."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trackd_client.protocol import Tracks
from trackd_client.replies import (
    Corrected,
    LiveTracks,
    StreamRecording,
    StreamZones,
    read_corrected,
    read_history,
    read_live_tracks,
    read_map,
    read_recording,
    read_zones,
    zones_params,
)


class AsyncStreamRequests(ABC):
    """The requests about streams, over one method that sends them."""

    @abstractmethod
    async def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol. The methods below cover most of them.

        Raises:
            TrackdError: the daemon refuses, or the connection was lost before the answer.
            Timeout: the daemon did not answer.
        """

    @abstractmethod
    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        """Note the effective configuration of a stream, if this client has it open."""

    async def live(self, stream: str) -> LiveTracks:
        """Return the tentative, active and lost tracks of a stream, without those that ended."""
        return read_live_tracks(stream, await self.request("tracks.live", stream=stream))

    async def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq of a stream; the seq is −1 before its first frame."""
        reply = read_map(await self.request("tracks.live", stream=stream), "tracks.live")
        return reply["epoch"], reply["seq"]

    async def history(
        self,
        stream: str,
        *,
        epoch: int | None = None,
        from_seq: int | None = None,
        to_seq: int | None = None,
        limit: int | None = None,
    ) -> list[Tracks]:
        """Return settlements of the daemon's history, oldest first; `to_seq` is included. See `Client.history`."""
        wanted = {"epoch": epoch, "from_seq": from_seq, "to_seq": to_seq, "limit": limit}
        rows = await self.request("history", stream=stream, **{k: v for k, v in wanted.items() if v is not None})
        return read_history(rows)

    async def configure(self, stream: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change a stream's configuration between two frames and return the effective one. Identities are kept."""
        reply = await self.request("stream.configure", stream=stream, config=dict(config))
        effective = read_map(reply, "stream.configure")
        self._configured(stream, effective)
        return effective

    async def reset(self, stream: str) -> int:
        """Reset a stream's state and return the new epoch."""
        return int(read_map(await self.request("stream.reset", stream=stream), "stream.reset")["epoch"])

    async def correct(self, stream: str, action: str, *, author: str | None = None, **params: Any) -> Corrected:
        """Correct the tracks of a stream from the next frame on. The methods below are this call for each action.

        Args:
            stream: its name.
            action: `rename`, `swap`, `merge`, `end`, `new_id` or `undo`.
            author: who corrects, at most 64 characters; for people who read the events and the outputs.
            params: of the action, as the protocol has them: `track`, `tracks`, `into`, `name`, `number`.

        Raises:
            TrackdError: `bad_correction`: it is not possible, and nothing has changed; the text states what would be.
        """
        if author is not None:
            params["author"] = author
        return read_corrected(await self.request("stream.correct", stream=stream, action=action, **params))

    async def rename_track(self, stream: str, track: int, name: str | None, *, author: str | None = None) -> Corrected:
        """Give a track a name of 1 to 64 characters that no other live track of the stream has; None removes it."""
        return await self.correct(stream, "rename", author=author, track=track, name=name)

    async def swap_tracks(self, stream: str, one: int, other: int, *, author: str | None = None) -> Corrected:
        """Exchange the ids of two animals. Names stay with the ids."""
        return await self.correct(stream, "swap", author=author, tracks=[one, other])

    async def merge_tracks(self, stream: str, track: int, into: int, *, author: str | None = None) -> Corrected:
        """Let the animal of one track go on as another track; at most one of them is in the last frame."""
        return await self.correct(stream, "merge", author=author, track=track, into=into)

    async def end_track(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """End a track. A detection of its animal begins a new one."""
        return await self.correct(stream, "end", author=author, track=track)

    async def new_track_id(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """Let the animal of a track go on with a new id; the old id ends."""
        return await self.correct(stream, "new_id", author=author, track=track)

    async def undo_correction(self, stream: str, number: int | None = None, *, author: str | None = None) -> Corrected:
        """Undo the correction of this number, or the last one that is not undone."""
        wanted = {} if number is None else {"number": number}
        return await self.correct(stream, "undo", author=author, **wanted)

    async def zones(self, stream: str) -> StreamZones:
        """Return the zones and lines that people have drawn on a stream's picture."""
        return read_zones(stream, await self.request("stream.zones", stream=stream))

    async def set_zones(
        self,
        stream: str,
        zones: Mapping[str, Sequence[Sequence[float]]],
        lines: Mapping[str, Sequence[Sequence[float]]] = MappingProxyType({}),
        *,
        author: str | None = None,
        number: int | None = None,
    ) -> StreamZones:
        """Replace all zones and lines of a stream, and return them with the number of this change.

        See `Client.set_zones`.
        """
        params = zones_params(zones, lines, author, number)
        return read_zones(stream, await self.request("stream.set_zones", stream=stream, **params))

    async def save_gallery(self, stream: str, gallery: str) -> list[str]:
        """Save what the named animals of a stream look like, for later sessions; return the names in the gallery.

        See `Client.save_gallery`.
        """
        reply = read_map(await self.request("identities.save", stream=stream, gallery=gallery), "identities.save")
        return [str(name) for name in reply["animals"]]

    async def galleries(self) -> list[str]:
        """Return the names of the daemon's galleries, for `tracker.gallery`."""
        return [str(name) for name in await self.request("identities.list")]

    async def start_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """Let the daemon record the published messages of a stream, from the next one on, in its own folder.

        Raises:
            TrackdError: `bad_recording`: the daemon has no folder for recordings, or the stream is recorded already.
        """
        wanted = {} if author is None else {"author": author}
        return read_recording(await self.request("recording.start", stream=stream, **wanted), active=True)

    async def stop_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """End the recording of a stream; return its counts when all of it is on the daemon's disk."""
        wanted = {} if author is None else {"author": author}
        return read_recording(await self.request("recording.stop", stream=stream, **wanted), active=False)
