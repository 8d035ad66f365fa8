"""`trackd track`: track recordings with a daemon in this process, at full speed and without dropping frames."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trackd.commands.collector import Collector
from trackd.commands.observer import Observer
from trackd.commands.rendered import RenderedTracks
from trackd.config import Config, SecurityConfig
from trackd.daemon import Daemon
from trackd.evaluation import IdentityScore
from trackd_client import Client
from trackd_client.apps.replay import rejection_of, with_pixel_range
from trackd_client.configuration import ConfigError, find_path
from trackd_client.protocol import Status
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.recording import Recording

logger = logging.getLogger(__name__)

DEFAULT_OUTPUTS = ["slp", "mot"]
# The longest wait at the end of a recording. By default the queue holds 32 frames; one frame of many instances may take
# seconds with a checkpoint.
SETTLE_S = 320.0
# Index of this process's checkpoint in a list: trackd's variable, then that of a pod of an indexed Kubernetes job.
POD_INDEX = ("POD_INDEX", "JOB_COMPLETION_INDEX")


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of one recording."""

    name: str
    frames: int
    tracks: int
    seconds: float
    score: IdentityScore | None  # None where the recording has no ground truth
    rejected: int = 0  # frames
    dropped: int = 0

    @property
    def fps(self) -> float:
        """Frames per second, including reading and writing."""
        return self.frames / self.seconds if self.seconds else 0.0


class IncompleteError(Exception):
    """Frames were rejected, or outputs could not be written; all others were. The text is one line."""


Observe = Callable[[Config, Recording], Sequence[Observer]]


def track(
    config: Config,
    base: Path,
    console: Console | None = None,
    *,
    render: bool = False,
    observe: Observe = lambda config, recording: (),
    allow_rejected: bool = False,
) -> list[Summary]:
    """Track every recording of a configuration; show a progress bar and a summary.

    Args:
        config: a DREEM inference configuration.
        base: the folder that relative paths are tried against first.
        console: to print to; None: the terminal.
        render: write an .mp4 with ids and trails of each recording.
        observe: makes the observers of a recording.
        allow_rejected: rejected frames are no error.

    Raises:
        ConfigError, RecordingError: a file cannot be read or written.
        IncompleteError: after all recordings, if frames were rejected or an output could not be written.
    """
    console = console or Console()
    summaries: list[Summary] = []
    faults: list[str] = []
    for run in one_checkpoint_each(config):
        if isinstance(config.ckpt_path, list):
            console.print(f"checkpoint {run.ckpt_path}", highlight=False)
        summaries += _track_one(run, base, console, observe, render, faults)
    rejected = sum(summary.rejected for summary in summaries)
    if rejected and not allow_rejected:
        faults.append(rejection_of(rejected, sum(summary.frames for summary in summaries)))
    if faults:
        raise IncompleteError("; ".join(faults))
    return summaries


def one_checkpoint_each(config: Config, environment: Mapping[str, str] = os.environ) -> list[Config]:
    """Split a configuration that lists checkpoints into one for each, with its outputs in `out_dir/<stem>/`.

    In a pod of a batch (`POD_INDEX`, or Kubernetes' `JOB_COMPLETION_INDEX`) only that element of the list is returned.

    Raises:
        ConfigError: the index is outside the list, or two checkpoints would write to the same folder.
    """
    paths = config.ckpt_path
    if not isinstance(paths, list):
        return [config]
    if not paths:
        raise ConfigError("ckpt_path must name at least one checkpoint, or be null; got []")
    stems = [Path(path).stem for path in paths]
    duplicates = sorted({stem for stem in stems if stems.count(stem) > 1})
    if duplicates:
        raise ConfigError(
            f"ckpt_path: several checkpoints are named {duplicates[0]!r} and would share a folder; rename one"
        )
    runs = [
        config.model_copy(update={"ckpt_path": path, "out_dir": str(Path(config.out_dir) / stem)})
        for path, stem in zip(paths, stems, strict=True)
    ]
    name = next((name for name in POD_INDEX if environment.get(name)), None)
    if name is None:
        return runs
    if not environment[name].isdecimal() or int(environment[name]) >= len(runs):
        raise ConfigError(
            f"{name} must be from 0 to {len(runs) - 1}, an element of ckpt_path; got {environment[name]!r}"
        )
    return [runs[int(environment[name])]]


def _track_one(
    config: Config, base: Path, console: Console, observe: Observe, render: bool, faults: list[str]
) -> list[Summary]:
    """Track with one checkpoint. Adds a line to `faults` about outputs that could not be written."""
    recordings = open_recordings(config.dataset.test_dataset, config.dataloader, base, config.limits)
    if not recordings:
        raise ConfigError(
            "dataset.test_dataset names no recording; give slp_files, det_files, tracks, gt_images or dir"
        )
    _check_out_dir(config, recordings, base)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with Daemon(_offline(config), context, base) as daemon:
        videos: list[RenderedTracks] = []

        def observers(recording: Recording) -> list[Observer]:
            found = list(observe(config, recording))
            if render:
                videos.append(RenderedTracks(Path(config.out_dir), recording))
                found.append(videos[-1])
            return found

        dataset = config.dataset.test_dataset
        explicit = dataset.model_dump(include={"pixel_range"} & dataset.model_fields_set)
        summaries = _track_all(daemon, recordings, explicit, console, observers)
        failure = daemon.close()
    if failure is not None:
        raise RuntimeError(failure)
    console.print(_table(summaries))
    n_errors = daemon.output_errors + sum(video.failed for video in videos)
    if n_errors:
        faults.append(f"{n_errors} records or files could not be written to {config.out_dir}; the log names each")
    for path in [*daemon.written, *(video.path for video in videos if video.path.exists())]:
        console.print(f"wrote {path}", highlight=False)
    return summaries


