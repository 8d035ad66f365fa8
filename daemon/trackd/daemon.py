"""The daemon's life: build its parts, start its threads, drain, end."""

from __future__ import annotations

import logging
import os
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from trackd.config import Config, LimitsConfig, StreamSettings
from trackd.engine.engine import LANES, Engine
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.engine.outcome import CommandResult, Outcome
from trackd.fleet.log import FleetLog
from trackd.fleet.membership import Membership
from trackd.fleet.ownership import Ownership
from trackd.identity.gallery import Galleries
from trackd.models.errors import DeviceLostError, DeviceMemoryError
from trackd.models.registry import ModelRegistry
from trackd.observe.fleet_metrics import FleetMetrics
from trackd.observe.health import Health
from trackd.observe.http import HttpServer, make_app
from trackd.observe.metrics import Metrics
from trackd.observe.token import read_token
from trackd.observe.traces import open_traces
from trackd.outputs.positions import Positions
from trackd.outputs.thread import MOST_WAITING_BYTES, OutputsThread
from trackd.recording.folder import check_writable
from trackd.recording.recorder import Recorder
from trackd.server.access.curve import Security
from trackd.server.access.endpoints import check_addresses
from trackd.server.access.viewer import admission
from trackd.server.budget import Budget
from trackd.server.control.call import DaemonParts
from trackd.server.control.control import Control
from trackd.server.fleet_member import member_of, open_log
from trackd.server.fleet_pages import FleetPages
from trackd.server.fleet_streams import FleetStreams
from trackd.server.ingest import Ingest
from trackd.server.pages import Pages
from trackd.server.publisher import Publisher
from trackd.server.server import Server
from trackd.server.session import Sessions
from trackd.server.slow_subscribers import SlowSubscribers
from trackd.server.sockets import Sockets
from trackd.server.stream_lifecycle import Streams
from trackd.server.stream_recordings import StreamRecordings
from trackd.store.journal import Journal
from trackd.store.journal_file import WAY_OUT
from trackd.store.looks_folder import LooksFolder
from trackd.store.looks_writer import LooksWriter
from trackd.store.records import Record
from trackd.store.remembered_models import RememberedModels
from trackd.viewer.app import page_address, viewer_routes
from trackd.viewer.hub import Hub
from trackd.viewer.shower import Shower
from trackd_client.configuration import ConfigError
from trackd_client.protocol import DEFAULT_LIMITS, Limits

logger = logging.getLogger(__name__)

# While the engine runs Python code, the IO thread waits this long for the interpreter lock; the default is 5 ms.
_SWITCH_INTERVAL_S = 5e-4
_JOIN_S = 10.0
_HANGING = 20  # a step that takes so many times `limits.step_ms` hangs
FAILED, DEVICE_LOST = 1, 3  # exit codes of a process whose daemon failed


