"""`trackd fleet`: the members of a fleet and the streams that they own."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

CONTROL = "tcp://127.0.0.1:5572"
_POLL_S = 0.2

app = typer.Typer(help="Look at a fleet of daemons, and move its streams.", no_args_is_help=True)
Endpoint = Annotated[str, typer.Option("--endpoint", help="The control endpoint of any member.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ServerKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The daemons' server.key, if they use CURVE.")]
ClientKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Your NAME.key_secret, if they use CURVE.")]
MemberName = Annotated[str, typer.Argument(metavar="MEMBER", help="The name of a member.")]
StreamName = Annotated[str, typer.Argument(metavar="STREAM", help="The name of a stream.")]


@app.command()
def status(
    endpoint: Endpoint = CONTROL,
    as_json: AsJson = False,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Show the living members, and who owns each stream."""
    found = _ask(endpoint, _keys(server_key, client_key), "fleet.status")
    if as_json:
        typer.echo(json.dumps(found))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(Console().width, 100))
    table = Table("member", "streams", "capacity", "state", "control", "version")
    for row in found["members"]:
        state = "draining" if row["draining"] else "living"
        table.add_row(
            row["name"], str(row["streams"]), str(row["capacity"]), state, row["endpoints"]["control"], row["version"]
        )
    console.print(table)
    streams = Table("stream", "member", "term", "owner")
    for row in found["streams"]:
        streams.add_row(row["stream"], row["member"], str(row["term"]), "living" if row["alive"] else "gone")
    console.print(streams)


@app.command()
def locate(
    stream: StreamName,
    endpoint: Endpoint = CONTROL,
    as_json: AsJson = False,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Show which member has a stream, or would get it."""
    found = _ask(endpoint, _keys(server_key, client_key), "locate", stream=stream)
    if as_json:
        typer.echo(json.dumps(found))
        return
    how = f"term {found['term']}" if found["owned"] else "nobody owns it; it would be placed there"
    typer.echo(f"{stream}: {found['member']} ({how})")
    for name, where in sorted(found["endpoints"].items()):
        typer.echo(f"  {name}: {where}")


@app.command()
def drain(
    member: MemberName,
    endpoint: Endpoint = CONTROL,
    timeout_s: Annotated[float, typer.Option(help="How long to wait until its streams are elsewhere.")] = 60.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Move all streams of a member to the others, one after the other, and end its daemon."""
    keys = _keys(server_key, client_key)
    members = _members(_ask(endpoint, keys, "fleet.status"))
    others = [where for name, where in members.items() if name != member]
    begun = _ask(_control(members, member), keys, "fleet.drain")
    if not others:
        _fail(f"member {member!r} is the last one: its streams wait for another")
    typer.echo(f"{member}: {begun['streams']} streams are handed on")
    from rich.progress import Progress

    deadline = time.monotonic() + timeout_s
    with Progress() as progress:
        task = progress.add_task("streams", total=begun["streams"])
        while time.monotonic() < deadline:
            found = _ask(others[0], keys, "fleet.status")
            left = sum(row["member"] == member for row in found["streams"])
            progress.update(task, completed=max(0, begun["streams"] - left))
            if left == 0 and member not in _members(found):
                typer.echo(f"{member}: it has no stream any more, and has left the fleet")
                return
            time.sleep(_POLL_S)
    _fail(f"member {member!r} still has {left} streams after {timeout_s:g} s")


@app.command()
def move(
    stream: StreamName,
    member: MemberName,
    endpoint: Endpoint = CONTROL,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Move a stream to a member. Its client and its subscribers follow."""
    keys = _keys(server_key, client_key)
    found = _ask(endpoint, keys, "locate", stream=stream)
    if not found["owned"]:
        _fail(f"nobody has stream {stream!r}, so there is nothing to move")
    _ask(found["endpoints"]["control"], keys, "fleet.move", stream=stream, member=member)
    typer.echo(f"{stream}: {found['member']} hands it on to {member}")


@app.command()
def rebalance(
    endpoint: Endpoint = CONTROL,
    as_json: AsJson = False,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Move streams until each member has its share by capacity; as few as possible."""
    keys = _keys(server_key, client_key)
    moves = []
    for where in _members(_ask(endpoint, keys, "fleet.status")).values():
        moves += _ask(where, keys, "fleet.rebalance")
    if as_json:
        typer.echo(json.dumps(moves))
        return
    for each in moves:
        typer.echo(f"{each['stream']}: to {each['member']}")
    typer.echo(f"{len(moves)} streams move")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the files of the servers and daemons.")] = Path("fleet-demo"),
) -> None:
    """Run three NATS servers, three daemons and six cameras on this machine, and kill one of the daemons."""
    from trackd.commands.demo.fleet import run_fleet_demo

    if not run_fleet_demo(out):
        _fail("some frames have other ids than in a run that nothing disturbs")


def _keys(server_key: Path | None, client_key: Path | None) -> dict[str, Any]:
    from trackd_client.transport.curve import load_keys  # ZeroMQ: not at the start of every command

    return dict(load_keys(server_key, client_key))


def _members(status: dict[str, Any]) -> dict[str, str]:
    return {row["name"]: row["endpoints"]["control"] for row in status["members"]}


def _control(members: dict[str, str], name: str) -> str:
    if name not in members:
        _fail(f"no living member has the name {name!r}; living: {', '.join(sorted(members)) or 'none'}")
    return members[name]


def _ask(endpoint: str, keys: dict[str, Any], method: str, **params: Any) -> Any:
    from trackd_client import Client, TrackdError

    try:
        with Client(control=endpoint, **keys) as client:
            return client.request(method, **params)
    except TrackdError as error:
        _fail(str(error))


def _fail(text: str) -> NoReturn:
    sys.stderr.write(f"trackd: {text}\n")
    raise typer.Exit(1)
