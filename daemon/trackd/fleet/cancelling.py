"""The end of tasks."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger(__name__)

_TRIES, _TRY_S = 20, 0.1


async def cancelled(tasks: set[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended, for at most two seconds.

    One cancel is not enough: `asyncio.wait_for` of Python 3.11 returns a result that comes at the same time, and the
    cancel is lost (github.com/python/cpython/issues/86296).
    """
    for _ in range(_TRIES):
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=_TRY_S)
    logger.warning("%d tasks of the fleet have not ended", len(tasks))
