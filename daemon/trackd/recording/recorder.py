"""The recorder: writes the published messages of streams to files, on a thread of its own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from trackd.config import RecordingConfig
from trackd.recording.folder import Unfinished, check_writable, finished, unfinished, write_info
from trackd.recording.recording import Recording
from trackd_client.errors import TrackdError
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import Kind, Record
from trackd_client.message_log.writer import LogWriter
from trackd_client.protocol import REPLY_LIMITS, Event, ProtocolError, Tracks, decode

logger = logging.getLogger(__name__)

SEGMENT_BYTES = 64 * 1024 * 1024
_LINGER_S = 0.01  # messages gather for so long: a thread that wakes for each one competes with the IO thread
NO_FOLDER = "recording.dir is not set in the daemon's configuration: it names the folder of recordings"

Work = tuple[Recording, Record] | Callable[[], None] | None


class RecordingError(ValueError):
    """A recording that cannot be started or stopped. The text is one line that states what would be right."""


class Recorder:
    """Starts, writes and ends recordings. The IO thread calls everything but `run`.

    Args:
        config: the folder and the limits.
        deliver: runs a function on the IO thread; any thread may call it.

    Attributes:
        taps: the recordings by stream, to put published messages into; empty nearly always.
        on_ended: is called on the IO thread with a recording that has ended by itself.

    Raises:
        ConfigError: the folder cannot be written to.
    """

    def __init__(self, config: RecordingConfig, deliver: Callable[[Callable[[], None]], None]) -> None:
        self.taps: dict[str, Recording] = {}
        self.on_ended: Callable[[Recording], None] = lambda recording: None
        self._config = config
        self._folder = None if config.dir is None else Path(config.dir).expanduser()
        self._deliver = deliver
        self._work: SimpleQueue[Work] = SimpleQueue()
        self._logs: dict[Recording, LogWriter] = {}  # only the recorder's thread uses it
        if self._folder is not None:
            check_writable("recording.dir", self._folder)

    @property
    def is_configured(self) -> bool:
        """Whether there is a folder for recordings."""
        return self._folder is not None

    # --- the IO thread ---

    def start(self, stream: str, author: str, after_seq: int, done: Callable[[Recording, str | None], None]) -> None:
        """Record a stream from its next message on.

        Args:
            stream: its name.
            author: who asks for it.
            after_seq: the last settlement that was published.
            done: is called on the IO thread when the recording's first file exists, or with why it cannot be written.

        Raises:
            RecordingError: there is no folder, the stream is recorded already, or too many streams are.
        """
        if self._folder is None:
            raise RecordingError(NO_FOLDER)
        if stream in self.taps:
            raise RecordingError(f"stream {stream!r} is recorded already, as {self.taps[stream].name}; stop it first")
        if len(self.taps) >= self._config.at_once:
            raise RecordingError(
                f"recording.at_once allows {self._config.at_once} recordings at once; stop one of "
                f"{', '.join(sorted(self.taps))}"
            )
        t_ns = time.time_ns()
        at = datetime.fromtimestamp(t_ns / 1e9, UTC)
        name = f"{stream}-{at:%Y%m%dT%H%M%S}.{at.microsecond // 1000:03d}Z"
        recording = Recording(stream, name, author, t_ns, self._hand_over, time.monotonic_ns(), after_seq)
        self.taps[stream] = recording
        folder = self._folder / name

        def started(fault: str | None) -> None:
            if fault is None:
                recording.is_started = True
            else:
                self._forget(recording)
            done(recording, fault)

        def begin() -> None:
            fault = None
            try:
                log = LogWriter(folder, SEGMENT_BYTES, self._config.max_bytes)
                try:
                    log.begin()
                    write_info(folder, recording)
                except BaseException:
                    log.close()
                    raise
                self._logs[recording] = log
            except (TrackdError, OSError) as error:
                fault = str(error)
            self._deliver(lambda: started(fault))

        self._work.put(begin)

    def stop(self, stream: str, done: Callable[[Recording], None], reason: str | None = None) -> None:
        """End a recording after the messages that were published so far.

        Args:
            stream: its name.
            done: is called on the IO thread when all is on the disk.
            reason: why, if nobody asked for it.

        Raises:
            RecordingError: the stream is not recorded.
        """
        recording = self.taps.get(stream)
        if recording is None or not recording.is_started:
            raise RecordingError(f"stream {stream!r} is not recorded" if self._folder is not None else NO_FOLDER)
        self._forget(recording)

        def end() -> None:
            if recording in self._logs:
                self._end(recording, reason)
            self._deliver(lambda: done(recording))

        self._work.put(end)

    def go_on(self, stream: str, cut: Unfinished, missed: Callable[[int], list[Record]]) -> Recording | None:
        """Go on with a recording that a kill of the daemon has cut; call this before `run`.

        Args:
            stream: its name.
            cut: the recording.
            missed: returns the records of the settlements after a seq, which was recorded last.

        Returns:
            The recording; None if its files cannot be written, or too many streams are recorded.
        """
        if self._folder is None or len(self.taps) >= self._config.at_once:
            return None
        folder = self._folder / cut.name
        since_ns = max(0, time.time_ns() - cut.t_ns)
        recording = Recording(
            stream, cut.name, cut.author, cut.t_ns, self._hand_over, time.monotonic_ns() - since_ns, cut.after_seq
        )
        try:
            recording.messages, last_seq = _position(folder, cut.after_seq)
            log = LogWriter(folder, SEGMENT_BYTES, self._config.max_bytes)
        except (TrackdError, OSError) as error:
            logger.error("stream=%s: recording %s cannot go on: %s", stream, cut.name, error)
            return None
        recording.is_started = True
        self._logs[recording] = log
        self.taps[stream] = recording
        for record in missed(last_seq):
            recording.messages += record.kind is not Kind.GAP
            self._hand_over(recording, record)
        return recording

    def unfinished(self) -> dict[str, Unfinished]:
        """Return by stream the recordings that a kill of the daemon has cut."""
        return {} if self._folder is None else unfinished(self._folder)

    def list_finished(self, done: Callable[[list[dict[str, Any]]], None]) -> None:
        """Hand the rows of the recordings in the folder that nobody writes any more to the IO thread.

        Raises:
            RecordingError: there is no folder.
        """
        folder = self._folder
        if folder is None:
            raise RecordingError(NO_FOLDER)

        def read() -> None:
            rows: list[dict[str, Any]] = []
            try:
                rows = finished(folder, frozenset(recording.name for recording in self._logs))
            except OSError as error:
                logger.error("%s cannot be read: %s", folder, error)
            self._deliver(lambda: done(rows))

        self._work.put(read)

    def close(self) -> None:
        """End all recordings, and let `run` return."""
        self._work.put(None)

    def _hand_over(self, recording: Recording, record: Record) -> None:
        self._work.put((recording, record))

    def _forget(self, recording: Recording) -> None:
        if self.taps.get(recording.stream) is recording:
            del self.taps[recording.stream]

    # --- the recorder's thread ---

    def run(self) -> None:
        """Write until `close`."""
        while (work := self._work.get()) is not None:
            if isinstance(work, tuple):
                self._write(*work)
                if self._work.empty():
                    time.sleep(_LINGER_S)
            else:
                work()
        for recording in list(self._logs):
            self._end(recording, "the daemon has ended")

    def _write(self, recording: Recording, record: Record) -> None:
        log = self._logs.get(recording)
        parts = tuple(map(bytes, record.parts))
        if record.kind is Kind.MESSAGE:
            recording.taken(sum(map(len, parts[1:])))
        if log is None:  # it has ended, or could not begin
            return
        try:
            log.append(Record(record.kind, record.received_ns, record.monotonic_ns, parts))
            recording.written_bytes = log.bytes
        except TrackdError as error:
            self._end(recording, str(error))

            def ended() -> None:
                if self.taps.get(recording.stream) is recording:  # else it is being stopped, and that reports it
                    self._forget(recording)
                    self.on_ended(recording)

            self._deliver(ended)

    def _end(self, recording: Recording, reason: str | None) -> None:
        log = self._logs.pop(recording)
        recording.ended_ns, recording.reason = time.monotonic_ns(), reason
        try:
            log.close()
            write_info(log.folder, recording)
        except OSError as error:
            recording.reason = reason or f"{log.folder}: cannot be written: {error}"
        if recording.reason is not None:
            logger.warning("stream=%s: recording %s has ended: %s", recording.stream, recording.name, recording.reason)


def _position(folder: Path, after_seq: int) -> tuple[int, int]:
    """Return the number of records in a log, and the seq of the last settlement that it has or knows of.

    Raises:
        TrackdError: there is no log.
    """
    reader, last_seq = LogReader(folder), after_seq
    for record in reader.last_segment():
        with suppress(ProtocolError):
            message = decode(record.parts[1:], REPLY_LIMITS)
            if isinstance(message, Tracks):
                last_seq = max(last_seq, message.seq)
            elif isinstance(message, Event):
                last_seq = max(last_seq, message.last_seq)
    return reader.count(), last_seq
