import numpy as np
import pytest
from recording_files import make_trackmate, spot

from trackd_client.recordings.labels.trackmate_xml import read_trackmate_xml
from trackd_client.recordings.recording import RecordingError


def ids_by_spot(spots):
    return dict(zip(spots.spot_ids.tolist(), spots.gt_ids.tolist(), strict=True))


def straight(*numbers, x=5.0):
    """Spots of frames 0, 1, …, one each."""
    return {frame: [spot(number, x, 5 + frame, frame)] for frame, number in enumerate(numbers)}


def test_spots_are_sorted_by_frame_for_any_order_of_the_file_and_its_edges(tmp_path):
    frames = {2: [spot(30, 3, 3, 2)], 0: [spot(10, 1, 1, 0)], 1: [spot(20, 2, 2, 1)]}
    spots = read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, {4: [(20, 30), (20, 10)]}))
    assert spots.frame_index.tolist() == [0, 1, 2]
    assert spots.spot_ids.tolist() == [10, 20, 30]
    assert spots.gt_ids.tolist() == [4, 4, 4]  # an edge that points backwards links its spots too
    assert spots.lineage == {}


def test_only_kept_tracks_are_identities_and_all_spots_are_kept(tmp_path):
    frames = {0: [spot(1, 1, 1, 0), spot(2, 9, 9, 0)], 1: [spot(3, 1, 1, 1), spot(4, 9, 9, 1), spot(5, 20, 20, 1)]}
    path = make_trackmate(tmp_path / "a.xml", frames, {0: [(1, 3)], 1: [(2, 4)]}, filtered=[1])
    assert ids_by_spot(read_trackmate_xml(path)) == {1: -1, 2: 1, 3: -1, 4: 1, 5: -1}


def test_invisible_spots_and_their_edges_are_left_out(tmp_path):
    frames = {
        0: [spot(1, 1, 1, 0, 'VISIBILITY="1"')],
        1: [spot(2, 1, 1, 1, 'VISIBILITY="0"')],
        2: [spot(3, 1, 1, 2, 'VISIBILITY="1"')],
    }
    spots = read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, {0: [(1, 2), (2, 3)]}))
    assert ids_by_spot(spots) == {1: -1, 3: -1}


def test_a_gap_edge_is_one_identity(tmp_path):
    frames = {0: [spot(1, 1, 1, 0)], 3: [spot(2, 2, 2, 3)]}
    assert ids_by_spot(read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, {0: [(1, 2)]}))) == {1: 0, 2: 0}


def test_a_split_begins_two_tracklets_with_their_parent(tmp_path):
    frames = {
        0: [spot(1, 5, 5, 0)], 1: [spot(2, 5, 6, 1)],
        2: [spot(3, 3, 7, 2), spot(4, 7, 7, 2)], 3: [spot(5, 3, 8, 3), spot(6, 7, 8, 3)],
    }  # fmt: skip
    edges = {8: [(1, 2), (2, 3), (2, 4), (3, 5), (4, 6)]}
    spots = read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, edges))
    assert ids_by_spot(spots) == {1: 8, 2: 8, 3: 9, 5: 9, 4: 10, 6: 10}
    assert spots.lineage == {9: 8, 10: 8}


def test_at_a_merge_the_nearest_tracklet_continues_and_the_other_ends(tmp_path):
    frames = {
        0: [spot(1, 0, 5, 0), spot(2, 9, 5, 0)], 1: [spot(3, 1, 5, 1), spot(4, 6, 5, 1)], 2: [spot(5, 5, 5, 2)],
    }  # fmt: skip
    edges = {0: [(1, 3), (2, 4), (3, 5), (4, 5)]}
    spots = read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, edges))
    ids = ids_by_spot(spots)
    assert ids[2] == ids[4] == ids[5]
    assert ids[1] == ids[3] != ids[5]
    assert spots.lineage == {}


