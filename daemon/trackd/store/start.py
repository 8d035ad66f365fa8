"""The start on a journal: compare its tables, its frame log and its head file, and move the frames of the log."""

from __future__ import annotations

import logging
import sqlite3

from trackd.store.frame_table import FrameTable
from trackd.store.head_file import FILE_NAME as HEAD_NAME
from trackd.store.head_file import HeadFile, Slot, SlotState, read_head
from trackd.store.journal_file import JournalFile, one_line, repair_hint
from trackd.store.schema import delete_stream
from trackd.store.segments import read_log, segment_paths
from trackd.store.verify import add_log, hole, verify, was_closed
from trackd_client.configuration import ConfigError

logger = logging.getLogger(__name__)

_NAMED = 8  # streams in one line of the log


def start(file: JournalFile, frames: FrameTable) -> tuple[HeadFile, dict[str, str]]:
    """Verify all rows, and move those of the frame log; return the head file, and what streams lack, by stream.

    Streams whose close is in the head file only are deleted here.

    Raises:
        ConfigError: a row does not match its checksum.
    """
    path, head = file.path, read_head(file.path.with_name(HEAD_NAME))
    verified = verify(file.db, head.slots)
    file.db.text_factory = str
    if verified.faults:
        more = f" (and {len(verified.faults) - 1} more)" if len(verified.faults) > 1 else ""
        raise ConfigError(f"{path} is damaged: {verified.faults[0]}{more}. {repair_hint(path)}")
    if head.damage is not None:
        logger.error("%s is damaged: %s", path.with_name(HEAD_NAME), head.damage)
    log = read_log(path.parent, head.segments)
    added = add_log(verified, log.rows)
    try:
        file.db.execute("BEGIN IMMEDIATE")
        frames.insert(added)
        file.db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise ConfigError(f"daemon.state_dir: {path} cannot be written: {one_line(error)}") from None
    slots: dict[str, Slot] = {}
    holes: dict[str, str] = {}
    for stream, rows in verified.streams.items():
        slot = head.slots.get(stream)
        if was_closed(rows, slot):
            file.db.execute("DELETE FROM frames WHERE stream = ?", (stream,))
            delete_stream(file.db, stream)
            slots[stream] = head.slots[stream]
            continue
        slots[stream] = Slot(SlotState.OPEN, rows.epoch, rows.revision, rows.last_seq, rows.checksum)
        reason = hole(path, stream, rows, head, file.upgraded, log)
        if reason is not None:
            holes[stream] = reason
            last_seq = max(rows.last_seq, rows.logged, -1 if slot is None else slot.seq)
            # With this revision the next start finds the hole too, if this one stores no new epoch.
            slots[stream] = slots[stream]._replace(revision=rows.revision + 1, seq=last_seq)
    logged = {(row[0], row[2]): row[1] for row in log.rows}
    lost = [
        f"{stream!r} (epoch {slot.epoch}, seq up to {max(slot.seq, logged.get((stream, slot.epoch), -1))})"
        for stream, slot in head.slots.items()
        if slot.state is SlotState.OPEN and stream not in verified.streams
    ]
    if lost:
        logger.error(
            "%s lacks %d streams that were open, and their frames: %s. Each begins a new epoch when it is opened",
            path, len(lost), ", ".join(lost[:_NAMED]) + (", …" if len(lost) > _NAMED else ""),
        )  # fmt: skip
    highest_epoch = max(verified.highest_epoch, head.highest_epoch, *(epoch for _, epoch in logged))
    head_file = HeadFile(path.with_name(HEAD_NAME), slots, highest_epoch, range(log.end, log.end))
    for segment in segment_paths(path.parent).values():
        if log.damage or holes or lost:
            kept = segment.replace(segment.with_name(f"{segment.name}.kept"))
            if segment.name in log.damage:
                logger.error("%s is %s; it is kept as %s", segment, log.damage[segment.name], kept.name)
        else:
            segment.unlink()
    return head_file, holes