def _check_out_dir(config: Config, recordings: list[Recording], base: Path) -> None:
    """Refuse an out_dir that holds an input file: an output may have the same name."""
    dataset = config.dataset.test_dataset
    named = [*dataset.slp_files, *dataset.video_files, *dataset.det_files, *dataset.gt_files, *dataset.tracks]
    inputs = [find_path(path, "dataset.test_dataset", base) for path in named]
    if dataset.dir is not None:
        inputs += [find_path(path, "dataset.test_dataset.dir.path", base, "folder") / "x" for path in dataset.dir.path]
    inputs += [recording.source for recording in recordings if recording.source is not None]
    out_dir = Path(config.out_dir).resolve()
    for path in inputs:
        if path.resolve().parent == out_dir:
            raise ConfigError(f"out_dir must not be the folder of the recordings; got {config.out_dir!r}")


def _offline(config: Config) -> Config:
    """The configuration for a daemon with this process as its only client, which drops no frame."""
    stream = config.stream.model_copy(
        update={
            "on_overload": "block",
            "deadline_ms": None,
            "outputs": config.stream.outputs or DEFAULT_OUTPUTS,
        }
    )
    endpoints = config.daemon.endpoints.model_copy(
        update={name: f"inproc://trackd-{name}" for name in ("ingest", "tracks", "control")}
    )
    daemon = config.daemon.model_copy(update={"endpoints": endpoints, "http": None, "state_dir": None})
    limits = config.limits.model_copy(update={"step_ms": None})  # no other stream waits for this one
    # inproc sockets accept no client of another process, and have no keys.
    return config.model_copy(
        update={"stream": stream, "daemon": daemon, "limits": limits, "security": SecurityConfig()}
    )


def _track_all(
    daemon: Daemon,
    recordings: list[Recording],
    explicit: Mapping[str, Any],
    console: Console,
    observers: Callable[[Recording], Sequence[Observer]],
) -> list[Summary]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.0f} fps"),
        TimeRemainingColumn(),
    )
    at = daemon.addresses
    client = Client(at["ingest"], at["tracks"], at["control"], context=daemon.context)
    with client, Progress(*columns, console=console) as progress:
        summaries = []
        for recording in recordings:
            task = progress.add_task(recording.name, total=len(recording), fps=0.0)

            def on_frame(done: int, seconds: float, task: object = task) -> None:
                progress.update(task, completed=done, fps=done / seconds if seconds else 0.0)  # type: ignore[arg-type]

            config = with_pixel_range({"dataset": explicit}, recording)
            summaries.append(track_recording(client, recording, config, on_frame, observers(recording)))
        return summaries


def track_recording(
    client: Client,
    recording: Recording,
    config: Mapping[str, Any],
    on_frame: Callable[[int, float], None],
    observers: Sequence[Observer] = (),
) -> Summary:
    """Send one recording as a stream, and score its settlements against the ground truth.

    Args:
        client: connected to a daemon whose streams block on overload.
        recording: to send.
        config: for `open`.
        on_frame: called after each frame with the number of frames sent, and the seconds since the start.
        observers: called with each tracked frame; closed at the end.
    """
    started = time.monotonic()
    collector = Collector(client, recording.name, observers)
    stream = client.open_stream(
        recording.name,
        config=config,
        frame_shape=recording.frame_shape,
        skeleton=recording.skeleton,
        source=str(recording.source) if recording.source is not None else None,
    )
    stream.logs_rejections = False  # the collector logs each cause once
    collector.start()
    sent = 0
    for frame in recording.frames():
        collector.expect(frame)
        stream.send(frame.image, frame.detections, frame_index=frame.frame_index, t_ns=frame.t_ns)
        sent += 1
        on_frame(sent, time.monotonic() - started)
    stream.close(timeout_s=SETTLE_S)
    collector.join()
    seconds = time.monotonic() - started
    rejected, dropped = collector.counts[Status.REJECTED], collector.counts[Status.DROPPED]
    return Summary(recording.name, sent, len(collector.track_ids), seconds, collector.score, rejected, dropped)


def _table(summaries: list[Summary]) -> Table:
    table = Table("recording", "frames", "rejected", "dropped", "tracks", "fps", "id switches", "IDF1")
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in summaries:
        score = summary.score
        scores = ("–", "–") if score is None else (str(score.id_switches), f"{score.idf1:.3f}")
        counts = (summary.frames, summary.rejected, summary.dropped, summary.tracks)
        table.add_row(summary.name, *map(str, counts), f"{summary.fps:.0f}", *scores)
    return table
