"""The messages of a stream's log: what a member appends is what the next one reads."""

from __future__ import annotations

from dataclasses import replace

import msgpack
import numpy as np
import pytest

from trackd.fleet.batch import decode_batch, encode_batch
from trackd.fleet.held import HeldStream
from trackd.fleet.retained import RetainedMessages
from trackd.fleet.stored_log import StoredLog
from trackd.store.checksums import NO_LINK
from trackd.store.codec import DamagedError
from trackd.store.records import CloseRecord, FrameRecord, OpenRecord, Record, SnapshotRecord

EPOCH = 7


def opening(epoch: int = EPOCH, first_seq: int = 0, history_frames: int = 4) -> OpenRecord:
    return OpenRecord("cam", epoch, first_seq, {"settings": {"stream": {"history_frames": history_frames}}})


def frame(seq: int, epoch: int = EPOCH) -> FrameRecord:
    body = {"track_ids": np.array([seq, 1], np.int32), "track_scores": np.ones(2, np.float32)}
    return FrameRecord("cam", epoch, seq, seq, seq * 40, "tracked", None, body)


def snapshot(seq: int, epoch: int = EPOCH) -> SnapshotRecord:
    return SnapshotRecord("cam", epoch, seq, {"next_id": seq})


class Log:
    """The messages of a log, appended as a member does it."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, int, bytes]] = []
        self._link, self._epoch = NO_LINK, 0

    def claim(self, term: int) -> Log:
        self.messages.append((len(self.messages) + 1, term, b""))
        return self

    def append(self, *records: Record) -> Log:
        data, self._link, self._epoch = encode_batch(records, self._link, self._epoch)
        self.messages.append((len(self.messages) + 1, 1, data))
        return self

    def read(self, *without: int, first: int = 1) -> StoredLog:
        stored = StoredLog("cam", first)
        for message in self.messages:
            if message[0] >= first and message[0] not in without:
                stored.add(*message)
        return stored


def test_a_stream_is_read_as_it_was_appended():
    log = Log().claim(1).append(opening()).append(frame(0), frame(1)).append(frame(2), snapshot(2)).append(frame(3))
    stored = log.read()
    found = stored.result()
    assert found is not None
    assert found.hole is None
    assert (found.opened, found.last_seq, stored.epoch) == (opening(), 3, EPOCH)
    assert found.snapshot == snapshot(2)
    assert [record.seq for record in found.frames] == [0, 1, 2, 3]
    np.testing.assert_array_equal(found.frames[3].body["track_ids"], [3, 1])
    assert stored.spans == [(3, 1), (4, 2), (5, 3)]
    data, link, _ = encode_batch([frame(4)], stored.link, stored.epoch)  # the next owner's first frame
    stored.add(6, 2, data)
    assert stored.link == link
    assert stored.result().hole is None


def test_a_new_or_closed_stream_has_nothing_but_its_epoch():
    assert Log().claim(1).read().result() is None
    log = Log().claim(1).append(opening()).append(frame(0)).append(CloseRecord("cam"))
    assert log.read().result() is None
    assert log.read().epoch == EPOCH
    assert log.read(2, 3).epoch == EPOCH  # the close alone is left
    again = log.claim(2).append(opening(EPOCH + 1)).append(frame(0, EPOCH + 1)).read().result()
    assert again is not None
    assert (again.opened.epoch, again.last_seq, again.hole) == (EPOCH + 1, 0, None)
    assert [record.epoch for record in again.frames] == [EPOCH + 1]


@pytest.mark.parametrize("missing", [3, 5])
def test_a_missing_message_is_a_hole_until_the_next_snapshot(missing):
    log = Log().claim(1).append(opening()).append(frame(0)).append(frame(1)).append(frame(2)).append(frame(3))
    assert "lacks" in log.read(missing).result().hole
    assert log.append(opening(), snapshot(3)).read(missing).result().hole is None


def test_a_missing_last_message_before_a_snapshot_needs_no_new_epoch():
    log = Log().claim(1).append(opening()).append(frame(0)).append(opening(), frame(1), snapshot(1)).append(frame(2))
    found = log.read(3).result()
    assert found.hole is None
    assert [record.seq for record in found.frames] == [1, 2]


def test_a_message_that_is_not_of_a_member_is_a_hole():
    log = Log().claim(1).append(opening()).append(frame(0))
    for term, data in ((-1, b""), (1, b"rubbish"), (1, msgpack.packb([1, [[9]]])), (1, msgpack.packb([2, []]))):
        stored = log.read()
        stored.add(9, term, data)
        assert "message 9" in stored.result().hole


def test_a_changed_bit_is_found():
    data, _, _ = encode_batch([frame(0), frame(1)], NO_LINK, 0)
    decode_batch("cam", data)
    found = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 1
        try:
            records = decode_batch("cam", bytes(changed))
        except DamagedError:
            found += 1
        else:  # a bit that does not change a value, such as the length class of a number
            assert [record for record, _, _ in records] == [frame(0), frame(1)]
    assert found > 0.9 * len(data)
    with pytest.raises(DamagedError, match="checksum"):
        decode_batch("other", data)


def test_messages_before_a_snapshot_are_deleted_but_for_the_history():
    retained = RetainedMessages(100, 2)
    assert retained.added(1, [opening(history_frames=2)]) is None
    assert retained.added(2, [frame(0), frame(1)]) is None
    assert retained.added(3, [frame(2)]) is None
    assert retained.added(4, [frame(3), opening(history_frames=2), snapshot(3)]) == 3  # seq 2 and 3 stay
    assert retained.added(5, [frame(4)]) is None
    assert retained.added(6, [frame(5), frame(6), opening(history_frames=2), snapshot(6)]) == 6  # seq 5 and 6 stay


def test_a_later_owner_deletes_the_messages_of_the_earlier_one():
    log = Log().claim(1).append(opening()).append(frame(0)).append(frame(1)).append(frame(2)).append(frame(3))
    retained = RetainedMessages(4, 2, log.read().spans)
    assert retained.added(8, [replace(opening(), opened={}), snapshot(9)]) == 7


def held_after(*messages: list[Record], queue_depth: int = 2) -> tuple[HeldStream, Log, list[int]]:
    """Append messages as a member does; return the stream, its log, and the base of each message."""
    log, bases = Log().claim(1), []
    held = HeldStream(1, 1, NO_LINK, 0, RetainedMessages(100, queue_depth))
    for records in messages:
        whole, base = held.message(records)
        log.append(*whole)
        held.sequence += 1
        held.base = base or held.sequence
        held.retained.added(held.sequence, whole)
        bases.append(held.base)
    return held, log, bases


def test_a_takeover_reads_from_the_last_snapshot_and_the_frames_that_may_be_sent_again():
    frames = [[frame(seq)] for seq in range(6)]
    _, log, bases = held_after([opening()], *frames, [frame(6), snapshot(6)], [frame(7)], [snapshot(7)], [frame(8)])
    assert bases == [2] * 7 + [8, 8, 9, 9]  # with a depth of 2: seq 5 is in message 8, seq 6 and 7 in 9 and 10
    whole, tail = log.read(), log.read(first=bases[-1])
    assert tail.is_whole
    assert [record.seq for record in tail.frames] == [6, 7, 8]
    assert (tail.link, tail.epoch) == (whole.link, whole.epoch)
    assert tail.result().snapshot == whole.result().snapshot
    assert tail.result().opened == whole.result().opened
    assert tail.result().last_seq == whole.result().last_seq == 8


@pytest.mark.parametrize("depth", [1, 2, 4, 32])
def test_a_takeover_finds_the_last_frame_whatever_the_depth(depth):
    _, log, bases = held_after(
        [opening()], *([frame(seq)] for seq in range(9)), [snapshot(8)], queue_depth=depth
    )  # fmt: skip
    tail = log.read(first=bases[-1])
    assert tail.is_whole
    assert [record.seq for record in tail.frames] == list(range(max(0, 9 - depth), 9))


def test_a_new_epoch_and_a_close_need_nothing_before_them():
    _, log, bases = held_after([opening()], [frame(0)], [opening(EPOCH + 1, 1)], [frame(1, EPOCH + 1)])
    assert bases == [2, 2, 4, 4]
    assert log.read(first=4).result().opened.epoch == EPOCH + 1
    _, log, bases = held_after([opening()], [opening(history_frames=9)], [frame(0)], [CloseRecord("cam")])
    assert bases == [2, 2, 2, 5]
    assert (log.read(first=5).result(), log.read(first=5).epoch) == (None, EPOCH)


def test_the_older_messages_are_deleted_too_once_they_are_known():
    log = Log().claim(1).append(opening()).append(frame(0)).append(frame(1)).append(frame(2)).append(frame(3))
    retained = RetainedMessages(2, 2, log.read(first=6).spans)
    retained.add_older(log.read(7, 6).spans)
    assert retained.added(7, [frame(4), opening(history_frames=2), snapshot(4)]) == 6


def test_a_damaged_message_before_the_snapshot_is_not_needed_and_one_after_it_is():
    _, log, bases = held_after([opening()], [frame(0)], [frame(1)], [frame(2), snapshot(2)], [frame(3)], [frame(4)])
    assert bases[-1] == 4
    assert log.read(3, first=4).is_whole
    assert not log.read(6, first=4).is_whole
    assert not log.read(5, first=4).is_whole  # there is no opening then
