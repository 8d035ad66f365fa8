"""`trackd identities`: the galleries of a running daemon."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from trackd_client import Client, TrackdError
from trackd_client.transport.curve import ClientKeys


def save_gallery(endpoint: str, stream: str, gallery: str, keys: ClientKeys) -> None:
    """Save what the named animals of a stream look like, and print their names; exit code 1 if that fails."""
    names = _ask(endpoint, keys, lambda client: client.save_gallery(stream, gallery))
    typer.echo(f"{gallery}: {', '.join(names)}")


def list_galleries(endpoint: str, keys: ClientKeys) -> None:
    """Print the names of all galleries, one on each line; exit code 1 without a reply."""
    for name in _ask(endpoint, keys, lambda client: client.galleries()):
        typer.echo(name)


def _ask(endpoint: str, keys: ClientKeys, ask: Callable[[Client], list[str]]) -> list[str]:
    try:
        with Client(control=endpoint, **keys) as client:
            return ask(client)
    except TrackdError as error:
        sys.stderr.write(f"trackd: {error}\n")
        raise typer.Exit(1) from None
