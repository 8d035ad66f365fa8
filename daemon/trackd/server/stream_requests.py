"""What is asked of an open stream between two frames and leaves it open: corrections, zones, galleries, live tracks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from trackd.engine.engine import Engine
from trackd.engine.inbox import Inbox
from trackd.engine.queue import AT_ONCE, Command
from trackd.engine.stream_zones import StreamZones
from trackd.identity.gallery import Galleries
from trackd.server.checks import as_protocol_error
from trackd.server.publisher import Publisher
from trackd.server.session import Session, opening_of
from trackd.tracking.correction import Applied, Correction
from trackd_client.protocol import EventName
from trackd_client.zones import Places

logger = logging.getLogger(__name__)

Done = Callable[[Any, Exception | None], None]


class StreamRequests:
    """Each request is a command to the engine; only the IO thread uses this.

    Args:
        inbox, engine: of the streams.
        publisher: of what a request changes.
        galleries: where what animals look like is saved.
        share_gallery: gives a gallery that was saved to the other members of a fleet.
    """

    def __init__(
        self,
        inbox: Inbox,
        engine: Engine,
        publisher: Publisher,
        galleries: Galleries,
        share_gallery: Callable[[str], None],
    ) -> None:
        self._inbox = inbox
        self._engine = engine
        self._publisher = publisher
        self._galleries = galleries
        self._share_gallery = share_gallery

    def correct(self, session: Session, correction: Correction, done: Done) -> None:
        """Apply a person's correction from the next frame on; answer with its number, once it is stored."""
        queue = session.queue

        def correct() -> tuple[Applied, int]:
            state = self._engine.state(queue)
            applied, seq = state.correct(correction), queue.settled_seq
            # The snapshot has the corrections too, so a restart repeats none. The opening has the next revision, so
            # that the head file shows where both are missing.
            self._engine.record(lambda: opening_of(session, state))
            self._engine.record(lambda: state.snapshot_record(seq))
            return applied, seq

        def corrected(result: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            applied, seq = result
            logger.info(
                "stream=%s seq=%d: correction %d (%s) by %r",
                session.name, seq, applied.number, applied.action, applied.author,
            )  # fmt: skip
            self._publisher.corrected(session, applied)
            done({"number": applied.number, "epoch": session.epoch, "seq": seq}, None)

        self._inbox.command(queue, Command(AT_ONCE, correct, corrected))

    def set_zones(
        self, session: Session, places: Places, author: str, t_ns: int, number: int | None, done: Done
    ) -> None:
        """Replace the zones and lines of a stream; answer with them, once they are stored.

        Args:
            session: the stream.
            places: the new zones and lines.
            author: who asks for it.
            t_ns: when, Unix ns.
            number: of the change that they were made from; another one since then is an error. None: it is not.
            done: called with the result.
        """
        queue = session.queue

        def change() -> StreamZones:
            state = self._engine.state(queue)
            zones = state.set_zones(places, author, t_ns, number)
            self._engine.record(lambda: opening_of(session, state))
            return zones

        def changed(zones: Any, error: Exception | None) -> None:
            if error is not None:
                done(None, error)
                return
            session.zones = zones
            logger.info(
                "stream=%s seq=%d: %d zones and %d lines, change %d by %r",
                session.name, session.settled_seq, len(places.zones), len(places.lines), zones.number, author,
            )  # fmt: skip
            self._publisher.event(session, EventName.ZONES, zones.as_map())
            done({"epoch": session.epoch, **zones.as_map()}, None)

        self._inbox.command(queue, Command(AT_ONCE, change, changed))

    def save_gallery(self, session: Session, name: str, done: Done) -> None:
        """Save what the named animals of a stream look like; answer with their names, once it is written."""
        queue = session.queue

        def save() -> dict[str, Any]:
            gallery = self._engine.state(queue).gallery()
            self._galleries.save(name, gallery)
            return {"gallery": name, "animals": list(gallery.names)}

        def saved(result: Any, error: Exception | None) -> None:
            if error is None:
                logger.info("stream=%s: gallery %s saved, with %s", session.name, name, ", ".join(result["animals"]))
                self._share_gallery(name)
            done(result, error if error is None else as_protocol_error(error, session.name))

        self._inbox.command(queue, Command(AT_ONCE, save, saved))

    def live(self, session: Session, done: Done) -> None:
        """Answer with the live tracks after the last settled frame."""
        queue = session.queue

        def rows() -> dict[str, Any]:
            state = self._engine.state(queue)
            live = state.live
            tracks = [
                {
                    "id": track_id,
                    "state": state_name,
                    "box": box,
                    "frame_index": last,
                    "first_frame_index": first,
                    "name": name,
                }
                for track_id, name, state_name, box, last, first in zip(
                    live.ids.tolist(),
                    live.names,
                    live.states,
                    live.boxes.tolist(),
                    live.frame_index.tolist(),
                    live.first_frame_index.tolist(),
                    strict=True,
                )
            ]
            return {"epoch": state.epoch, "seq": queue.settled_seq, "tracks": tracks}

        self._inbox.command(queue, Command(AT_ONCE, rows, done))
