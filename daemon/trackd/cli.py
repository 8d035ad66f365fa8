"""The `trackd` command. Exit codes: 0 success, 2 bad configuration or arguments, 1 any other failure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trackd.commands.fleet import app as fleet_app
from trackd_client.apps.camera import arguments as of
from trackd_client.apps.command_line import LogFormat, Logged, Version, log, run_command
from trackd_client.configuration import ConfigError

app = typer.Typer(
    name="trackd",
    help="A streaming, real-time, multi-object tracking daemon.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
checkpoint = typer.Typer(help="Inspect and convert checkpoints.", no_args_is_help=True)
app.add_typer(checkpoint, name="checkpoint")
outputs = typer.Typer(help="Recover output files.", no_args_is_help=True)
app.add_typer(outputs, name="outputs")
journal = typer.Typer(help="Check and repair the journal of a daemon that is stopped.", no_args_is_help=True)
app.add_typer(journal, name="journal")
identities = typer.Typer(help="Save what animals look like, for later sessions.", no_args_is_help=True)
app.add_typer(identities, name="identities")
app.add_typer(fleet_app, name="fleet")

CONTROL = "tcp://127.0.0.1:5572"
OptionalConfig = Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="YAML file; without it all defaults.")]
RequiredConfig = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, such as a DREEM inference file.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="K=V", help="Override any key: a.b.c=value, parsed as YAML.")
]
ServerKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's server.key, if it uses CURVE.")]
ClientKey = Annotated[Path | None, typer.Option(metavar="FILE", help="Your NAME.key_secret, if it uses CURVE.")]
StateDir = Annotated[Path, typer.Argument(metavar="DIR", help="The daemon's state_dir.")]
AllowRejected = Annotated[bool, typer.Option("--allow-rejected", help="Exit code 0 although frames were rejected.")]
ControlEndpoint = Annotated[str, typer.Option("--endpoint", help="The daemon's control endpoint.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log the events of each stream.")]


@app.command()
def serve(
    config: OptionalConfig = None,
    overrides: Overrides = [],  # noqa: B006
    verbose: Verbose = False,
    log_format: Logged = LogFormat.TEXT,
) -> None:
    """Run the daemon until SIGTERM or SIGINT; then settle the queued frames and exit 0."""
    log(verbose, log_format)
    from trackd.config import load_config

    loaded = load_config(config, overrides)  # before the slow imports, so that its errors are shown at once
    from trackd.commands.serve import serve as run

    raise typer.Exit(run(loaded, config.parent if config is not None else None))


@app.command()
def track(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A recording, a folder of them, or a YAML file.")],
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", "-ckpt", metavar="FILE", help="A checkpoint; else by motion.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results.")] = None,
    crop_size: Annotated[
        int | None, typer.Option("--crop-size", "-cs", min=1, help="Side of an instance's crop, pixels.")
    ] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="The images of a recording.")] = None,
    overrides: Overrides = [],  # noqa: B006
    verbose: Verbose = False,
    render: Annotated[bool, typer.Option("--render", help="Also write an .mp4 with ids and trails.")] = False,
    allow_rejected: AllowRejected = False,
) -> None:
    """Track recordings with a daemon in this process, without dropping frames; write the results to out_dir."""
    log(verbose)
    from trackd.commands.source import configuration_of
    from trackd.commands.track import track as run

    config, base = configuration_of(
        source, overrides, checkpoint=checkpoint, output=output, crop_size=crop_size, video=video
    )
    run(config, base, render=render, allow_rejected=allow_rejected)


@app.command(name="eval")
def evaluate(
    config: RequiredConfig,
    overrides: Overrides = [],  # noqa: B006
    verbose: Verbose = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the scores; default: out_dir/eval.")] = None,
    allow_rejected: AllowRejected = False,
) -> None:
    """Track recordings as `track` does, and score the tracks against the ground truth."""
    log(verbose)
    from trackd.commands.eval import evaluate as run
    from trackd.config import load_config

    run(load_config(config, overrides), config.parent, out, allow_rejected=allow_rejected)


@app.command(name="convert")
def convert_tracks(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of tracks, or a folder of them.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The new file; or a folder, with --to.")],
    from_kind: Annotated[str | None, typer.Option("--from", metavar="FORMAT", help="Of IN; else by its name.")] = None,
    to_kind: Annotated[str | None, typer.Option("--to", metavar="FORMAT", help="Of OUT; else by its name.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="The images of IN, for the frames' size.")] = None,
    crop_size: Annotated[int, typer.Option(min=1, help="Side of a box for an instance that has one node.")] = 128,
) -> None:
    """Write the tracks of a file in another format; say what that does not hold."""
    log(False)
    from trackd.commands.convert import convert as run

    for done in run(source, target, from_kind=from_kind, to_kind=to_kind, video=video, crop_size=crop_size):
        for note in done.notes:
            typer.echo(note)
        typer.echo(f"wrote {done.path}: {done.frames} frames, {done.tracks} tracks")


@app.command()
def render(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A file of tracks, such as a .slp or .csv.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.mp4", help="The video to write.")],
    from_kind: Annotated[str | None, typer.Option("--from", metavar="FORMAT", help="Of IN; else by its name.")] = None,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="The images of IN; else those it names.")] = None,
    crop_size: Annotated[int, typer.Option(min=1, help="Side of a box for an instance that has one node.")] = 128,
) -> None:
    """Draw the boxes, poses, names and trails of finished tracks on the images, as a video that browsers play."""
    log(False)
    from trackd.commands.render import render as run

    typer.echo(f"wrote {target}: {run(source, target, from_kind=from_kind, video=video, crop_size=crop_size)} frames")


@app.command()
def status(
    endpoint: ControlEndpoint = CONTROL,
    timeout_s: Annotated[float, typer.Option(help="Seconds to wait for an answer.")] = 3.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Show a running daemon's streams and counts."""
    log(False)
    from trackd.commands.status import show_status
    from trackd_client.transport.curve import load_keys

    show_status(endpoint, timeout_s, load_keys(server_key, client_key))


