"""A reply to `history` that is encoded in pieces has the content of one that is encoded as a whole."""

from __future__ import annotations

import msgpack
import numpy as np
import pytest

from trackd_client.protocol import Reply, Status, Tracks, encode, tracks_to_map
from trackd_client.protocol.packed import history_pieces


def tracks(seq: int, n: int, keypoints: int, dtype: str) -> Tracks:
    rng = np.random.default_rng(seq)
    return Tracks(
        "cam", 1, seq, seq, seq, Status.TRACKED,
        track_ids=np.arange(-1, n - 1, dtype=np.int32),
        track_scores=rng.random(n).astype("<f4"),
        boxes=rng.normal(0, 1e6, (n, 4)).astype(dtype),
        keypoints=rng.random((n, keypoints, 2)).astype(dtype) if keypoints else None,
        scores=None,
        new_tracks=tuple(range(n)),
    )  # fmt: skip


@pytest.mark.parametrize(("n", "keypoints"), [(0, 0), (0, 3), (1, 1), (20, 17), (1000, 0), (1000, 20), (70_000, 0)])
@pytest.mark.parametrize("dtype", ["<f4", "<f8"])
def test_the_content_is_the_same(n, keypoints, dtype):
    rows = [tracks(seq, n, keypoints, dtype) for seq in range(2)]
    packed = b"".join(history_pieces([1, "x"], rows))
    (whole,) = encode(Reply([1, "x"], [tracks_to_map(row) for row in rows]))
    assert msgpack.unpackb(packed) == msgpack.unpackb(whole)


def test_nan_is_the_same():
    row = tracks(0, 5000, 0, "<f4")
    row.track_scores[::2] = np.nan
    got = msgpack.unpackb(b"".join(history_pieces(1, [row])))["result"][0]["track_scores"]
    np.testing.assert_array_equal(np.array(got, "<f4"), row.track_scores)


def test_settlements_without_arrays_and_empty_replies_are_the_same():
    rows = [Tracks("cam", 1, 0, 0, 0, Status.DROPPED, "overload")]
    for some in (rows, []):
        packed = b"".join(history_pieces(None, some))
        (whole,) = encode(Reply(None, [tracks_to_map(row) for row in some]))
        assert msgpack.unpackb(packed) == msgpack.unpackb(whole)


def test_a_large_row_is_in_many_pieces():
    pieces = [len(piece) for piece in history_pieces(1, [tracks(0, 4096, 256, "<f8")])]
    assert max(pieces) < 200_000
