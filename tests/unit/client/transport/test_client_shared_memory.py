"""Images in shared memory: a read returns the written image or fails, and no segment is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd_client.protocol import ErrorCode, ProtocolError, SharedImage
from trackd_client.transport.shared_memory import ImageRing, SharedImageReader, read_shared_image, sweep_orphans

SHM = Path("/dev/shm")


def refused(image: SharedImage) -> str:
    with pytest.raises(ProtocolError) as caught:
        read_shared_image(image)
    assert caught.value.code is ErrorCode.INVALID_FRAME
    return caught.value.message


@pytest.mark.parametrize(
    ("shape", "dtype"), [((5, 7), "|u1"), ((5, 7, 3), "|u1"), ((4, 4), "<u2"), ((480, 640, 3), "|u1")]
)
def test_a_reader_gets_the_written_image(shape, dtype):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(dtype)
    with ImageRing(shape, dtype) as ring:
        shared = ring.write(image)
        np.testing.assert_array_equal(read_shared_image(shared), image)
        assert (shared.shape, shared.dtype, shared.generation) == (shape, dtype, 1)


def test_the_header_before_the_pixels_holds_the_generation():
    with ImageRing((2, 2)) as ring:
        ring.write(np.zeros((2, 2), np.uint8))
        shared = ring.write(np.full((2, 2), 9, np.uint8))
        data = (SHM / ring.name).read_bytes()
        assert int.from_bytes(data[shared.offset - 64 : shared.offset - 56], "little") == 2 == shared.generation
        assert data[shared.offset : shared.offset + 4] == b"\x09" * 4


def test_an_image_stays_for_as_many_writes_as_there_are_slots():
    with ImageRing((2, 2), slots=3) as ring:
        images = [ring.write(np.full((2, 2), number, np.uint8)) for number in range(3)]
        assert [int(read_shared_image(image)[0, 0]) for image in images] == [0, 1, 2]
        ring.write(np.zeros((2, 2), np.uint8))
        assert "generation 1 in" in refused(images[0])
        assert "holds generation 4" in refused(images[0])


def test_an_image_is_not_readable_before_it_is_committed():
    with ImageRing((2, 2), slots=2) as ring:
        view, commit = ring.reserve()
        view[:] = 5
        del view
        offset = 4096 + 64
        assert "holds generation 0" in refused(SharedImage(ring.name, offset, (2, 2), "|u1", 1))
        shared = commit()
        assert shared.offset == offset
        assert (read_shared_image(shared) == 5).all()
        with pytest.raises(ValueError, match="committed before"):
            commit()


def test_one_reservation_at_a_time():
    with ImageRing((2, 2)) as ring:
        ring.reserve()
        with pytest.raises(ValueError, match="commit the last"):
            ring.reserve()


@pytest.mark.parametrize(
    "name",
    ["", "trackd-", "other-1-a", "../etc/passwd", "trackd-../x", "trackd-a/b", "trackd-a\x00", "trackd-" + "a" * 101],
)
def test_a_name_of_another_folder_or_form_is_refused(name):
    assert "image.name must be trackd-" in refused(SharedImage(name, 64, (2, 2), "|u1", 1))


def test_a_missing_segment_is_refused():
    assert "cannot be opened" in refused(SharedImage("trackd-1-none", 64, (2, 2), "|u1", 1))


@pytest.mark.parametrize("make", ["link", "fifo", "folder"])
def test_a_path_that_is_not_a_regular_file_is_refused(make, tmp_path):
    path = SHM / f"trackd-{os.getpid()}-test-{make}"
    target = tmp_path / "secret"
    target.write_bytes(b"\1" * 4096)
    try:
        match make:
            case "link":
                path.symlink_to(target)
            case "fifo":
                os.mkfifo(path)
            case _:
                path.mkdir()
        message = refused(SharedImage(path.name, 64, (2, 2), "|u1", 1))
        assert "cannot be opened" in message or "not a regular file" in message
    finally:
        path.rmdir() if make == "folder" else path.unlink()


@pytest.mark.parametrize(
    "change", [{"offset": 0}, {"offset": 63}, {"offset": 10**15}, {"shape": (2**31 - 1, 2**31 - 1)}]
)
def test_an_image_beyond_its_segment_is_refused_before_it_is_allocated(change):
    with ImageRing((2, 2)) as ring:
        shared = ring.write(np.zeros((2, 2), np.uint8))
        assert "must lie within" in refused(replace(shared, **change))


def test_a_segment_truncated_by_its_owner_raises_an_error_and_not_sigbus():
    reader = SharedImageReader()
    with ImageRing((64, 64)) as ring:
        shared = ring.write(np.zeros((64, 64), np.uint8))
        reader.read(shared)
        os.truncate(SHM / ring.name, 128)
        with pytest.raises(ProtocolError, match="within the 128 bytes"):
            reader.read(shared)
    reader.close()


def test_a_reader_keeps_few_segments_open_and_closes_unlinked_ones():
    reader = SharedImageReader(segments=2)
    rings = [ImageRing((2, 2)) for _ in range(4)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    for ring in rings:
        reader.read(ring.write(np.zeros((2, 2), np.uint8)))
    assert len(list(Path("/proc/self/fd").iterdir())) == before + 2
    for ring in rings:
        ring.close()
    with ImageRing((2, 2)) as ring:
        reader.read(ring.write(np.zeros((2, 2), np.uint8)))
        assert len(reader._segments) == 1
    reader.close()


@given(st.lists(st.sampled_from(["write", "read"]), max_size=60), st.integers(2, 5))
def test_a_reader_gets_the_right_image_or_an_error(steps, slots):
    reader = SharedImageReader()
    with ImageRing((3, 3), slots=slots) as ring:
        written: list[SharedImage] = []
        for step in steps:
            if step == "write":
                written.append(ring.write(np.full((3, 3), len(written) % 251, np.uint8)))
            for number, shared in enumerate(written):
                if number >= len(written) - slots:
                    assert (reader.read(shared) == number % 251).all()
                else:
                    with pytest.raises(ProtocolError):
                        reader.read(shared)
    reader.close()


@pytest.mark.parametrize(
    ("shape", "dtype", "slots", "text"),
    [
        ((5,), "u1", 4, "shape must be"),
        ((0, 5), "u1", 4, "at least 1"),
        ((5, 5), "f4", 4, "uint8 or uint16"),
        ((5, 5), "u1", 1, "at least 2"),
    ],
)
def test_a_ring_of_an_invalid_shape_dtype_or_size_is_refused(shape, dtype, slots, text):
    with pytest.raises(ValueError, match=text):
        ImageRing(shape, dtype, slots)


def test_an_image_of_another_shape_than_the_ring_is_refused():
    with ImageRing((2, 2)) as ring, pytest.raises(ValueError, match=r"\(2, 2\).*got \(3, 2\)"):
        ring.write(np.zeros((3, 2), np.uint8))


def test_a_full_dev_shm_raises_an_error_and_leaves_no_file(monkeypatch):
    before = set(SHM.glob("trackd-*"))

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="has no room for 4 images"):
        ImageRing((2, 2))
    assert set(SHM.glob("trackd-*")) == before


def test_close_removes_the_file_and_may_be_repeated():
    ring = ImageRing((2, 2))
    path = SHM / ring.name
    assert path.exists()
    ring.close()
    ring.close()
    assert not path.exists()
    with pytest.raises(ValueError, match="closed"):
        ring.write(np.zeros((2, 2), np.uint8))


def test_the_segment_of_a_killed_owner_is_swept_and_that_of_a_running_one_is_kept():
    code = (
        "import os, signal; from trackd_client.transport.shared_memory import ImageRing; "
        "ring = ImageRing((2, 2)); print(ring.name, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
    assert (SHM / name).exists()
    with ImageRing((2, 2)) as mine:
        sweep_orphans()
        assert not (SHM / name).exists()
        assert (SHM / mine.name).exists()


def test_a_reader_copies_images_to_arrays_of_its_owner():
    made = []

    def empty(shape, dtype):
        made.append((shape, dtype))
        return np.empty(shape, dtype)

    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    with ImageRing((3, 4), np.uint16, slots=2) as ring:
        reader = SharedImageReader(empty=empty)
        try:
            np.testing.assert_array_equal(reader.read(ring.write(image)), image)
        finally:
            reader.close()
    assert made == [((3, 4), np.dtype(np.uint16))]
