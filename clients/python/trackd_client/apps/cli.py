"""The `trackd-client` command. Exit codes: 0 done, 2 bad configuration or arguments, 1 anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trackd_client.apps.camera import arguments as of
from trackd_client.apps.command_line import Version, log, needs_extra, run_command
from trackd_client.apps.connecting import Endpoints, connected
from trackd_client.client import CONTROL, INGEST, TRACKS
from trackd_client.errors import TrackdError

app = typer.Typer(
    name="trackd-client",
    help="Send cameras and recordings to a trackd daemon, watch its tracks, and correct them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Ingest = Annotated[str, typer.Option(help="The daemon's ingest endpoint.")]
Tracks = Annotated[str, typer.Option(help="The daemon's tracks endpoint.")]
Control = Annotated[str, typer.Option(help="The daemon's control endpoint.")]
Fleet = Annotated[
    list[str],
    typer.Option(
        "--fleet", metavar="CONTROL", help="A fleet: the control endpoint of a member, in place of the others."
    ),
]
TimeoutS = Annotated[float, typer.Option("--timeout-s", min=0.0, help="Seconds to wait for the daemon.")]
ServerKey = Annotated[Path | None, typer.Option(metavar="FILE", help="The daemon's server.key, if it uses CURVE.")]
ClientKey = Annotated[Path | None, typer.Option(metavar="FILE", help="This client's NAME.key_secret.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log what happens to each stream.")]


@app.command()
def replay(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file, such as a DREEM inference file.")],
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="K=V", help="Override any key: a.b.c=value, parsed as YAML.")
    ] = [],  # noqa: B006 (nothing changes the list)
    speed: Annotated[str, typer.Option(help="Multiple of the recorded speed; max: as fast as possible.")] = "1.0",
    loops: Annotated[int, typer.Option("--loop", min=1, metavar="N", help="Play N times, as one stream.")] = 1,
    stream: Annotated[str | None, typer.Option(help="The stream's name; the recording's if not given.")] = None,
    takeover: Annotated[bool, typer.Option(help="Take the stream from the client that owns it.")] = False,
    allow_rejected: Annotated[
        bool, typer.Option("--allow-rejected", help="Exit code 0 although the daemon rejected frames.")
    ] = False,
    ingest: Ingest = INGEST,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Send the recordings of a configuration to a daemon, one after the other, each as its own stream."""
    log(verbose)
    # Imported here, because only `replay` needs the `recordings` extra.
    from trackd_client.apps.replay import ReplayOptions, parse_speed, rejection_of, run_replay

    options = ReplayOptions(parse_speed(speed), loops, stream, takeover)
    with connected(Endpoints(ingest, tracks, control), fleet, timeout_s, server_key, client_key) as client:
        replayed = run_replay(client, config, overrides, options)
    rejected = sum(each.rejected for each in replayed)
    if rejected and not allow_rejected:
        raise TrackdError(rejection_of(rejected, sum(each.progress.sent for each in replayed)))


