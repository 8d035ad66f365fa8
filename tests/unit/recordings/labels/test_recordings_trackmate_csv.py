import pytest
from recording_files import write_trackmate_csv as write

from trackd_client.recordings.labels.trackmate_csv import read_trackmate_csv
from trackd_client.recordings.recording import RecordingError

ROWS = ("2,ID2,0,4.0,6.0,1,2.5,1", "1,ID1,0,2.0,3.0,0,2.5,1", "3,ID3,ø,8.0,9.0,1,,1")


def edges(path, *pairs):
    path.write_text("SPOT_SOURCE_ID,SPOT_TARGET_ID\n" + "".join(f"{a},{b}\n" for a, b in pairs))


@pytest.mark.parametrize("version", [6, 7])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_spots_are_sorted_by_frame_and_untracked_ones_are_kept(tmp_path, version, encoding):
    spots = read_trackmate_csv(write(tmp_path / "a.csv", *ROWS, version=version, encoding=encoding))
    assert spots.frame_index.tolist() == [0, 1, 1]
    assert spots.spot_ids.tolist() == [1, 2, 3]
    assert spots.gt_ids.tolist() == [0, 0, -1]
    assert spots.points.tolist() == [[2, 3], [4, 6], [8, 9]]
    assert spots.radii[:2].tolist() == [[2.5, 2.5]] * 2
    assert spots.unit == ("micron" if version == 7 else None)


@pytest.mark.parametrize("nothing", ["ø", "Ã¸", "", "None", "NaN"])
def test_every_notation_of_no_track_is_read(tmp_path, nothing):
    path = write(tmp_path / "a.csv", f"1,ID1,{nothing},2.0,3.0,0,,1")
    assert read_trackmate_csv(path).gt_ids.tolist() == [-1]


def test_columns_are_found_by_name(tmp_path):
    path = write(tmp_path / "a.csv", "0,5.0,6.0,ID1", header="FRAME,POSITION_Y,POSITION_X,LABEL")
    spots = read_trackmate_csv(path)
    assert spots.points.tolist() == [[6, 5]]
    assert spots.gt_ids.tolist() == [-1]


def test_invisible_spots_are_left_out(tmp_path):
    assert len(read_trackmate_csv(write(tmp_path / "a.csv", "1,ID1,0,2.0,3.0,0,,0", ROWS[0]))) == 1


def test_the_table_of_edges_gives_the_parents_at_a_split(tmp_path):
    rows = ["1,a,0,5,5,0,,1", "2,b,0,3,6,1,,1", "3,c,0,7,6,1,,1", "4,d,1,30,30,0,,1", "5,e,ø,1,1,0,,1"]
    edges(tmp_path / "cells_edges.csv", (1, 2), (1, 3), (77, 78))
    spots = read_trackmate_csv(write(tmp_path / "cells_all_spots.csv", *rows))
    by_spot = dict(zip(spots.spot_ids.tolist(), spots.gt_ids.tolist(), strict=True))
    assert by_spot == {1: 0, 2: 2, 3: 3, 4: 1, 5: -1}  # spot 4 is a track of one spot, which keeps its number
    assert spots.lineage == {2: 0, 3: 0}


def test_without_edges_a_tracks_second_spot_in_a_frame_has_no_identity(tmp_path, caplog):
    rows = ["1,a,0,5,5,0,,1", "2,b,0,3,6,1,,1", "3,c,0,7,6,1,,1"]
    spots = read_trackmate_csv(write(tmp_path / "cells_spots.csv", *rows))
    assert spots.gt_ids.tolist() == [0, 0, -1]
    assert "1 spots are not the first of their track in a frame" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("9,ID,0,x,3.0,0,,1", "row 8: POSITION_X must be a number; got 'x'"),
        ("9,ID,0,1.0,ø,0,,1", "row 8: POSITION_Y must be a number; got 'ø'"),
        ("9,ID,0,1.0,1.0,0.5,,1", "row 8: FRAME must be a whole number ≥ 0; got 0.5"),
        ("9,ID,0,1.0,1.0,-2,,1", "row 8: FRAME must be a whole number ≥ 0; got -2"),
        ("9,ID,0,1.0", "row 8: must have 8 cells, as the header; got 4"),
    ],
)
def test_an_error_names_file_and_row(tmp_path, row, message):
    path = write(tmp_path / "a.csv", *ROWS, row)
    with pytest.raises(RecordingError) as raised:
        read_trackmate_csv(path)
    assert str(raised.value) == f"{path}, {message}"


def test_a_table_without_positions_is_an_error(tmp_path):
    with pytest.raises(RecordingError, match=r"row 1: must hold POSITION_X, POSITION_Y, FRAME; no FRAME"):
        read_trackmate_csv(write(tmp_path / "a.csv", "1,2", header="POSITION_X,POSITION_Y"))


def test_a_track_has_the_last_name_that_it_was_given(tmp_path):
    path = tmp_path / "a_spots.csv"
    path.write_text(
        "ID,TRACK_ID,TRACK_NAME,POSITION_X,POSITION_Y,FRAME\n0,7,Ann,1,1,2\n1,7,Track_7,1,1,0\n2,8,Track_8,2,2,0\n3,ø,ø,3,3,0\n"
    )
    assert read_trackmate_csv(path).names == {7: "Ann"}
