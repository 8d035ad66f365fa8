"""`trackd-client replay`: recordings sent to a daemon as a camera would send them."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from trackd_client.configuration import ConfigError, environment_overrides, load_yaml, validate, with_overrides
from trackd_client.errors import TrackdError
from trackd_client.excerpt import yaml_excerpt
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig, LiveDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordedFrame, Recording
from trackd_client.sending.stream import Stream
from trackd_client.stream_client import StreamClient

logger = logging.getLogger(__name__)

MAX_SPEED = float("inf")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How recordings are played."""

    speed: float = 1.0  # multiple of the recorded speed; infinity: as fast as possible
    loops: int = 1
    stream: str | None = None
    takeover: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """The recordings of a configuration, and the settings of their streams."""

    recordings: list[Recording]
    config: dict[str, Any]  # for `open`: the tracker's keys, and the dataset's keys for live frames


@dataclass(frozen=True, slots=True)
class Progressed:
    """The progress of a replay."""

    sent: int
    total: int
    late: int  # frames that were sent more than one frame period late
    lag_s: float  # of the last frame
    seconds: float
    rejected: int = 0

    @property
    def fps(self) -> float:
        """Frames per second since the start."""
        return self.sent / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of one recording's replay."""

    stream: str
    progress: Progressed
    rejected: int
    dropped: int | None = 0  # None: the daemon may have dropped frames, and does not tell how many
    causes: tuple[str, ...] = ()  # of the rejected frames: one line for each


