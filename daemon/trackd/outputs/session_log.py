"""The log of one session's output files, without a journal: a daemon that follows a killed one continues the files.

A session is one `Stream` of a client; its token is in `open`. `.<stream>.session`, beside the files, is a sequence of
blocks. The first one has the token and what the files depend on. Each later one is a mark: where each file ends after
one frame, and the track ids so far. A mark is written after its frame is in all files and before the frame is acked. So
the files can be cut behind any frame that the client still keeps, and no acked frame is cut off. The log is deleted
when the files are finished.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from trackd.outputs.files.append_file import AppendFile, rewritten
from trackd.outputs.files.blocks import block, block_ends, blocks
from trackd.outputs.files.part import is_abandoned, stream_map
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position

logger = logging.getLogger(__name__)

SUFFIX = ".session"
_VERSION = 1
# A client sends at most the frames again that it keeps without an ack; the SDK keeps 1024. At twice this number of
# marks the earlier ones are deleted.
KEPT_MARKS = 1280
_MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the files of a session end after one frame."""

    frame_index: int | None  # None: before the first frame
    next_id: int  # above every track id that the files hold
    positions: Mapping[str, Position]  # by format


@dataclass(frozen=True, slots=True)
class EarlierSession:
    """The session of a process that was killed, which goes on."""

    marks: tuple[Mark, ...]  # at least one, by the order of writing

    @property
    def next_id(self) -> int:
        """The first track id that no frame in the files has."""
        return max(mark.next_id for mark in self.marks)


class SessionLog:
    """Written by the outputs thread after each frame.

    Args:
        out_dir: the folder of the files.
        info: the stream.
        kinds: the formats of all its files.
        session: the client's token; None: it sent none, and nothing is logged.
        earlier: the same session in a process that was killed; its files are continued.
    """

    def __init__(
        self,
        out_dir: Path,
        info: StreamInfo,
        kinds: Sequence[str],
        session: str | None,
        earlier: EarlierSession | None = None,
    ) -> None:
        self.path = log_path(out_dir, info.name)
        self.session = session  # a client that takes the stream over has another; any thread may set it
        self._logged_session = session
        self._about = _about(info, kinds)
        self._file: AppendFile | None = None
        self._begun = False
        self._n_marks = 0
        self.continued = earlier is not None
        self.resuming = self.continued  # until the first frame shows from where on the client sends again
        self._marks = () if earlier is None else earlier.marks
        self._next_id = 0 if earlier is None else earlier.next_id

    @property
    def is_open(self) -> bool:
        """Whether marks are written."""
        return self._file is not None

    def begin(self, kinds: Iterable[str]) -> None:
        """Write the file, before any output file exists. Where another process writes it, nothing is logged.

        Args:
            kinds: the formats of the files that begin with it.

        Raises:
            OSError: it cannot be written for now; the call may be repeated.
        """
        if self._begun:
            return
        abandoned = is_abandoned(self.path)
        if self.session is None:
            if abandoned:
                self.path.unlink()
        elif abandoned or not self.path.exists():
            marks = self._marks or (Mark(None, 0, {kind: {} for kind in kinds}),)
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._file = rewritten(self.path, self._pieces(marks))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
            else:
                self._marks, self._n_marks = marks, len(marks)
        self._begun = True

    def position(self, kind: str) -> Position | None:
        """From where a file is continued, empty for a file that begins with the log; None: the log does not know it."""
        return self._marks[-1].positions.get(kind) if self._marks else None

    def cut(self, frame_index: int) -> bool:
        """Go back to where the client sends again; whether the files have to be cut, to the new `position`.

        Args:
            frame_index: of the first frame that it sends.

        Raises:
            OSError: the file cannot be written for now; the call may be repeated.
        """
        n = len(self._marks)
        while n > 1 and (last := self._marks[n - 1].frame_index) is not None and last >= frame_index:
            n -= 1
        if n == len(self._marks):
            return False
        if self._file is not None:
            # Before the files are cut: a kill between the two leaves files that are longer than the last mark says.
            self._file.replace(self._pieces(self._marks[:n]))
        self._marks, self._n_marks = self._marks[:n], n
        return True

    @property
    def last_frame_index(self) -> int | None:
        """The last frame in the files, where they are continued; None: they have none."""
        return self._marks[-1].frame_index if self._marks else None

    def resumed(self) -> None:
        """Note that the files end where the client sends again."""
        self.resuming = False
        self._marks = ()

    def add(self, record: OutputRecord, positions: Mapping[str, Position]) -> None:
        """Write the mark of a frame that is in all files.

        Raises:
            OSError: it cannot be written for now; the call may be repeated.
        """
        assert self._file is not None
        self._next_id = max(self._next_id, int(record.track_ids.max(initial=-1)) + 1)
        piece = _mark_block(Mark(record.frame_index, self._next_id, positions))
        session = self.session
        if session != self._logged_session:
            piece = block({"session": session}) + piece
        try:
            self._file.append(piece)
        except OSError as error:
            raise OSError(error.errno, error.strerror or str(error), str(self.path)) from error
        self._logged_session = session
        self._n_marks += 1
        if self._n_marks >= 2 * KEPT_MARKS:
            self._shorten()

    def remove(self) -> None:
        """Close and delete the file; nothing is logged from here on."""
        self._begun = True
        if self._file is not None:
            self._file.close()
            self._file = None
            with contextlib.suppress(OSError):  # a log that stays names a session that does not come back
                self.path.unlink(missing_ok=True)

    def _shorten(self) -> None:
        assert self._file is not None
        try:
            with self.path.open("rb") as file:
                file.seek(block_ends(file)[-KEPT_MARKS - 1])
                kept = file.read()
            self._file.replace([self._head(), kept])
        except (OSError, IndexError) as error:  # it stays as it is, which is only longer
            logger.debug("%s cannot be shortened: %s", self.path, error)
        self._n_marks = KEPT_MARKS

    def _head(self) -> bytes:
        return block({"version": _VERSION, "session": self.session, **self._about})

    def _pieces(self, marks: Iterable[Mark]) -> Iterator[bytes]:
        yield self._head()
        for mark in marks:
            yield _mark_block(mark)


