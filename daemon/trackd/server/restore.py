"""A session from what the journal holds of it, and what has to be in the journal for that."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trackd.config import StreamSettings
from trackd.engine.outcome import tracks_of_record
from trackd.engine.queue import StreamQueue
from trackd.server.history import History
from trackd.server.session import Session
from trackd.store.records import StoredStream
from trackd_client.configuration import validate
from trackd_client.detections import Skeleton
from trackd_client.protocol import Open

NOBODY = b""  # the owner of a stream that nobody has come back for


def opened_map(session: Session) -> dict[str, Any]:
    """What a stream is, as plain values."""
    return {
        "settings": session.settings.as_map(),
        "model": session.model,
        "reply_tracks": session.reply_tracks,
        "skeleton": None if session.skeleton is None else asdict(session.skeleton),
        "frame_shape": None if session.frame_shape is None else list(session.frame_shape),
        "source": session.source,
    }


def restored_session(stored: StoredStream, history_bytes: int, now_ns: int) -> tuple[Session, Open]:
    """A stream without an owner, at the frame that it had come to; and the `open` that made it.

    Raises:
        ConfigError: its settings do not fit this version.
    """
    opened = stored.opened.opened
    name = stored.opened.stream
    settings = validate(StreamSettings, opened["settings"], f"stream {name!r} in the journal")
    skeleton = _skeleton(opened["skeleton"])
    shape = None if opened["frame_shape"] is None else tuple(opened["frame_shape"])
    queue = StreamQueue(name, settings.stream.queue_depth)
    last_seq = stored.opened.first_seq - 1
    if stored.snapshot is not None:
        last_seq = stored.snapshot.seq
    if stored.frames:
        last_seq = max(last_seq, stored.frames[-1].seq)
    queue.settled_seq = last_seq
    history = History(settings.stream.history_frames, history_bytes)
    for record in stored.frames:
        history.append(tracks_of_record(record))
    in_epoch = [record for record in stored.frames if record.epoch == stored.opened.epoch]
    session = Session(
        name=name,
        owner=NOBODY,
        epoch=stored.opened.epoch,
        settings=settings,
        queue=queue,
        history=history,
        model=opened["model"],
        reply_tracks=opened["reply_tracks"],
        last_heard_ns=now_ns,
        skeleton=skeleton,
        next_seq=last_seq + 1,
        settled_seq=last_seq,
        last_frame_index=max((record.frame_index for record in in_epoch), default=None),
        recovered_seq=last_seq,
        opening=False,
        frame_shape=shape,
        source=opened["source"],
    )
    return session, Open(name, skeleton=skeleton, frame_shape=shape, source=opened["source"])


def _skeleton(stored: dict[str, Any] | None) -> Skeleton | None:
    if stored is None:
        return None
    return Skeleton(tuple(stored["nodes"]), tuple((edge[0], edge[1]) for edge in stored["edges"]))