@app.command()
def keygen(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the keys; made if absent.")],
    name: Annotated[str, typer.Option(help="The client's name.")] = "client",
    streams: Annotated[str, typer.Option(help="Streams that the client may use: 'cam*', or 'cam1,cam2'.")] = "*",
    may: Annotated[str, typer.Option(help="Rights on these streams.")] = "publish,subscribe,control",
) -> None:
    """Make a client's CURVE keys, and the daemon's if DIR has none; never overwrite a file."""
    from trackd.commands.keygen import make_keys
    from trackd.server.access.grants import split_words

    for path in make_keys(folder, name, split_words(streams), split_words(may)):
        typer.echo(f"wrote {path}")
    typer.echo("put into the daemon's configuration:\n  security:\n    curve: true")
    typer.echo(f"    server_secret_key_file: {folder}/server.key_secret\n    authorized_clients_dir: {folder}/clients")
    typer.echo(f"{name} needs {folder}/server.key and {folder}/{name}.key_secret")


@app.command()
def live(
    source: of.SourceArgument,
    detector: of.DetectorOption = "background",
    detector_options: of.DetectorOptions = [],  # noqa: B006
    animals: of.Animals = None,
    record: of.Record = None,
    outputs: of.Outputs = "slp,csv",
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the page, if this command starts the daemon.")
    ] = None,
    stream: of.StreamName = None,
    overrides: of.StreamConfig = [],  # noqa: B006
    speed: of.Speed = "1.0",
    loop: of.Loop = False,
    lossless: of.Lossless = False,
    gray: of.Gray = False,
    images: of.ImagesOption = "auto",
    no_images: of.NoImages = False,
    jpeg_quality: of.JpegQuality = None,
    takeover: of.Takeover = False,
    ingest: Annotated[str, typer.Option(help="Ingest endpoint of a daemon.")] = "tcp://127.0.0.1:5570",
    tracks: Annotated[str, typer.Option(help="Tracks endpoint of a daemon.")] = "tcp://127.0.0.1:5571",
    control: Annotated[str, typer.Option(help="Control endpoint of a daemon.")] = "tcp://127.0.0.1:5572",
    http: Annotated[str, typer.Option(help="HTTP address of a daemon.")] = "http://127.0.0.1:9570",
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Track a camera live, and show it in a browser; start a daemon if none runs."""
    log(verbose)
    try:
        from trackd.commands.live import Addresses
        from trackd.commands.live import live as run
        from trackd_client.apps.camera.command import camera_command
    except ModuleNotFoundError as error:
        raise of.missing_package(error) from None
    from trackd_client.transport.curve import load_keys

    command = camera_command(
        source,
        detector=detector,
        detector_options=detector_options,
        animals=animals,
        stream=stream,
        overrides=overrides,
        record=record,
        outputs=outputs,
        speed=speed,
        loop=loop,
        lossless=lossless,
        gray=gray,
        images=images,
        no_images=no_images,
        jpeg_quality=jpeg_quality,
        takeover=takeover,
    )
    addresses = Addresses(ingest, tracks, control, http)
    run(command, addresses, port, open_page=open_page, keys=load_keys(server_key, client_key))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the demo's files.")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="Seed of the recording.")] = 3,
    speed: Annotated[str, typer.Option(help="1.0: the recorded speed; max: as fast as possible.")] = "1.0",
    live: Annotated[
        bool | None,
        typer.Option("--live/--no-live", help="Play it at the end as a live stream; by default on a terminal."),
    ] = None,
) -> None:
    """Make a small recording, replay it as a live stream into a daemon, and draw and score the tracks."""
    log(False)
    from trackd.commands.demo.demo import run_demo

    run_demo(out, seed, speed, live=live)


@checkpoint.command()
def inspect(file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt or .safetensors file.")]) -> None:
    """Show a checkpoint's architecture, and the configuration that it needs."""
    from trackd.models.checkpoint.load import inspect as run

    typer.echo("\n".join(run(file).lines()))