@app.command()
def camera(
    source: of.SourceArgument,
    detector: of.DetectorOption = "background",
    detector_options: of.DetectorOptions = [],  # noqa: B006
    animals: of.Animals = None,
    stream: of.StreamName = None,
    overrides: of.StreamConfig = [],  # noqa: B006
    record: of.Record = None,
    outputs: of.Outputs = "slp,csv",
    speed: of.Speed = "1.0",
    loop: of.Loop = False,
    lossless: of.Lossless = False,
    gray: of.Gray = False,
    images: of.ImagesOption = "auto",
    no_images: of.NoImages = False,
    jpeg_quality: of.JpegQuality = None,
    takeover: of.Takeover = False,
    ingest: Ingest = INGEST,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Send the images of a camera and what a detector finds in them, live, until Ctrl-C or the end of a file."""
    log(verbose)
    try:
        from trackd_client.apps.camera.command import camera_command
        from trackd_client.apps.camera.run import open_camera, run_camera
    except ModuleNotFoundError as error:
        raise of.missing_package(error) from None

    opened = open_camera(
        camera_command(
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
    )
    with connected(Endpoints(ingest, tracks, control), fleet, timeout_s, server_key, client_key) as client:
        done = run_camera(made := opened.camera(client))
    if made.video is not None:
        typer.echo(f"wrote {made.video.path}; the daemon writes {outputs} to its out_dir")
    if done.rejected:
        raise TrackdError(f"{done.rejected} of {done.sent} frames were rejected and have no ids")


@app.command()
def watch(
    stream: Annotated[str | None, typer.Argument(metavar="[STREAM]", help="All open streams if not given.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Show one frame of each stream and exit.")] = False,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Show the live tracks of a stream: their position, speed and score."""
    log(verbose)
    from trackd_client.apps.watch import run_watch

    with connected(Endpoints(tracks=tracks, control=control), fleet, timeout_s, server_key, client_key) as client:
        run_watch(client, stream, once=once)


@app.command()
def correct(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")],
    action: Annotated[str, typer.Argument(metavar="ACTION", help="rename, swap, merge, end, new_id or undo.")],
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="ARGUMENTS",
            help="rename TRACK [NAME] (no name removes it); swap TRACK TRACK; merge TRACK INTO; end TRACK; "
            "new_id TRACK; undo [NUMBER].",
        ),
    ] = [],  # noqa: B006 (nothing changes the list)
    author: Annotated[str | None, typer.Option(help="Who corrects; your login name if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as one line of JSON.")] = False,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Correct the tracks of a stream from the next frame on, and name them."""
    log(verbose)
    from trackd_client.apps.correct import run_correct

    with connected(Endpoints(control=control), fleet, timeout_s, server_key, client_key) as client:
        typer.echo(run_correct(client, stream, action, arguments, author, as_json=as_json))


@app.command()
def zones(
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The stream's name.")],
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Replace all by those of a YAML or JSON file: zones, lines."),
    ] = None,
    author: Annotated[str | None, typer.Option(help="Who sets them; your login name if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON, which --from accepts.")] = False,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Show the zones and lines that are drawn on a stream's picture, or set them."""
    log(verbose)
    with needs_extra("triggers"):  # for YAML
        from trackd_client.apps.zones import read_zones_file, run_zones

    places = None if file is None else read_zones_file(file)
    with connected(Endpoints(control=control), fleet, timeout_s, server_key, client_key) as client:
        typer.echo(run_zones(client, stream, places, author, as_json=as_json))


