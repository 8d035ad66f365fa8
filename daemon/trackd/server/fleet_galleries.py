"""The galleries of a fleet: what one member has saved, every other one can use."""

from __future__ import annotations

import asyncio
import logging

from trackd.fleet.store import AwayError, FleetStore
from trackd.identity.gallery import MAX_BYTES, Galleries
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_FOLDER = "galleries/"  # before a gallery's name in the store


class FleetGalleries:
    """Copies galleries between this member's folder and the store, on the event loop of the fleet's thread."""

    def __init__(self, store: FleetStore, galleries: Galleries) -> None:
        self._store = store
        self._galleries = galleries

    async def share(self, name: str) -> None:
        """Store a gallery that was saved here."""
        data = await asyncio.to_thread(self._galleries.path(name).read_bytes)
        await self._store.put_file(_FOLDER + name, data)

    async def fetch(self, name: str) -> None:
        """Get a gallery that another member has saved. Where the store has none, the one in the folder stays."""
        try:
            path = self._galleries.path(name)
            data = await self._store.get_file(_FOLDER + name)
        except (AwayError, ConfigError) as error:
            logger.warning("gallery %s: it cannot be fetched from the fleet's store: %s", name, error)
            return
        if data is None or len(data) > MAX_BYTES:
            return
        await asyncio.to_thread(self._galleries.replace_file, path, data)
