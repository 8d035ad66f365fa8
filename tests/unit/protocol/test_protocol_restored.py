"""The restored tracks of a settlement."""

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


def test_restored_tracks_are_the_same_after_decoding_and_in_history():
    sent = tracks(restored_tracks=(3, 7), lost_tracks=(7,))
    for read in (decode(encode(sent), Limits()), tracks_from_history(tracks_to_map(sent))):
        assert (read.restored_tracks, read.lost_tracks) == ((3, 7), (7,))


def test_a_frame_without_restored_tracks_has_no_such_key():
    parts = encode(tracks())
    assert "restored_tracks" not in msgpack.unpackb(parts[0])
    assert decode(parts, Limits()).restored_tracks == ()


@pytest.mark.parametrize("sent", ["5", [5.0], [True], {"5": 1}])
def test_restored_tracks_that_are_no_list_of_integers_are_refused(sent):
    head, *arrays = encode(tracks())
    header = {**msgpack.unpackb(head), "restored_tracks": sent}
    with pytest.raises(ProtocolError, match="restored_tracks must be a list of integers"):
        decode([msgpack.packb(header), *arrays], Limits())