@app.command()
def trigger(
    rules: Annotated[Path, typer.Argument(metavar="RULES", help="YAML file of rules and actions.")],
    streams: Annotated[
        list[str], typer.Option("--stream", metavar="NAME", help="Follow this stream; those of the rules if not given.")
    ] = [],  # noqa: B006 (nothing changes the list)
    check: Annotated[bool, typer.Option("--check", help="Only check the file.")] = False,
    report_s: Annotated[
        float, typer.Option("--report-s", min=0.0, help="Seconds between two reports; 0: only at the end.")
    ] = 60.0,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Send messages when rules on live tracks fire: OSC, UDP, HTTP, MQTT, serial, ZeroMQ, a program."""
    log(verbose)
    with needs_extra("triggers"):
        from trackd_client.apps.trigger import check_packages, read_rules_file, run_trigger

    file = read_rules_file(rules)
    if check:
        check_packages(file)
        typer.echo(f"{rules}: {len(file.rules.rules)} rules, {len(file.actions)} actions")
        return
    with connected(Endpoints(tracks=tracks, control=control), fleet, timeout_s, server_key, client_key) as client:
        run_trigger(client, file, streams, report_s)


@app.command()
def events(
    stream: Annotated[list[str] | None, typer.Argument(metavar="[STREAM]...", help="All streams if not given.")] = None,
    json_lines: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Print a line for each event: tracks that begin, are lost, found or end, and what happens to streams."""
    log(verbose)
    from trackd_client.apps.events import run_events

    with connected(Endpoints(tracks=tracks, control=control), fleet, timeout_s, server_key, client_key) as client:
        run_events(client, stream or (), json_lines=json_lines)


@app.command()
def lsl(
    stream: Annotated[list[str] | None, typer.Argument(metavar="[STREAM]...", help="All streams if not given.")] = None,
    slots: Annotated[
        int, typer.Option("--tracks-shown", min=1, max=1000, help="Channels for the track ids 0 to N − 1.")
    ] = 16,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Publish tracks and events as streams of the Lab Streaming Layer, with the capture clock."""
    log(verbose)
    with needs_extra("lsl"):
        import pylsl

    from trackd_client.apps.lsl import run_lsl

    with connected(Endpoints(tracks=tracks, control=control), fleet, timeout_s, server_key, client_key) as client:
        run_lsl(client, pylsl, stream or (), slots)


@app.command()
def record(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the recorded messages; made if absent.")],
    streams: Annotated[
        list[str] | None, typer.Argument(metavar="[STREAM]...", help="All streams if not given.")
    ] = None,
    segment_bytes: Annotated[
        str, typer.Option("--segment-bytes", metavar="N", help="Largest file, such as 64M.")
    ] = "64M",
    max_bytes: Annotated[
        str | None, typer.Option("--max-bytes", metavar="N", help="Of all files, such as 10G; no bound if not given.")
    ] = None,
    delete_oldest: Annotated[
        bool, typer.Option("--delete-oldest", help="At --max-bytes delete the oldest file, in place of an error.")
    ] = False,
    tracks: Tracks = TRACKS,
    control: Control = CONTROL,
    fleet: Fleet = [],  # noqa: B006
    timeout_s: TimeoutS = 10.0,
    server_key: ServerKey = None,
    client_key: ClientKey = None,
    verbose: Verbose = False,
) -> None:
    """Record the published messages of streams, byte for byte, with the times of their receipt."""
    log(verbose)
    from trackd_client.apps.record import parse_bytes, run_record
    from trackd_client.message_log.writer import LogWriter

    most = parse_bytes(max_bytes, "--max-bytes") if max_bytes is not None else None
    with (
        connected(Endpoints(tracks=tracks, control=control), fleet, timeout_s, server_key, client_key) as client,
        LogWriter(folder, parse_bytes(segment_bytes, "--segment-bytes"), most, delete_oldest=delete_oldest) as writer,
    ):
        run_record(client, writer, streams or ())


Probability = typer.Option(min=0.0, max=1.0, help="Of each message, 0 to 1.")


@app.command()
def play(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of recorded messages.")],
    speed: Annotated[str, typer.Option(help="Multiple of the recorded speed; max: as fast as possible.")] = "1.0",
    from_s: Annotated[float, typer.Option("--from-s", min=0.0, help="Begin so many seconds after the start.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the faults: the same seed gives the same ones.")] = 0,
    loss: Annotated[float, Probability] = 0.0,
    duplicate: Annotated[float, Probability] = 0.0,
    reorder: Annotated[float, Probability] = 0.0,
    delay_ms: Annotated[float, typer.Option("--delay-ms", min=0.0, help="Largest delay; the order stays.")] = 0.0,
    wait: Annotated[bool, typer.Option(help="Begin when a subscriber is there.")] = True,
    linger_s: Annotated[
        float, typer.Option("--linger-s", min=0.0, help="Answer requests for so long after the last message.")
    ] = 2.0,
    tracks: Annotated[str, typer.Option(help="Where to publish.")] = TRACKS,
    control: Annotated[str, typer.Option(help="Where to answer status, tracks.live and history.")] = CONTROL,
    verbose: Verbose = False,
) -> None:
    """Publish recorded messages again, at their times, to test a subscriber without a daemon."""
    log(verbose)
    from trackd_client.apps.play import parse_speed, run_play
    from trackd_client.message_log.faults import Faults

    faults = Faults(seed, loss, duplicate, reorder, round(delay_ms * 1e6))
    run_play(
        folder, tracks, control, faults=faults, speed=parse_speed(speed), from_s=from_s, wait=wait, linger_s=linger_s
    )


@app.callback()
def options(version: Version = False) -> None:
    """Send cameras and recordings to a trackd daemon, watch its tracks, and correct them."""


def main() -> None:
    """Run the command line. An error is reported in one line, without a traceback."""
    run_command(app, "trackd-client")


if __name__ == "__main__":
    main()
