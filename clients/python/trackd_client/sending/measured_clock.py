"""The offset of a daemon's clock, measured by the pings of a driver."""

from __future__ import annotations

import time

from trackd_client.errors import IS_IT_RUNNING, Timeout
from trackd_client.sending.async_driver import AsyncIngestDriver
from trackd_client.sending.clock import ClockOffset
from trackd_client.sending.driver import IngestDriver


def measured_clock(ingest: IngestDriver, limit_s: float) -> ClockOffset:
    """Return the offset of the daemon's clock, measured at the first call and then every two seconds.

    Raises:
        Timeout: the daemon did not answer; the text names the endpoint.
    """
    with ingest.turn():
        if not ingest.clock_wanted or not ingest.clock.samples:
            ingest.measure_clock(limit_s)
        return _known(ingest, limit_s)


async def measured_async_clock(ingest: AsyncIngestDriver, limit_s: float) -> ClockOffset:
    """Return what `measured_clock` does.

    Raises:
        Timeout: the daemon did not answer; the text names the endpoint.
    """
    if not ingest.clock_wanted or not ingest.clock.samples:
        await ingest.measure_clock(limit_s)
    return _known(ingest, limit_s)


def _known(ingest: IngestDriver | AsyncIngestDriver, limit_s: float) -> ClockOffset:
    known = ingest.clock.at(time.time_ns())
    if known is None:
        raise Timeout(
            f"the daemon at {ingest.endpoint} did not answer a ping within {limit_s:g} s: "
            f"{ingest.refusal or IS_IT_RUNNING}"
        )
    return known
