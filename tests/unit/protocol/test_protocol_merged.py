"""The tracks of a settlement that are in the box of another one."""

import msgpack
import numpy as np
import pytest

from trackd_client.protocol import Limits, ProtocolError, Status, Tracks, decode, encode
from trackd_client.protocol.encode import tracks_to_map
from trackd_client.protocol.history import tracks_from_history


def tracks(**fields):
    return Tracks(
        "cam", 0, 4, 4, 0, Status.TRACKED, track_ids=np.array([3, 5], np.int32),
        track_scores=np.ones(2, np.float32), boxes=np.zeros((2, 4), np.float32), **fields
    )  # fmt: skip


def test_merged_tracks_are_the_same_after_decoding_and_in_history():
    sent = tracks(merged_tracks=(7, 8, 9), merged_rows=(1, 0, 1))
    for read in (decode(encode(sent), Limits()), tracks_from_history(tracks_to_map(sent))):
        assert (read.merged_tracks, read.merged_rows) == ((7, 8, 9), (1, 0, 1))
        assert read.merged == {0: (8,), 1: (7, 9)}


def test_a_frame_without_merged_tracks_has_no_such_keys():
    parts = encode(tracks())
    assert not {"merged_tracks", "merged_rows"} & msgpack.unpackb(parts[0]).keys()
    assert decode(parts, Limits()).merged == {}


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        ({"merged_tracks": "5", "merged_rows": [0]}, "merged_tracks must be a list of integers"),
        ({"merged_tracks": [5], "merged_rows": [0.0]}, "merged_rows must be a list of integers"),
        ({"merged_tracks": [5]}, r"merged_rows must be as long as merged_tracks \(1\); got 0"),
        ({"merged_tracks": [5], "merged_rows": [2]}, "merged_rows must be rows of track_ids, 0 to 1"),
        ({"merged_tracks": [5], "merged_rows": [-1]}, "merged_rows must be rows of track_ids, 0 to 1"),
    ],
)
def test_merged_tracks_that_do_not_fit_the_frame_are_refused(sent, why):
    head, *arrays = encode(tracks())
    header = {**msgpack.unpackb(head), **sent}
    with pytest.raises(ProtocolError, match=why):
        decode([msgpack.packb(header), *arrays], Limits())