class Pace:
    """The time at which each frame is due, counted from the start, so that delays do not add up.

    Args:
        fps: of the recording.
        speed: multiple of `fps`; infinity: every frame is due at once.
        clock, sleep: in seconds.
    """

    def __init__(
        self,
        fps: float,
        speed: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._period_s = 1.0 / (fps * speed)
        self._clock = clock
        self._sleep = sleep
        self._started = clock()
        self.late = 0
        self.lag_s = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def wait(self, number: int) -> None:
        """Wait until frame `number`, from 0, is due. Return at once if that time has passed."""
        early_s = number * self._period_s - self.seconds
        if early_s > 0:
            self._sleep(early_s)
        if self._period_s == 0:
            return
        self.lag_s = max(0.0, -early_s)
        if self.lag_s > self._period_s:
            self.late += 1


def parse_speed(text: str) -> float:
    """The speed that `text` gives: `max`, or a multiple of the recorded speed."""
    if text == "max":
        return MAX_SPEED
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= MAX_SPEED:
        raise ConfigError(f"--speed must be a number above 0, or max; got {text!r}")
    return speed


def read_replay(path: Path, overrides: Iterable[str]) -> Replay:
    """The recordings and settings of a configuration file.

    Raises:
        ConfigError: something in it cannot be used.
    """
    tree = with_overrides(load_yaml(path), [*environment_overrides(os.environ), *overrides])
    dataset = validate(DatasetConfig, tree.get("dataset") or {}, "dataset").test_dataset
    dataloader = validate(DataloaderConfig, tree.get("dataloader") or {}, "dataloader")
    tracker = tree.get("tracker") or {}
    if not isinstance(tracker, dict):
        raise ConfigError(f"tracker should be a section, such as {{window_size: 8}}; got {yaml_excerpt(tracker)}")
    # Only the keys that the file sets: the daemon's settings apply to the others.
    live = dataset.model_dump(include=set(LiveDataset.model_fields) & dataset.model_fields_set)
    # The daemon's other limits apply to a daemon, whose section this may be.
    limits = tree.get("limits") or {}
    if not isinstance(limits, dict):
        raise ConfigError(f"limits should be a section, such as {{instances: 2048}}; got {yaml_excerpt(limits)}")
    known = {name: limits[name] for name in RecordingLimits.model_fields if name in limits}
    recordings = open_recordings(dataset, dataloader, path.parent, validate(RecordingLimits, known, "limits"))
    if not recordings:
        raise ConfigError(f"{path}: dataset.test_dataset names no recording")
    return Replay(recordings, {"tracker": tracker, "dataset": live})


def stream_names(recordings: Iterable[Recording], given: str | None = None) -> list[str]:
    """A stream's name for each recording: `given`, or the recording's name with invalid characters replaced."""
    names: list[str] = []
    for recording in recordings:
        name = (given or _UNSAFE.sub("-", recording.name) or "recording")[:_MAX_NAME]
        number = 2
        while name in names:
            if given is not None:
                raise ConfigError("--stream names one stream, but the configuration has several recordings")
            suffix = f"-{number}"
            name = _UNSAFE.sub("-", recording.name)[: _MAX_NAME - len(suffix)] + suffix
            number += 1
        names.append(name)
    return names


def looped(recording: Recording, loops: int) -> Iterator[RecordedFrame]:
    """The recording's frames `loops` times over; frame indices and times keep rising."""
    shift_index = shift_ns = 0
    for _ in range(loops):
        first: RecordedFrame | None = None
        last: RecordedFrame | None = None
        for frame in recording.frames():
            first = first or frame
            last = frame
            yield replace(frame, frame_index=frame.frame_index + shift_index, t_ns=frame.t_ns + shift_ns)
        if first is None or last is None:
            return
        # The next round's first frame is one frame period later than this round's last.
        shift_index += last.frame_index + 1 - first.frame_index
        shift_ns += last.t_ns + round(1e9 / recording.fps) - first.t_ns


def replay_recording(
    client: StreamClient,
    recording: Recording,
    name: str,
    config: dict[str, Any],
    options: ReplayOptions,
    on_progress: Callable[[Progressed], None] | None = None,
) -> Replayed:
    """Play one recording as a stream, to its end.

    Args:
        client: connected to the daemon.
        recording: what to play.
        name: the stream's name.
        config: for `open`.
        options: how to play it.
        on_progress: called after each frame.
    """
    total = len(recording) * options.loops
    sent = 0

    def progress() -> Progressed:
        return Progressed(sent, total, pace.late, pace.lag_s, pace.seconds, stream.n_rejected)

    with _fresh_stream(
        client,
        name,
        config=with_pixel_range(config, recording),
        frame_shape=recording.frame_shape,
        skeleton=recording.skeleton,
        source=str(recording.source) if recording.source is not None else None,
        takeover=options.takeover,
    ) as stream:
        stream.logs_rejections = False  # the causes are reported at the end, each once
        pace = Pace(recording.fps, options.speed)
        for frame in looped(recording, options.loops):
            pace.wait(sent)
            _send(stream, frame)
            sent += 1
            if on_progress is not None:
                on_progress(progress())
        stream.flush()
        return Replayed(name, progress(), stream.n_rejected, _dropped(client, stream), tuple(stream.rejection_causes))


def _dropped(client: StreamClient, stream: Stream) -> int | None:
    """The number of frames that the stream's policy has dropped; None if the daemon cannot be asked."""
    policy = stream.config.get("stream", {})
    if policy.get("on_overload", "block") == "block" and policy.get("deadline_ms") is None:
        return 0
    try:
        rows = client.streams()
    except TrackdError as error:
        logger.warning("the number of dropped frames is not known stream=%s: %s", stream.name, error)
        return None
    return next((row.dropped for row in rows if row.stream == stream.name), None)


def with_pixel_range(config: Mapping[str, Any], recording: Recording) -> dict[str, Any]:
    """The config of `open`, with the recording's pixel range if it sets none."""
    dataset = config.get("dataset", {})
    if recording.pixel_range == "unit" or "pixel_range" in dataset:
        return dict(config)
    return {**config, "dataset": {**dataset, "pixel_range": recording.pixel_range}}


def _fresh_stream(client: StreamClient, name: str, **options: Any) -> Stream:
    """Open a stream at its first frame. If an interrupted replay left it open, close it first."""
    stream = client.open_stream(name, **options)
    if stream.next_seq == 0:
        return stream
    logger.warning(
        "an earlier replay left the stream open: closing it stream=%s next_seq=%d",
        name,
        stream.next_seq,
    )
    stream.close()
    return client.open_stream(name, **options)


def run_replay(
    client: StreamClient, path: Path, overrides: Iterable[str], options: ReplayOptions, console: Console | None = None
) -> list[Replayed]:
    """Play all recordings of a configuration, each with a progress bar, and print a line for each at the end."""
    replay = read_replay(path, overrides)
    names = stream_names(replay.recordings, options.stream)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[fps]:.0f} fps, lag {task.fields[lag_ms]:.0f} ms, {task.fields[rejected]} rejected"),
    )
    ended = []
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        for recording, name in zip(replay.recordings, names, strict=True):
            task = bar.add_task(name, total=len(recording) * options.loops, fps=0.0, lag_ms=0.0, rejected=0)

            def show(now: Progressed, task: Any = task) -> None:
                bar.update(task, completed=now.sent, fps=now.fps, lag_ms=now.lag_s * 1e3, rejected=now.rejected)

            ended.append(replay_recording(client, recording, name, replay.config, options, show))
    out = console or Console()
    for replayed in ended:
        now = replayed.progress
        dropped = "an unknown number" if replayed.dropped is None else str(replayed.dropped)
        out.print(
            f"{replayed.stream}: {now.sent} frames in {now.seconds:.1f} s, {now.fps:.1f} fps, "
            f"{now.late} late, {dropped} dropped, {replayed.rejected} rejected",
            highlight=False,
        )
        for cause in replayed.causes:
            logger.warning("rejected: stream=%s: %s", replayed.stream, cause)
    return ended


def rejection_of(rejected: int, sent: int) -> str:
    """The line of a command whose frames were rejected; `trackd track` uses it too."""
    return f"{rejected} of {sent} frames were rejected and have no ids; --allow-rejected makes this exit code 0"


def _send(stream: Stream, frame: RecordedFrame) -> None:
    stream.send(frame.image, frame.detections, frame_index=frame.frame_index, t_ns=frame.t_ns)
