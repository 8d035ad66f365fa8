"""`trackd status`: a running daemon's streams and counts, as a table."""

from __future__ import annotations

import shutil
import sys

import typer
from rich.console import Console
from rich.table import Table

from trackd_client import Client, TrackdError
from trackd_client.transport.curve import ClientKeys

_LEAST_WIDTH = 130
COLUMNS = (
    "stream", "epoch", "next_seq", "model", "queued", "active_tracks", "received", "tracked", "dropped", "rejected",
)  # fmt: skip


def show_status(endpoint: str, timeout_s: float, keys: ClientKeys) -> None:
    """Request a daemon's status and print it; exit code 1 without a reply."""
    try:
        with Client(control=endpoint, timeout_s=timeout_s, **keys) as client:
            status = client.status()
    except TrackdError as error:
        sys.stderr.write(f"trackd: {error}\n")
        raise typer.Exit(1) from None
    state = "draining" if status.draining else "ready" if status.ready else "not ready"
    # A narrower table would cut off its column names.
    console = Console(width=max(shutil.get_terminal_size().columns, _LEAST_WIDTH))
    console.print(
        f"trackd {status.version}, protocol {status.protocol}, {state}, up {status.uptime_s:.0f} s, "
        f"device {status.device}, models {', '.join(status.models)}",
        highlight=False,
    )
    table = Table(*COLUMNS)
    for row in status.streams:
        table.add_row(*(str(getattr(row, column)) for column in COLUMNS))
    console.print(table)
    for row in status.streams:
        if row.unavailable is not None:
            console.print(f"{row.stream} is unavailable: {row.unavailable}", highlight=False)
