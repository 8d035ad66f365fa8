"""The file of looks: what is read again, and which files are refused before anything is allocated."""

from __future__ import annotations

import contextlib
import json
import struct
import tracemalloc
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd.identity.looks import MAX_BYTES, VERSION, Looks, read_looks

ARRAYS = {
    "ids": np.array([3, 1]),
    "part": np.arange(6.0).reshape(3, 2)[:, 1],
    "ids.values": np.array([[0.5, 2.0], [1.0, -1.0]]),
    "boxes": np.ones((2, 4), "f4"),
}
LOOKS = Looks("cam", 7, 120, "cage-3", 2, ARRAYS)
HEAD = struct.Struct("<8sIIQ")


def with_head(data: bytes, mark: bytes = b"trackd.l", version: int = VERSION) -> bytes:
    """A file whose checksum is right, whatever it holds."""
    return HEAD.pack(mark, version, crc32(data), len(data)) + data


def listed(about, arrays: dict, data: bytes = b"") -> bytes:
    """A `.safetensors` file with any list of arrays."""
    metadata = {"__metadata__": {"trackd_looks": json.dumps(about)}}
    text = json.dumps({**metadata, **arrays}).encode()
    return len(text).to_bytes(8, "little") + text + data


ABOUT = {"stream": "cam", "epoch": 7, "seq": 120, "gallery": None, "corrections": 2}


def test_looks_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "cam.looks"
    path.write_bytes(LOOKS.to_bytes())
    found = read_looks(path)
    assert (found.stream, found.epoch, found.seq, found.gallery, found.corrections) == ("cam", 7, 120, "cage-3", 2)
    assert found.arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
        found.arrays[name][:1] = 0  # they can be changed


def of_one(kind: str, n: int, data: bytes = bytes(8)) -> bytes:
    """A file with one array of a type and a length, and some data."""
    return with_head(listed(ABOUT, {"a": {"dtype": kind, "shape": [n], "data_offsets": [0, len(data)]}}, data))


REFUSED = {
    "must have 24 to": [b"", b"trackd"],
    "no file of looks": [with_head(b"", mark=b"SQLite f")],
    f"of version {VERSION + 1}": [with_head(LOOKS.to_bytes()[HEAD.size :], version=VERSION + 1)],
    "bytes after its head": [LOOKS.to_bytes()[:-1], LOOKS.to_bytes() + b"\0"],
    "list of its arrays": [with_head(b""), with_head((1 << 60).to_bytes(8, "little"))],
    "KeyError": [with_head((100).to_bytes(8, "little") + b"{}"), with_head(listed({"stream": "cam"}, {}))],
    "Expecting": [with_head((2).to_bytes(8, "little") + b"{,")],
    "SafetensorError": [of_one("F64", 1 << 40), of_one("F64", 2)],
    "has the type uint8": [of_one("U8", 8)],
    "not finite": [of_one("F64", 1, b"\xff" * 8)],
    "no texts": [with_head(listed({**ABOUT, "stream": 3}, {}))],
    "no integers": [with_head(listed({**ABOUT, "seq": "3"}, {}))],
    "TypeError": [with_head(listed([], {}))],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_other_files_are_refused_with_the_reason(tmp_path, reason):
    path = tmp_path / "cam.looks"
    for data in REFUSED[reason]:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=reason):
            read_looks(path)


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "cam.looks"
    good = LOOKS.to_bytes()
    for place in range(len(good)):
        data = bytearray(good)
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"mark|looks|version|bytes|checksum"):
            read_looks(path)


def test_a_file_beyond_the_bound_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "cam.looks"
    with path.open("wb") as file:
        file.write(HEAD.pack(b"trackd.l", VERSION, 0, 1 << 40))
        file.truncate(1 << 40)  # sparse
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"to {MAX_BYTES} bytes; got {1 << 40}"):
            read_looks(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_looks_beyond_the_bound_are_not_written():
    with pytest.raises(ValueError, match=f"at most {MAX_BYTES} bytes"):
        Looks("cam", 1, 0, None, 0, {"a": np.zeros(MAX_BYTES // 8)}).to_bytes()
    size = len(Looks("cam", 1, 0, None, 0, {"a": np.zeros(MAX_BYTES // 8 - 65536 // 8 - 8)}).to_bytes())
    assert MAX_BYTES - 70_000 < size <= MAX_BYTES


@given(st.binary(max_size=300), st.integers(0, 400))
def test_no_other_error_comes_of_bytes_whose_checksum_is_right(tmp_path_factory, mutation, place):
    path = tmp_path_factory.getbasetemp() / "mutated.looks"
    data = bytearray(LOOKS.to_bytes()[HEAD.size :])
    data[place : place + len(mutation)] = mutation
    path.write_bytes(with_head(bytes(data)))
    with contextlib.suppress(ValueError):
        read_looks(path)
