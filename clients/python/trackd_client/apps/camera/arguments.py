"""The arguments that `trackd-client camera` and `trackd live` share; nothing here needs OpenCV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from trackd_client.errors import TrackdError

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A camera's number (0), a video file, an address (rtsp://…, http://…), or a GStreamer pipeline.",
    ),
]
DetectorOption = Annotated[
    str,
    typer.Option("--detector", help="background, colour, aruco, sleap, dlc, yolo, or package.module:function."),
]
DetectorOptions = Annotated[
    list[str], typer.Option("--detector-option", metavar="K=V", help="An option of the detector; repeat it for more.")
]
Animals = Annotated[
    int | None, typer.Option("--animals", min=1, metavar="N", help="Their number, if it is fixed: there are N ids.")
]
StreamName = Annotated[str | None, typer.Option("--stream", help="The stream's name; by the source if not given.")]
StreamConfig = Annotated[
    list[str],
    typer.Option("--set", metavar="K=V", help="Override a key of the stream: tracker.max_gap_s=2, parsed as YAML."),
]
Record = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Write the video to DIR, and let the daemon write outputs that name it."),
]
Outputs = Annotated[str, typer.Option(help="What the daemon writes, with --record.")]
Speed = Annotated[str, typer.Option(help="Of a file: multiple of its rate; max: as fast as it is detected.")]
Loop = Annotated[bool, typer.Option("--loop", help="Play a file again and again.")]
Lossless = Annotated[bool, typer.Option("--lossless", help="Lose no frame of a file, however long each one takes.")]
Gray = Annotated[bool, typer.Option("--gray", help="Take images as gray.")]
ImagesOption = Annotated[
    str, typer.Option("--images", help="shared (memory), jpeg, none; auto: shared with a daemon on this host.")
]
NoImages = Annotated[bool, typer.Option("--no-images", help="Send no images; the same as --images none.")]
JpegQuality = Annotated[
    int | None, typer.Option("--jpeg-quality", min=1, max=100, help="Send JPEGs of this quality; 90 if not given.")
]
Takeover = Annotated[bool, typer.Option(help="Take the stream from the client that owns it.")]


def missing_package(error: ModuleNotFoundError) -> TrackdError:
    """Return the error of a program that needs the extra `camera`."""
    return TrackdError(f"{error.name} is not installed: pip install 'trackd-client[camera]' installs it")