@checkpoint.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .ckpt file of DREEM.")],
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.")],
) -> None:
    """Write a checkpoint's weights and configuration to a .safetensors file; the ids stay the same."""
    from trackd.models.checkpoint.load import convert as run

    typer.echo(f"wrote {run(file, out)}")


@outputs.command()
def recover(
    out_dir: Annotated[Path, typer.Argument(metavar="DIR", help="The out_dir of a process that was killed.")],
) -> None:
    """Finish the output files of a process that was killed, from their parts."""
    log(False)
    from trackd.outputs.recover import UnfinishedError
    from trackd.outputs.recover import recover as run

    try:
        made = run(out_dir)
    except UnfinishedError as error:
        for path in error.made:
            typer.echo(f"wrote {path}")
        raise
    for path in made:
        typer.echo(f"wrote {path}")


@journal.command()
def check(state_dir: StateDir) -> None:
    """Compare a journal with its checksums and change nothing; exit 1 if it is damaged or incomplete."""
    from trackd.commands.journal import check_journal

    lines, whole = check_journal(state_dir)
    typer.echo("\n".join(lines))
    raise typer.Exit(0 if whole else 1)


@journal.command()
def repair(state_dir: StateDir) -> None:
    """Replace a damaged journal by one with all that can be saved; keep the damaged files in a folder beside it."""
    log(False)
    from trackd.commands.journal import repair_journal

    typer.echo("\n".join(repair_journal(state_dir)))


@identities.command(name="save")
def save_identities(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="A stream with named tracks.")],
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="The name of the gallery; replaced if it exists.")],
    endpoint: ControlEndpoint = CONTROL,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
) -> None:
    """Save what the named animals of a stream look like; `tracker.gallery` recognises them later."""
    from trackd.commands.identities import save_gallery
    from trackd_client.transport.curve import load_keys

    save_gallery(endpoint, stream, gallery, load_keys(server_key, client_key))


@identities.command(name="list")
def list_identities(
    endpoint: ControlEndpoint = CONTROL, server_key: ServerKey = None, client_key: ClientKey = None
) -> None:
    """List the galleries of a running daemon."""
    from trackd.commands.identities import list_galleries
    from trackd_client.transport.curve import load_keys

    list_galleries(endpoint, load_keys(server_key, client_key))


@app.command()
def bench(
    streams: Annotated[int, typer.Option(help="Number of simultaneous streams.")] = 1,
    fps: Annotated[float, typer.Option(help="Frames per second of each stream; inf: as fast as credit allows.")] = 30.0,
    instances: Annotated[int, typer.Option(help="Instances per frame.")] = 10,
    image: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Send gray images of this size; 0x0: none.")
    ] = "0x0",
    seconds: Annotated[float, typer.Option(help="Duration.")] = 10.0,
    closed_loop: Annotated[bool, typer.Option(help="Send each frame after the ids of the previous one.")] = False,
    clients: Annotated[
        int, typer.Option(help="Clients that share the streams; in closed loop each stream has its own client.")
    ] = 1,
    ingest: Annotated[str | None, typer.Option(help="Endpoint of a running daemon; without it one is started.")] = None,
    tracks: Annotated[str, typer.Option(help="Tracks endpoint of that daemon.")] = "tcp://127.0.0.1:5571",
    control: Annotated[str, typer.Option(help="Control endpoint of that daemon.")] = "tcp://127.0.0.1:5572",
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Put a synthetic load on a daemon; print the latency of each stage and the sustained rate."""
    log(False)
    from trackd.commands.bench import Load, run_bench
    from trackd_client.transport.curve import load_keys

    width, separator, height = image.partition("x")
    if not (separator and width.isdigit() and height.isdigit()):
        raise ConfigError(f"--image takes WIDTHxHEIGHT; got {image!r}")
    load = Load(streams, fps, instances, int(width), int(height), seconds, closed_loop, clients)
    endpoints = None if ingest is None else {"ingest": ingest, "tracks": tracks, "control": control}
    run_bench(load, endpoints, overrides, keys=load_keys(server_key, client_key))


@app.callback()
def options(version: Version = False) -> None:
    """A streaming, real-time, multi-object tracking daemon."""


def main() -> None:
    """Run the command line. A usage or configuration error prints one line, without a traceback; the exit code is 2."""
    run_command(app, "trackd")


if __name__ == "__main__":
    main()
