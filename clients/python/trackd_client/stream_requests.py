"""The control requests about streams, for every client of the SDK."""

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


class StreamRequests(ABC):
    """The requests about streams, over one method that sends them."""

    @abstractmethod
    def request(self, method: str, **params: Any) -> Any:
        """Send any control request of the protocol. The methods below cover most of them.

        Raises:
            TrackdError: the daemon refuses, or the connection was lost before the answer.
            Timeout: the daemon did not answer.
        """

    @abstractmethod
    def _configured(self, stream: str, effective: Mapping[str, Any]) -> None:
        """Note the effective configuration of a stream, if this client has it open."""

    def live(self, stream: str) -> LiveTracks:
        """Return the tentative, active and lost tracks of a stream, without those that ended."""
        return read_live_tracks(stream, self.request("tracks.live", stream=stream))

    def live_position(self, stream: str) -> tuple[int, int]:
        """Return the epoch and the last settled seq of a stream; the seq is −1 before its first frame."""
        reply = read_map(self.request("tracks.live", stream=stream), "tracks.live")
        return reply["epoch"], reply["seq"]

    def history(
        self,
        stream: str,
        *,
        epoch: int | None = None,
        from_seq: int | None = None,
        to_seq: int | None = None,
        limit: int | None = None,
    ) -> list[Tracks]:
        """Return settlements of the daemon's history, oldest first; `to_seq` is included.

        One reply holds a limited number of settlements. Call again from the last seq plus 1 for more.
        """
        wanted = {"epoch": epoch, "from_seq": from_seq, "to_seq": to_seq, "limit": limit}
        rows = self.request("history", stream=stream, **{k: v for k, v in wanted.items() if v is not None})
        return read_history(rows)

    def configure(self, stream: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change a stream's configuration between two frames and return the effective one. Identities are kept."""
        effective = read_map(self.request("stream.configure", stream=stream, config=dict(config)), "stream.configure")
        self._configured(stream, effective)
        return effective

    def reset(self, stream: str) -> int:
        """Reset a stream's state and return the new epoch."""
        return int(read_map(self.request("stream.reset", stream=stream), "stream.reset")["epoch"])

    def correct(self, stream: str, action: str, *, author: str | None = None, **params: Any) -> Corrected:
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
        return read_corrected(self.request("stream.correct", stream=stream, action=action, **params))

    def rename_track(self, stream: str, track: int, name: str | None, *, author: str | None = None) -> Corrected:
        """Give a track a name of 1 to 64 characters that no other live track of the stream has; None removes it."""
        return self.correct(stream, "rename", author=author, track=track, name=name)

    def swap_tracks(self, stream: str, one: int, other: int, *, author: str | None = None) -> Corrected:
        """Exchange the ids of two animals. Names stay with the ids."""
        return self.correct(stream, "swap", author=author, tracks=[one, other])

    def merge_tracks(self, stream: str, track: int, into: int, *, author: str | None = None) -> Corrected:
        """Let the animal of one track go on as another track; at most one of them is in the last frame."""
        return self.correct(stream, "merge", author=author, track=track, into=into)

    def end_track(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """End a track. A detection of its animal begins a new one."""
        return self.correct(stream, "end", author=author, track=track)

    def new_track_id(self, stream: str, track: int, *, author: str | None = None) -> Corrected:
        """Let the animal of a track go on with a new id; the old id ends."""
        return self.correct(stream, "new_id", author=author, track=track)

    def undo_correction(self, stream: str, number: int | None = None, *, author: str | None = None) -> Corrected:
        """Undo the correction of this number, or the last one that is not undone."""
        wanted = {} if number is None else {"number": number}
        return self.correct(stream, "undo", author=author, **wanted)

    def zones(self, stream: str) -> StreamZones:
        """Return the zones and lines that people have drawn on a stream's picture."""
        return read_zones(stream, self.request("stream.zones", stream=stream))

    def set_zones(
        self,
        stream: str,
        zones: Mapping[str, Sequence[Sequence[float]]],
        lines: Mapping[str, Sequence[Sequence[float]]] = MappingProxyType({}),
        *,
        author: str | None = None,
        number: int | None = None,
    ) -> StreamZones:
        """Replace all zones and lines of a stream, and return them with the number of this change.

        Args:
            stream: its name.
            zones: by name 3 to 256 points x y, in pixels of the stream's frames.
            lines: by name two points.
            author: who changes them, at most 64 characters.
            number: of the change that these were made from: the daemon then refuses if there was another one since.

        Raises:
            TrackdError: `bad_message` or `too_large`: one line about what is not valid; `zones_changed`.
        """
        params = zones_params(zones, lines, author, number)
        return read_zones(stream, self.request("stream.set_zones", stream=stream, **params))

    def save_gallery(self, stream: str, gallery: str) -> list[str]:
        """Save what the named animals of a stream look like, for later sessions; return the names in the gallery.

        Args:
            stream: with `tracker.learn_identities: true`, or a `tracker.gallery`.
            gallery: its name: 1 to 64 letters, digits or `. _ -`. One of this name is replaced.

        Raises:
            TrackdError: `bad_config`: nothing is learnt, or no named animal was seen long enough.
        """
        reply = read_map(self.request("identities.save", stream=stream, gallery=gallery), "identities.save")
        return [str(name) for name in reply["animals"]]

    def galleries(self) -> list[str]:
        """Return the names of the daemon's galleries, for `tracker.gallery`."""
        return [str(name) for name in self.request("identities.list")]

    def start_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """Let the daemon record the published messages of a stream, from the next one on, in its own folder.

        Raises:
            TrackdError: `bad_recording`: the daemon has no folder for recordings, or the stream is recorded already.
        """
        wanted = {} if author is None else {"author": author}
        return read_recording(self.request("recording.start", stream=stream, **wanted), active=True)

    def stop_recording(self, stream: str, *, author: str | None = None) -> StreamRecording:
        """End the recording of a stream; return its counts when all of it is on the daemon's disk."""
        wanted = {} if author is None else {"author": author}
        return read_recording(self.request("recording.stop", stream=stream, **wanted), active=False)