def log_path(out_dir: Path, name: str) -> Path:
    """The log of a stream's session."""
    return out_dir / f".{name}{SUFFIX}"


def find_session(out_dir: Path, info: StreamInfo, kinds: Sequence[str], session: str) -> EarlierSession | None:
    """Return a client's session if a process that was killed has left its files, and they can be continued.

    Args:
        out_dir: the folder of the files.
        info: the stream, as it is opened now.
        kinds: the formats of its files now.
        session: the client's token.
    """
    path = log_path(out_dir, info.name)
    try:
        if not is_abandoned(path):
            return None
        head, marks = _read(path)
    except (OSError, ValueError) as error:
        logger.error("stream=%s: %s cannot be used: %s; new output files begin", info.name, path, error)
        return None
    if head["session"] != session:
        return None
    about = _about(info, kinds)
    changed = [name for name in about if head.get(name) != about[name]]
    if changed:
        logger.warning("stream=%s: new output files begin, since %s changed", info.name, " and ".join(changed))
        return None
    return EarlierSession(tuple(marks))


def remove_logs(out_dir: Path) -> None:
    """Delete the logs in a folder that no living process writes."""
    for path in out_dir.glob(f".*{SUFFIX}"):
        if is_abandoned(path):
            path.unlink(missing_ok=True)


def _about(info: StreamInfo, kinds: Sequence[str]) -> dict[str, Any]:
    """What must be the same for the files to be continued."""
    return {"outputs": list(kinds), "stream": stream_map(info)}


def _mark_block(mark: Mark) -> bytes:
    return block({"mark": [mark.frame_index, mark.next_id, mark.positions]})


def _read(path: Path) -> tuple[dict[str, Any], list[Mark]]:
    """The head of a log, with the latest token, and the marks.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not a log of this version.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    try:
        with path.open("rb") as file:
            values = [value for value, _ in blocks(file)]
        head = values[0]
        if head["version"] != _VERSION:
            raise ValueError(f"it is of version {head['version']}")
        marks = []
        for value in values[1:]:
            if "mark" in value:
                frame_index, next_id, positions = value["mark"]
                marks.append(Mark(frame_index, next_id, positions))
            else:
                head["session"] = value["session"]
        if not marks:
            raise ValueError("it has no mark")
    except (IndexError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"it is damaged: {error!r}") from None
    return head, marks
