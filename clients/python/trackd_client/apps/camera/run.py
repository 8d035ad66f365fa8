"""The camera program: a source and a detector by their names, a measured rate on the terminal, a clean end."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from trackd_client.apps.camera.camera import Camera
from trackd_client.apps.camera.grabber import Grabber, Playing
from trackd_client.apps.camera.options import CameraOptions, checked_config
from trackd_client.apps.camera.progress import Progress
from trackd_client.apps.camera.source import parse_source
from trackd_client.configuration import ConfigError, parse_override, with_overrides
from trackd_client.detectors.detector import Detector, DetectorError
from trackd_client.detectors.named import open_detector
from trackd_client.stream_client import StreamClient

logger = logging.getLogger(__name__)

END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOGGED_EVERY = 50  # progress reports without a terminal: one line each ten seconds


@dataclass(frozen=True, slots=True)
class CameraCommand:
    """A camera as the command line names it."""

    source: str
    detector: str = "background"
    detector_options: Sequence[str] = ()  # K=V each, parsed as YAML
    animals: int | None = None
    overrides: Sequence[str] = ()  # a.b.c=value each, of the stream's configuration
    playing: Playing = field(default_factory=Playing)
    options: CameraOptions = field(default_factory=CameraOptions)


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A camera whose source and detector are open, before it is connected to a daemon."""

    grabber: Grabber
    detector: Detector
    options: CameraOptions
    animals: int | None

    def camera(self, client: StreamClient) -> Camera:
        """Return the camera of a daemon."""
        return Camera(client, self.grabber, self.detector, self.options, self.animals)


def open_camera(command: CameraCommand) -> Opened:
    """Open the detector and the source.

    Raises:
        SourceError: the source cannot be opened.
        DetectorError: there is no such detector, or it has no such option.
        ConfigError: an option is not K=V.
    """
    config = checked_config(with_overrides({}, command.overrides))
    detector = open_detector(command.detector, parsed_options(command.detector_options), command.animals)
    grabber = Grabber(parse_source(command.source), command.playing)
    return Opened(grabber, detector, replace(command.options, config=config), command.animals)


def parsed_options(words: Sequence[str]) -> dict[str, Any]:
    """Return the options of a detector that were given as `K=V`, with V as in YAML."""
    options: dict[str, Any] = {}
    for word in words:
        try:
            (name, *rest), value = parse_override(word)
        except ConfigError:
            name, rest, value = "", [], None
        if not name or rest:
            raise DetectorError(f"--detector-option takes K=V, as in threshold=30; got {word!r}")
        options[name] = value
    return options


def run_camera(camera: Camera, console: Console | None = None, title: str | None = None) -> Progress:
    """Run a camera until its source ends or a signal arrives; show its rates, and its result in one line.

    Args:
        camera: not run yet.
        console: for both.
        title: the line above the rates on a terminal.
    """
    console = console or Console()
    with ended_by_signals(camera):
        done = _run_on_terminal(camera, console, title) if console.is_terminal else camera.run(_Log(camera.name))
    console.print(f"{camera.name}: {done.summary}", highlight=False, markup=False, soft_wrap=True)
    if (nothing := camera.nothing) is not None:
        console.print(f"{camera.name}: {nothing}", highlight=False, markup=False, soft_wrap=True)
    for cause in camera.causes:
        logger.warning("rejected: stream=%s: %s", camera.name, cause)
    return done


def _run_on_terminal(camera: Camera, console: Console, title: str | None) -> Progress:
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(now: Progress) -> None:
            text = now.line if title is None else f"{title}\n{now.line}"
            live.update(Text(text), refresh=True)

        return camera.run(show)


class _Log:
    """Logs the progress of a camera without a terminal."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reports = 0

    def __call__(self, now: Progress) -> None:
        self._reports += 1
        if self._reports % LOGGED_EVERY == 0:
            logger.info("stream=%s: %s", self._name, now.line)


@contextmanager
def ended_by_signals(camera: Camera) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end a camera that runs, after its current frame; a second one interrupts it.

    One that arrives before the camera runs interrupts the program, as Ctrl-C does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked or not camera.running:
            raise KeyboardInterrupt
        asked = True
        camera.stop()

    before: Mapping[signal.Signals, Any] = {each: signal.signal(each, end) for each in END_SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