class Daemon:
    """A whole daemon in this process.

    All values of the configuration are checked before a port is bound.

    Args:
        config: the configuration.
        context: a zmq context to share with in-process clients; a new one by default.
        base: the configuration file's folder, which relative paths of checkpoints and keys are tried against first.

    Raises:
        ConfigError: a value of the configuration is invalid, or a port, folder, key or checkpoint cannot be used.
    """

    def __init__(
        self, config: Config, context: zmq.Context[zmq.Socket[bytes]] | None = None, base: Path | None = None
    ) -> None:
        check_addresses(config)
        token = None if config.daemon.http is None else read_token(config.security, base)
        if config.stream.outputs:
            check_writable("out_dir", Path(config.out_dir))
        self.context = context or zmq.Context()
        limits = wire_limits(config.limits)
        inbox = self._inbox = Inbox(config.limits.queue_bytes)
        outbox = self._outbox = Outbox()
        self.metrics = Metrics(inbox)
        self._traces = open_traces(config.daemon, self.metrics.traces)
        models = self._models = ModelRegistry(config, base)
        journal = self._journal = _open_journal(config, outbox)
        log = self._log = _open_log(config, outbox, self.metrics, base)
        remembered = _recall(config, models)
        if log is not None:
            self._engine = Engine(
                inbox, log.put, journaling=True, has_room=log.has_room, wake_inline=outbox.wake,
                on_long_step=self.metrics.long_steps.observe,
            )  # fmt: skip
        elif journal is None:
            self._engine = Engine(
                inbox, outbox.put, wake_inline=outbox.wake, on_long_step=self.metrics.long_steps.observe
            )
        else:
            self._engine = Engine(
                inbox, journal.put, journaling=True, has_room=journal.has_room, deliver_inline=journal.store,
                wake_inline=outbox.wake, on_long_step=self.metrics.long_steps.observe, keeps_looks=True,
            )  # fmt: skip
        self._looks = None if journal is None else LooksWriter(LooksFolder(journal.database.path.parent))
        self.health = Health(self._engine, inbox, config.daemon.stall_s, log or journal)
        if config.limits.step_ms is not None:  # a step over the limit may still take some times as long
            self.health.long_step_s = _HANGING * config.limits.step_ms / 1e3 + config.daemon.stall_s
        security = self._security = _open_security(config, self.context, self.metrics, base)
        self._http: HttpServer | None = None
        hub = Hub(wake_io=outbox.wake)
        self._shower = Shower(hub, inbox) if config.daemon.http is not None and config.viewer.enabled else None
        try:
            self._sockets = Sockets(config, self.context, security)
        except BaseException:
            if security is not None:
                security.close()
            raise
        try:
            if config.daemon.http is not None:
                routes = viewer_routes(config.viewer, hub, admission(config, token)) if config.viewer.enabled else []
                self._http = HttpServer(config.daemon.http, make_app(self.metrics, self.health, token, routes))
        except BaseException:
            self._sockets.close()
            if security is not None:
                security.close()
            raise
        self._outputs = self.health.outputs = _make_outputs(config, self.metrics, outbox, journal)
        self.addresses = {name: self._sockets.address(name) for name in ("ingest", "tracks", "control")}
        if self._http is not None:
            self.addresses["http"] = f"http://{self._http.address}"
            if self._shower is not None:
                self.addresses["viewer"] = page_address(self._http.address)
        sessions = Sessions(wall_clock(), 0 if journal is None else journal.database.highest_epoch)
        recorder = self._recorder = Recorder(config.recording, _on_io_thread(outbox))
        slow = SlowSubscribers(self._sockets.tracks_address)
        publisher = Publisher(
            self._sockets.tracks, self._sockets.ingest, self.metrics, slow, hub, recorder.taps, self._traces
        )
        streams = Streams(
            StreamSettings.of(config), _limits_here(config.limits), sessions, inbox, self._engine, models, publisher,
            self._outputs, Galleries(config.galleries), journaling=journal is not None, looks=self._looks,
        )  # fmt: skip
        if journal is not None:
            names = _recover(journal, streams)
            self._outputs.finish_closed(names)
            if self._looks is not None:
                self._looks.folder.keep_only(names)
        budget = Budget()
        ingest = Ingest(
            sessions, streams, inbox, publisher, limits, self._outputs, budget=budget, empty_image=models.empty_image
        )
        recordings = StreamRecordings(recorder, sessions, publisher)
        streams.when_closed = recordings.stream_closed
        if log is not None:
            streams.fleet = self._join_fleet(config, log, sessions, publisher, streams)
        if journal is not None:
            recordings.go_on()
        parts = DaemonParts(
            sessions, streams, inbox, outbox, models, self.health, self.drain, time.monotonic(), recordings, remembered
        )
        control = Control(self._sockets.control, parts, self.metrics, limits, budget=budget)
        self._server = Server(
            self._sockets, ingest, control, publisher, sessions, streams, inbox, outbox, self._engine, self._outputs,
            log or journal, self.health, limits.parts, security, budget=budget,
            pages=Pages(
                hub, control, sessions, streams.unavailable, budget, recording_of=recordings.of,
                fleet=_fleet_pages(streams.fleet),
            ),
        )  # fmt: skip
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._drain_s = config.daemon.drain_s
        self._failed = False  # before it was closed
        self.exit_code = FAILED  # of the process, if the daemon failed

    def _join_fleet(
        self, config: Config, log: FleetLog[Outcome], sessions: Sessions, publisher: Publisher, streams: Streams
    ) -> FleetStreams:
        assert config.daemon.fleet is not None
        me = member_of(config.daemon.fleet, self.addresses, log.instance)
        membership = Membership(me, log, config.daemon.fleet.lease_s, log.figures)
        ownership = Ownership(log, membership, log.figures, config.stream)
        log.written_seq = self._outputs.noted_seq
        log.submit(membership.run)
        fleet = FleetStreams(
            log, membership, ownership, sessions, publisher, _on_io_thread(self._outbox), _limits_here(config.limits),
            self._models, Galleries(config.galleries, lenient=True),
        )  # fmt: skip
        fleet.life = streams
        return fleet

    # --- life ---

    def start(self) -> None:
        """Start the threads; return when the daemon accepts frames."""
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        if self._security is not None:
            self._start("security", self._security.run)
        if self._journal is not None:
            self._start("journal", self._journal.run)
        if self._looks is not None:
            self._start("looks", self._looks.run)
        if self._log is not None:
            self._start("fleet", self._log.run)
        self._start("engine", self._engine.run)
        for number in range(LANES):
            self._start(f"lane {number}", self._engine.run_lane)
        self._start("outputs", self._outputs.run)
        if self._http is not None:
            self._start("http", self._http.run)
        if self._shower is not None:
            self._start("viewer", self._shower.run)
        if self._recorder.is_configured:
            self._start("recorder", self._recorder.run)
        if self._traces is not None:
            self._start("traces", self._traces.run)
        self._start("io", self._serve)
        deadline = time.monotonic() + _JOIN_S
        while self._http is not None and not self._http.started and not self._ended.is_set():
            if time.monotonic() > deadline:
                self._fail("http", "did not start")
            time.sleep(0.005)
        self.health.bound = True
        self.metrics.ready.set_function(lambda: float(self.health.unready() is None))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the daemon has ended; return False after `timeout_s`."""
        return self._ended.wait(timeout_s)

    def drain(self) -> None:
        """Refuse new frames, settle the queued ones, then end. Any thread may call this, more than once."""
        if not self.health.draining:
            logger.info("draining: %d frames are queued", self._inbox.waiting)
            self.health.draining = True
            threading.Thread(target=self._limit_drain, name="drain", daemon=True).start()
        self._outbox.wake()

    def close(self) -> str | None:
        """Drain, end all threads, close all sockets and files; return why the daemon failed, None where it did not."""
        self._failed = self.health.failure is not None
        self.drain()
        self._models.stop()
        self._ended.wait(self._drain_s + _JOIN_S)
        self._inbox.stop()
        if self._journal is not None:
            self._journal.stop()
        if self._looks is not None:
            self._looks.stop()
        if self._log is not None:
            self._log.stop()
        self._outputs.stop()
        if self._security is not None:
            self._security.stop()
        if self._http is not None:
            self._http.stop()
        if self._shower is not None:
            self._shower.stop()
        self._recorder.close()
        if self._traces is not None:
            self._traces.stop()
        deadline = time.monotonic() + _JOIN_S
        for thread in self._threads:
            if self._failed and thread.name.startswith(("engine", "lane")):
                continue  # work that a dead thread has taken is never released, and they would wait for it
            # Output files have no time limit. If the process is killed here, what was written stays as a part.
            thread.join(None if thread.name == "outputs" else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                self._fail(thread.name, "did not end")
        if self.health.failure is None:
            self._outbox.close()
        return self.health.failure

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- parts ---

    @property
    def written(self) -> list[Path]:
        """The output files that are finished."""
        return list(self._outputs.paths)

    @property
    def unfinished(self) -> list[Path]:
        """The output files that could not be finished, and that nothing has finished since."""
        return self._outputs.unfinished

    @property
    def output_errors(self) -> int:
        """The number of records and files that could not be written to the outputs."""
        return self.metrics.n_output_errors

    def _serve(self) -> None:
        try:
            self._server.run()
        finally:
            # A zmq socket may be used by one thread only, and this thread uses them.
            self._sockets.close()
        self._ended.set()

    def _start(self, name: str, target: Callable[[], None]) -> None:
        def run() -> None:
            try:
                target()
                if not self.health.draining:
                    self._fail(name, "ended without a drain")
            except DeviceLostError as error:
                logger.critical("the %s thread: %s", name, error)
                self._fail(name, f"cannot go on: {error}", DEVICE_LOST)
            except BaseException as error:
                logger.critical("the %s thread died", name, exc_info=error)
                self._fail(name, f"died: {type(error).__name__}: {error}")

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _fail(self, name: str, why: str, exit_code: int = FAILED) -> None:
        if self.health.failure is None:
            self.health.failure = f"the {name} thread {why}"
            self.exit_code = exit_code
        self.health.draining = True
        self._ended.set()

    def _limit_drain(self) -> None:
        if not self._ended.wait(self._drain_s):
            why = self.health.storage_fault() or f"{self._inbox.waiting} frames are not settled"
            self._fail("io", f"had not drained after {self._drain_s:.0f} s; {why}")


def _on_io_thread(outbox: Outbox) -> Callable[[Callable[[], None]], None]:
    """Return a function that runs another one on the IO thread."""
    return lambda call: outbox.put([CommandResult(lambda result, error: call(), None, None)])


def _open_security(
    config: Config, context: zmq.Context[zmq.Socket[bytes]], metrics: Metrics, base: Path | None
) -> Security | None:
    if not config.security.curve:
        return None
    return Security(config.security, context, lambda reason: metrics.auth_rejected.labels(reason=reason).inc(), base)


def _open_journal(config: Config, outbox: Outbox) -> Journal[Outcome] | None:
    state_dir = config.daemon.state_dir
    if state_dir is None or config.daemon.fleet is not None:
        return None
    sync = config.daemon.durability == "power"

    def deliver(outcomes: list[Outcome]) -> None:
        outbox.put(outcomes, time.monotonic_ns())

    return Journal(Path(state_dir), sync, deliver, config.stream.history_frames, config.daemon.journal_bytes)


def _open_log(config: Config, outbox: Outbox, metrics: Metrics, base: Path | None) -> FleetLog[Outcome] | None:
    fleet = config.daemon.fleet
    if fleet is None:
        return None

    def deliver(outcomes: list[Outcome]) -> None:
        outbox.put(outcomes, time.monotonic_ns())

    log = open_log(fleet, deliver, base)
    FleetMetrics(log.figures, metrics.registry)
    return log


def _fleet_pages(fleet: FleetStreams | None) -> FleetPages | None:
    """Return what the viewer's pages show of the fleet; None where this daemon is in none."""
    if fleet is None:
        return None
    return FleetPages(lambda: fleet.membership.me, fleet.log.store, fleet.log.submit, fleet.on_io)