def test_the_spots_of_a_file_without_tracks_have_no_identity(tmp_path):
    path = make_trackmate(tmp_path / "a.xml", straight(1, 2), {})
    path.write_text(path.read_text().replace("<AllTracks></AllTracks>", "<AllTracks />"))
    assert read_trackmate_xml(path).gt_ids.tolist() == [-1, -1]


def test_a_spot_without_a_frame_has_the_frame_of_its_parent_element(tmp_path):
    frames = {3: [spot(1, 1, 1)], 4: [spot(2, 1, 1)]}
    assert read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, {})).frame_index.tolist() == [3, 4]


def test_the_notes_on_the_images_are_read(tmp_path):
    path = make_trackmate(
        tmp_path / "a.xml", straight(1, 2), {}, model='spatialunits="micron" timeunits="min"',
        image='width="40" height="30" nframes="7" pixelwidth="0.5" pixelheight="0.25" timeinterval="0.5"',
    )  # fmt: skip
    spots = read_trackmate_xml(path)
    assert (spots.frame_shape, spots.n_frames, spots.stop, spots.unit) == ((30, 40), 7, 7, "micron")
    assert spots.pixel_size == (0.5, 0.25)
    assert spots.fps == pytest.approx(1 / 30)
    np.testing.assert_allclose(spots.in_pixels(spots.pixel_size).points, [[10, 20], [10, 24]])


def test_outlines_are_relative_to_their_spots(tmp_path):
    roi = 'ROI_N_POINTS="3">-1 -2 3.5 0 0 4'
    frames = {0: [spot(1, 5, 5, 0), spot(2, 10, 10, 0, roi)]}
    spots = read_trackmate_xml(make_trackmate(tmp_path / "a.xml", frames, {}))
    assert spots.outlines.of(0).tolist() == []
    assert spots.outlines.of(1).tolist() == [[-1, -2], [3.5, 0], [0, 4]]


@pytest.mark.parametrize(
    ("frames", "edges", "message"),
    [
        ({0: [spot(1, "far", 1, 0)]}, {}, r"line 5, <Spot>: attribute POSITION_X must be a finite number; got 'far'"),
        ({0: [spot(1, 1, 1, 0.5)]}, {}, r"<Spot>: attribute FRAME must be a whole number; got 0\.5"),
        ({0: [spot(1, 1, 1, -1)]}, {}, r"<Spot>: attribute FRAME must count frames from 0; got -1"),
        ({0: ['POSITION_X="1" POSITION_Y="1"']}, {}, r"attribute ID must be a finite number; it has none"),
        (
            {0: [spot(1, 1, 1, 0, 'ROI_N_POINTS="2">1 2 3')]},
            {},
            r"<Spot>: ROI_N_POINTS is 2, so its text must be 4",
        ),
        ({0: [spot(1, 1, 1, 0), spot(1, 2, 2, 0)]}, {}, r"two have the same ID"),
        (straight(1, 2), {0: [(1, 9)]}, r"line \d+, <Edge>: there is no spot 9"),
        ({0: [spot(1, 1, 1, 0), spot(2, 2, 2, 0)]}, {0: [(1, 2)]}, r"<Edge>: links spots 1 and 2 of the same frame"),
    ],
)
def test_an_error_names_the_line_and_the_element(tmp_path, frames, edges, message):
    path = make_trackmate(tmp_path / "a.xml", frames, edges)
    with pytest.raises(RecordingError, match=message) as raised:
        read_trackmate_xml(path)
    assert str(path) in str(raised.value)


def test_a_track_has_the_name_that_it_was_given(tmp_path):
    path = make_trackmate(tmp_path / "a.xml", straight(1, 2), {4: [(1, 2)]})
    assert read_trackmate_xml(path).names == {}  # TrackMate's own name of a track is no name
    path.write_text(path.read_text().replace('name="Track_4"', 'name="Zelle &amp; Kern"'))
    assert read_trackmate_xml(path).names == {4: "Zelle & Kern"}
