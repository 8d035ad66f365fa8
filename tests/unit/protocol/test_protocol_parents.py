import msgpack
import numpy as np
import pytest

from trackd_client.protocol import Limits, ProtocolError, Status, Tracks, decode, encode
from trackd_client.protocol.encode import tracks_to_map
from trackd_client.protocol.history import tracks_from_history


def tracks(**lists):
    n = len(lists["new_tracks"])
    return Tracks(
        "cells", 0, 4, 4, 0, Status.TRACKED, track_ids=np.arange(n, dtype=np.int32),
        track_scores=np.ones(n, np.float32), boxes=np.zeros((n, 4), np.float32), **lists
    )  # fmt: skip


def test_parents_are_the_same_after_decoding_and_in_history():
    sent = tracks(new_tracks=(5, 6, 7), parents=(2, 2, -1))
    assert decode(encode(sent), Limits()).parents == (2, 2, -1)
    assert tracks_from_history(tracks_to_map(sent)).parents == (2, 2, -1)


def test_a_frame_without_a_division_has_no_parents_key():
    parts = encode(tracks(new_tracks=(5,)))
    assert "parents" not in msgpack.unpackb(parts[0])
    assert decode(parts, Limits()).parents == ()


def test_parents_that_do_not_fit_the_new_tracks_are_refused():
    with pytest.raises(ProtocolError, match="as long as new_tracks"):
        decode(encode(tracks(new_tracks=(5, 6), parents=(1,))), Limits())
