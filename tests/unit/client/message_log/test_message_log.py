"""Message logs: records, segments, what a reader does with a cut or damaged file, and the faults of a play."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trackd_client.apps.play import timed
from trackd_client.errors import TrackdError
from trackd_client.message_log.faults import Fate, Faults, planned
from trackd_client.message_log.reader import LogReader
from trackd_client.message_log.record import HEAD, Kind, Record, checksum
from trackd_client.message_log.writer import MAGIC, LogFull, LogWriter, segments

records = st.builds(
    Record,
    st.sampled_from(Kind),
    st.integers(0, 2**62),
    st.integers(0, 2**62),
    st.lists(st.binary(max_size=40), max_size=5).map(tuple),
)


def made(n: int, size: int = 20) -> list[Record]:
    return [Record(Kind.MESSAGE, 1000 + i, i, (b"topic", bytes([i % 256]) * size)) for i in range(n)]


def write(folder: Path, some: list[Record], **options) -> None:
    with LogWriter(folder, **{"segment_bytes": 1 << 20, **options}) as log:
        for record in some:
            log.append(record)


@settings(deadline=None)
@given(records)
def test_a_record_is_decoded_to_what_was_encoded(record):
    data = record.encode()
    length, crc = HEAD.unpack_from(data)
    assert length == len(data) - HEAD.size
    assert crc == checksum(length, data[HEAD.size :])
    assert Record.decode(data[HEAD.size :]) == record


def test_records_are_read_in_order_over_bounded_segments_and_several_writers(tmp_path):
    some = made(200)
    write(tmp_path, some[:150], segment_bytes=1000)
    write(tmp_path, some[150:], segment_bytes=1000)
    assert list(LogReader(tmp_path).records()) == some
    sizes = [path.stat().st_size for path in segments(tmp_path)]
    assert len(sizes) > 5
    assert max(sizes) <= 1000


def test_a_log_that_is_cut_anywhere_gives_all_whole_records_and_one_line(tmp_path):
    some = made(3)
    write(tmp_path, some)
    (path,) = segments(tmp_path)
    data = path.read_bytes()
    ends = [len(MAGIC)]
    for record in some:
        ends.append(ends[-1] + len(record.encode()))
    for cut in range(len(MAGIC), len(data) + 1):
        path.write_bytes(data[:cut])
        reader = LogReader(tmp_path)
        assert list(reader.records()) == some[: sum(end <= cut for end in ends) - 1]
        assert (len(reader.cut), reader.damaged) == (cut not in ends, [])


def test_a_damaged_byte_ends_its_segment_and_not_the_log(tmp_path):
    some = made(20)
    write(tmp_path, some[:10])
    write(tmp_path, some[10:])
    first = segments(tmp_path)[0]
    data = bytearray(first.read_bytes())
    data[len(MAGIC) + 5 * len(some[0].encode()) + 30] ^= 1
    first.write_bytes(data)
    reader = LogReader(tmp_path)
    assert list(reader.records()) == some[:5] + some[10:]
    assert len(reader.damaged) == 1
    assert "does not have its checksum" in reader.damaged[0]


def test_a_length_that_cannot_be_is_refused_before_anything_is_allocated(tmp_path):
    write(tmp_path, made(1))
    (path,) = segments(tmp_path)
    path.write_bytes(MAGIC + b"\xff" * 64)
    reader = LogReader(tmp_path)
    assert list(reader.records()) == []
    assert "a record has at most" in reader.damaged[0]


def test_a_log_is_read_from_a_time_with_its_index_and_without(tmp_path):
    some = made(500)
    write(tmp_path, some, segment_bytes=5000)
    for index in [None, *tmp_path.glob("*.index")]:
        if index is not None:
            index.write_bytes(b"\x07" * 31)
        assert [record.received_ns for record in LogReader(tmp_path).records(1333)] == list(range(1333, 1500))


def test_a_full_log_refuses_or_deletes_its_oldest_segments(tmp_path):
    with pytest.raises(LogFull, match="at most 3000"):
        write(tmp_path / "a", made(200), segment_bytes=1000, max_bytes=3000)
    write(tmp_path / "b", made(200), segment_bytes=1000, max_bytes=3000, delete_oldest=True)
    left = list(LogReader(tmp_path / "b").records())
    assert left == made(200)[-len(left) :]
    assert 30 < len(left) < 60
    assert sum(path.stat().st_size for path in segments(tmp_path / "b")) <= 3000


def test_a_folder_has_one_writer(tmp_path):
    with LogWriter(tmp_path, 1000), pytest.raises(TrackdError, match="another program records into it"):
        LogWriter(tmp_path, 1000)


def test_a_folder_without_a_log_is_named(tmp_path):
    with pytest.raises(TrackdError, match="no recorded messages"):
        LogReader(tmp_path)


def test_the_times_of_a_play_are_those_of_the_recording_by_the_clock_that_is_not_set():
    some = [
        Record(Kind.MESSAGE, wall * 10**9, mono * 10**9, ())
        # The third is from another boot; the Unix time steps back in the fourth.
        for wall, mono in [(100, 5), (101, 6), (110, 1), (50, 2)]
    ]
    assert [at / 1e9 for at, _ in timed(some, 1.0)] == [0, 1, 10, 10]
    assert [at / 1e9 for at, _ in timed(some[:2], 4.0)] == [0, 0.25]
    assert [at for at, _ in timed(some, float("inf"))] == [0, 0, 0, 0]


probability = st.floats(0, 1)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 100), max_size=40),
    st.builds(Faults, st.integers(0, 5), probability, probability, probability, st.integers(0, 50)),
)
def test_a_plan_has_every_message_once_in_rising_times_and_depends_on_the_seed_alone(steps, faults):
    times = [sum(steps[: i + 1]) for i in range(len(steps))]
    items = [(at, i) for i, at in enumerate(times)]
    plan = list(planned(items, faults))
    assert plan == list(planned(items, faults))
    assert [each.item for each in plan if each.fate is not Fate.LATE] == list(range(len(items)))
    late = [each.item for each in plan if each.fate is Fate.LATE]
    assert late == [each.item for each in plan if each.fate is Fate.HELD]
    assert all((each.copies == 0) == (each.fate in (Fate.LOST, Fate.HELD)) for each in plan)
    due = [each.due_ns for each in plan]
    assert due == sorted(due)
    assert all(each.due_ns >= times[each.item] for each in plan)


def test_without_faults_a_plan_is_the_recording():
    assert [(p.due_ns, p.item, p.copies) for p in planned([(1, "a"), (5, "b")], Faults(3))] == [
        (1, "a", 1),
        (5, "b", 1),
    ]


def test_the_faults_have_about_their_probabilities():
    plan = list(planned(((i, i) for i in range(10_000)), Faults(1, loss=0.2, duplicate=0.1, reorder=0.1)))
    assert 1800 < sum(each.fate is Fate.LOST for each in plan) < 2200
    assert 650 < sum(each.copies == 2 for each in plan) < 950
    assert 600 < sum(each.fate is Fate.LATE for each in plan) < 1000
