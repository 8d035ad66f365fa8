"""The jobs of one stream's outputs that wait, and how far they are done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from trackd.outputs.records import OutputRecord
from trackd.outputs.stream_files import StreamFiles


@dataclass(frozen=True, slots=True)
class OpenFiles:
    """Open the stream's files; a repeated attempt opens the remaining ones."""


@dataclass(frozen=True, slots=True, eq=False)
class WriteFrame:
    """Write one frame; a repeated attempt skips the files that have it."""

    seq: int
    record: OutputRecord
    nbytes: int


@dataclass(frozen=True, slots=True)
class SkipFrames:
    """Note that the frames up to this one have no records."""

    seq: int


@dataclass(frozen=True, slots=True, eq=False)
class EndFiles:
    """Write what waits and store the positions; what cannot be written now is lost. Then call `done`."""

    done: Callable[[], None]


@dataclass(frozen=True, slots=True)
class CloseFiles:
    """Finish the stream's files."""


Job = OpenFiles | WriteFrame | SkipFrames | EndFiles | CloseFiles


@dataclass(slots=True, eq=False)
class Backlog:
    """The jobs of one stream, from its opening to its close.

    The IO thread appends jobs and counts `submitted`; the outputs thread does jobs and counts `written` and `saved`.
    """

    name: str
    files: StreamFiles
    n_files: int = 0
    jobs: deque[Job] = field(default_factory=deque)
    queued: bool = False  # whether it waits for its turn
    ending: bool = False  # its close was requested: records that cannot be written now are lost
    finished: bool = False  # its files are closed
    previous: Backlog | None = None  # an earlier stream of this name, whose files are finished first
    prepared: bool = False  # no parts of an earlier process are left, or they are being finished
    preparing: bool = False  # parts of an earlier process are being finished
    awaited: bool = False  # the IO thread waits until the stream is not behind
    reason: str | None = None  # why its files cannot be written now
    submitted: int = 0  # records
    submitted_bytes: int = 0
    skipped_seq: int = -1  # the last frame of a job
    written: int = 0
    written_bytes: int = 0
    written_seq: int = -1
    saved: int = 0  # records that the stored positions include
    saved_bytes: int = 0

    @property
    def waiting(self) -> int:
        """Records that are not written yet."""
        return self.submitted - self.written

    @property
    def unsaved(self) -> int:
        """Records that are written, and that the stored positions do not include."""
        return self.written - self.saved

    @property
    def unsaved_bytes(self) -> int:
        """The bytes of these records."""
        return self.written_bytes - self.saved_bytes