def _recall(config: Config, models: ModelRegistry) -> RememberedModels | None:
    """Load the models again that clients had loaded."""
    if config.daemon.state_dir is None:
        return None
    remembered = RememberedModels(Path(config.daemon.state_dir))
    for name, path, digest in remembered.all():
        models.recall(name, path, digest)
    return remembered


def _limits_here(limits: LimitsConfig) -> LimitsConfig:
    """The limits of streams, with those of this process: sockets need the other half of its file handles."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = soft // 2
    if soft == resource.RLIM_INFINITY or limits.output_files <= most:
        return limits
    logger.warning(
        "limits.output_files is %d; %d are used, half of the files that this process may open",
        limits.output_files, most,
    )  # fmt: skip
    return limits.model_copy(update={"output_files": most})


def _make_outputs(config: Config, metrics: Metrics, outbox: Outbox, journal: Journal[Outcome] | None) -> OutputsThread:
    out_dir, on_error = Path(config.out_dir), metrics.output_errors.inc
    if journal is None or config.daemon.state_dir is None:
        return OutputsThread(out_dir, on_error, outbox.wake)
    # What waits for the outputs cannot be deleted from the journal.
    max_bytes = min(MOST_WAITING_BYTES, config.daemon.journal_bytes // 8)
    positions = Positions(Path(config.daemon.state_dir))
    return OutputsThread(
        out_dir, on_error, outbox.wake, positions=positions, on_saved=journal.database.written, max_bytes=max_bytes
    )


def _recover(journal: Journal[Outcome], streams: Streams) -> set[str]:
    """Open each stream that was open when the last daemon ended; return their names."""
    names = set()
    records: list[Record] = []
    for stored in journal.database.streams():
        names.add(stored.opened.stream)
        try:
            records += streams.recovery.recover(stored, time.monotonic_ns())
        except (DeviceMemoryError, DeviceLostError) as error:
            raise ConfigError(
                f"stream {stored.opened.stream!r} cannot be recovered now: {error}. The journal is as it was; start "
                "the daemon again when the device has room"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{journal.database.path}: stream {stored.opened.stream!r} cannot be recovered: {error}. {WAY_OUT}"
            ) from None
    if records:
        journal.database.write(records)
    return names


def wall_clock() -> Callable[[], float]:
    """Return the wall clock, s since 1970. A test of a clock that was set back shifts it by `TRACKD_CLOCK_SHIFT_S`."""
    shift_s = float(os.environ.get("TRACKD_CLOCK_SHIFT_S", "0"))
    return lambda: time.time() + shift_s


def wire_limits(limits: LimitsConfig) -> Limits:
    """The limits of one message."""
    return Limits(
        limits.header_bytes, max(DEFAULT_LIMITS.header_items, 4 * limits.keypoints), limits.message_bytes, limits.parts,
        limits.image_pixels, limits.instances, limits.keypoints, limits.image_bytes,
    )  # fmt: skip
