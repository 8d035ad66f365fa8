"""The `trackd` command. Exit codes: 0 done, 2 bad configuration or arguments, 1 anything else."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from trackd_client.configuration import ConfigError

app = typer.Typer(
    name="trackd",
    help="A streaming, real-time, multi-object tracking daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
checkpoint = typer.Typer(help="Look at checkpoints, and convert them.", no_args_is_help=True)
app.add_typer(checkpoint, name="checkpoint")
outputs = typer.Typer(help="Look after output files.", no_args_is_help=True)
app.add_typer(outputs, name="outputs")

OptionalConfig = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file; defaults without one.")]
RequiredConfig = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, such as a DREEM inference file.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="K=V", help="Override any key: a.b.c=value, parsed as YAML.")
]
ServerKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's server.key, where it has CURVE.")]
ClientKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Your NAME.key_secret, where it has CURVE.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to each stream.")]


@app.command()
def serve(config: OptionalConfig = None, overrides: Overrides = [], verbose: Verbose = False) -> None:  # noqa: B006
    """Run the daemon until SIGTERM or SIGINT; then settle what is queued and exit 0."""
    _log(verbose)
    from trackd.config import load_config

    loaded = load_config(config, overrides)  # its faults are told before all else is read
    from trackd.commands.serve import serve as run

    raise typer.Exit(run(loaded, config.parent if config is not None else None))


@app.command()
def track(
    config: RequiredConfig,
    overrides: Overrides = [],  # noqa: B006
    verbose: Verbose = False,
    render: Annotated[bool, typer.Option("--render", help="Write an .mp4 with ids and trails too.")] = False,
) -> None:
    """Track recordings through an in-process daemon, lossless, as fast as it goes; results go to out_dir."""
    _log(verbose)
    from trackd.commands.track import track as run
    from trackd.config import load_config

    run(load_config(config, overrides), config.parent, render=render)


@app.command(name="eval")
def evaluate(
    config: RequiredConfig,
    overrides: Overrides = [],  # noqa: B006
    verbose: Verbose = False,
    out: Annotated[Path | None, typer.Option(help="Where the scores go; out_dir/eval by default.")] = None,
) -> None:
    """Track recordings as `track` does, then score the tracks against the recordings' ground truth."""
    _log(verbose)
    from trackd.commands.eval import evaluate as run
    from trackd.config import load_config

    run(load_config(config, overrides), config.parent, out)


@app.command()
def status(
    endpoint: Annotated[str, typer.Option(help="The daemon's control endpoint.")] = "tcp://127.0.0.1:5572",
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Show a running daemon's streams and counts."""
    _log(False)
    from trackd.commands.status import show_status
    from trackd_client.transport.curve import load_keys

    show_status(endpoint, timeout_s, load_keys(server_key, client_key))


@app.command()
def keygen(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Gets the keys; made if absent.")],
    name: Annotated[str, typer.Option(help="The client's name.")] = "client",
    streams: Annotated[str, typer.Option(help="Streams that it may use: 'cam*', or 'cam1,cam2'.")] = "*",
    may: Annotated[str, typer.Option(help="What it may do with them.")] = "publish,subscribe,control",
) -> None:
    """Make a client's CURVE keys, and the daemon's where DIR has none; no file is ever overwritten."""
    from trackd.commands.keygen import make_keys
    from trackd.server.access.grants import split_words

    for path in make_keys(folder, name, split_words(streams), split_words(may)):
        typer.echo(f"wrote {path}")
    typer.echo("in the daemon's configuration:\n  security:\n    curve: true")
    typer.echo(f"    server_secret_key_file: {folder}/server.key_secret\n    authorized_clients_dir: {folder}/clients")
    typer.echo(f"{name} needs {folder}/server.key and {folder}/{name}.key_secret")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where the demo's files go.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the recording.")] = 3,
    speed: Annotated[str, typer.Option(help="1.0: as fast as it was recorded; max: as fast as it goes.")] = "1.0",
) -> None:
    """Make a small recording, replay it as a live stream through a real daemon, and look at the result."""
    _log(False)
    from trackd.commands.demo.demo import run_demo

    run_demo(out, seed, speed)


@checkpoint.command()
def inspect(file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt or .safetensors file.")]) -> None:
    """Show what a checkpoint is, and what it asks of a configuration."""
    from trackd.models.checkpoint.load import inspect as run

    typer.echo("\n".join(run(file).lines()))


@checkpoint.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt file of DREEM.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
) -> None:
    """Write a checkpoint's weights and configuration as .safetensors, which gives the same ids."""
    from trackd.models.checkpoint.load import convert as run

    typer.echo(f"wrote {run(file, out)}")


@outputs.command()
def recover(
    out_dir: Annotated[Path, typer.Argument(metavar="DIR", help="The out_dir of a process that was killed.")],
) -> None:
    """Finish the files of a process that was killed, from the parts that it left behind."""
    _log(False)
    from trackd.outputs.recover import recover as run

    for path in run(out_dir):
        typer.echo(f"wrote {path}")


@app.command()
def bench(
    streams: Annotated[int, typer.Option(help="Streams at once.")] = 1,
    fps: Annotated[float, typer.Option(help="Frames per second of each; inf: as fast as credit allows.")] = 30.0,
    instances: Annotated[int, typer.Option(help="Instances per frame.")] = 10,
    image: Annotated[str, typer.Option(metavar="WIDTHxHEIGHT", help="Send gray images of this size.")] = "0x0",
    seconds: Annotated[float, typer.Option(help="How long.")] = 10.0,
    closed_loop: Annotated[bool, typer.Option(help="Each frame waits for the ids of the one before.")] = False,
    clients: Annotated[int, typer.Option(help="Clients that share the streams; in closed loop each has one.")] = 1,
    ingest: Annotated[str | None, typer.Option(help="A running daemon's endpoint; else one is started.")] = None,
    tracks: Annotated[str, typer.Option(help="Of the same daemon.")] = "tcp://127.0.0.1:5571",
    control: Annotated[str, typer.Option(help="Of the same daemon.")] = "tcp://127.0.0.1:5572",
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Put a synthetic load on a daemon; print the latency of each stage and the rate it held."""
    _log(False)
    from trackd.commands.bench import Load, run_bench
    from trackd_client.transport.curve import load_keys

    width, separator, height = image.partition("x")
    if not (separator and width.isdigit() and height.isdigit()):
        raise ConfigError(f"--image takes WIDTHxHEIGHT; got {image!r}")
    load = Load(streams, fps, instances, int(width), int(height), seconds, closed_loop, clients)
    endpoints = None if ingest is None else {"ingest": ingest, "tracks": tracks, "control": control}
    run_bench(load, endpoints, overrides, keys=load_keys(server_key, client_key))


def _log(verbose: bool) -> None:
    level = os.environ.get("TRACKD_LOG", "INFO" if verbose else "WARNING").upper()
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line: a fault in the configuration is one line and exit code 2, never a traceback."""
    from trackd.models.errors import CheckpointError
    from trackd_client.recordings.recording import RecordingError
    from trackd_client.transport.curve import KeyFileError

    try:
        app(standalone_mode=True)
    except (CheckpointError, ConfigError, KeyFileError, RecordingError) as error:
        sys.stderr.write(f"trackd: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(1)


if __name__ == "__main__":
    main()
