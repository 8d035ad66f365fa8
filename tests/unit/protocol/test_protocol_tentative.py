"""The tentative tracks of a settlement."""

import msgpack
import numpy as np
import pytest

from trackd_client.protocol import Limits, ProtocolError, Status, Tracks, decode, encode
from trackd_client.protocol.encode import tracks_to_map
from trackd_client.protocol.history import tracks_from_history


def tracks(ids=(3, -1, 5), **fields):
    n = len(ids)
    return Tracks(
        "cam", 0, 4, 4, 0, Status.TRACKED, track_ids=np.array(ids, np.int32), track_scores=np.ones(n, np.float32),
        boxes=np.zeros((n, 4), np.float32), **fields
    )  # fmt: skip


def test_tentative_tracks_are_the_same_after_decoding_and_in_history():
    sent = tracks(tentative_tracks=(5,))
    for read in (decode(encode(sent), Limits()), tracks_from_history(tracks_to_map(sent))):
        assert read.tentative_tracks == (5,)
        assert read.tentative.tolist() == [False, False, True]


def test_a_frame_without_tentative_tracks_has_no_such_key():
    parts = encode(tracks())
    assert "tentative_tracks" not in msgpack.unpackb(parts[0])
    read = decode(parts, Limits())
    assert (read.tentative_tracks, read.tentative.tolist()) == ((), [False] * 3)


def test_a_frame_that_was_not_tracked_has_no_tentative_rows():
    dropped = decode(encode(Tracks("cam", 0, 4, 4, 0, Status.DROPPED, reason="overload")), Limits())
    assert dropped.tentative.tolist() == []
    assert dropped.tentative.dtype == bool


@pytest.mark.parametrize("sent", ["5", [5.0], [True], {"5": 1}])
def test_tentative_tracks_that_are_no_list_of_integers_are_refused(sent):
    head, *arrays = encode(tracks())
    header = {**msgpack.unpackb(head), "tentative_tracks": sent}
    with pytest.raises(ProtocolError, match="tentative_tracks must be a list of integers"):
        decode([msgpack.packb(header), *arrays], Limits())
