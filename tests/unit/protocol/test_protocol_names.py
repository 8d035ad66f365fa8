"""The names of tracks, and the corrections by people, in a settlement."""

import msgpack
import numpy as np
import pytest

from trackd_client.protocol import Limits, ProtocolError, Status, Tracks, decode, encode
from trackd_client.protocol.encode import tracks_to_map
from trackd_client.protocol.history import tracks_from_history


def tracks(n=2, **fields):
    return Tracks(
        "cells", 0, 4, 4, 0, Status.TRACKED, track_ids=np.arange(n, dtype=np.int32),
        track_scores=np.ones(n, np.float32), boxes=np.zeros((n, 4), np.float32), **fields
    )  # fmt: skip


def test_names_are_the_same_after_decoding_and_in_history():
    sent = tracks(names=("Änne", None))
    assert decode(encode(sent), Limits()).names == ("Änne", None)
    assert tracks_from_history(tracks_to_map(sent)).names == ("Änne", None)


def test_a_frame_without_named_tracks_has_no_names_key():
    parts = encode(tracks())
    assert "names" not in msgpack.unpackb(parts[0])
    assert decode(parts, Limits()).names == ()


@pytest.mark.parametrize(
    ("names", "why"),
    [(["a"], "as long as track_ids"), (["a", 3], "strings and nulls"), ("ab", "strings and nulls")],
)
def test_names_that_do_not_fit_are_refused(names, why):
    head, *arrays = encode(tracks())
    header = {**msgpack.unpackb(head), "names": names}
    with pytest.raises(ProtocolError, match=why):
        decode([msgpack.packb(header), *arrays], Limits())


def test_corrections_are_the_same_after_decoding_and_in_history():
    correction = {"number": 3, "action": "rename", "author": "", "t_ns": 2**60, "tracks": [4], "name": None}
    sent = tracks(corrections=(correction,))
    assert decode(encode(sent), Limits()).corrections == (correction,)
    assert tracks_from_history(tracks_to_map(sent)).corrections == (correction,)
    assert "corrections" not in msgpack.unpackb(encode(tracks())[0])


def test_corrections_that_are_no_maps_are_refused():
    head, *arrays = encode(tracks())
    with pytest.raises(ProtocolError, match="corrections must be a list of maps; got"):
        decode([msgpack.packb({**msgpack.unpackb(head), "corrections": [3]}), *arrays], Limits())
