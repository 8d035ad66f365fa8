"""Files that all members may read, in an object store of NATS."""

from __future__ import annotations

from typing import Any

from trackd.fleet.jetstream_connection import Connection
from trackd.fleet.settings import FleetSettings


class Files:
    """Reads and writes the files of a fleet."""

    def __init__(self, connection: Connection, settings: FleetSettings) -> None:
        self._connection = connection
        self._bucket = f"trackd_{settings.name}_files"
        self._replicas = settings.replicas

    def streams(self) -> list[dict[str, Any]]:
        return [
            {
                "name": f"OBJ_{self._bucket}", "subjects": [f"$O.{self._bucket}.C.>", f"$O.{self._bucket}.M.>"],
                "num_replicas": self._replicas, "storage": "file", "discard": "new", "allow_rollup_hdrs": True,
                "allow_direct": True,
            }
        ]  # fmt: skip

    async def _store(self) -> Any:
        client = await self._connection.ready()
        return await client.jetstream(timeout=5).object_store(self._bucket)

    async def put(self, name: str, data: bytes) -> None:
        await (await self._store()).put(name, data)

    async def get(self, name: str) -> bytes | None:
        from nats.js.errors import ObjectNotFoundError

        try:
            return bytes((await (await self._store()).get(name)).data)
        except ObjectNotFoundError:
            return None

    async def names(self) -> list[str]:
        from nats.js.errors import NotFoundError

        try:
            return sorted(each.name for each in await (await self._store()).list())
        except NotFoundError:
            return []
