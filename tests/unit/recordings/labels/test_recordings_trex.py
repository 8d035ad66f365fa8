import pytest

from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.labels.label_files import read_spots
from trackd_client.recordings.recording import RecordingError

HEADER = "frame,SPEED#wcentroid (cm/s),X#wcentroid (cm),Y#wcentroid (cm)"
LOST = "inf,inf,inf"
BLOB = (700 << 19) | (301 << 6) | 5


def table(path, *rows, header=HEADER):
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def play(path, **keys):
    (recording,) = open_recordings(TestDataset(tracks=[str(path)], **keys), DataloaderConfig(), path.parent)
    return recording, list(recording.frames())


def test_a_folder_is_one_recording_of_all_its_animals_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "trial.1"
    table(folder / "a_fish10.csv", "0,0,9,8", f"1,{LOST}", "2,0,7,6")
    table(folder / "a_fish9.csv", "0,0,1,2", "1,0,3,4", f"2,{LOST}", f"3,{LOST}")
    (folder / "notes.txt").write_text("not a table")
    recording, frames = play(folder, source="trex", pixel_size=0.5)
    assert recording.name == "trial.1"
    assert [frame.detections.gt_ids.tolist() for frame in frames] == [[0, 1], [0], [1], []]
    assert frames[0].detections.keypoints[:, 0].tolist() == [[2, 4], [18, 16]]


def test_one_animals_table_is_one_identity(tmp_path):
    spots = read_spots(table(tmp_path / "a_fish3.csv", "4,0,1.5,2"))
    assert (spots.frame_index.tolist(), spots.gt_ids.tolist(), spots.points.tolist()) == ([4], [0], [[1.5, 2]])


def test_centimetres_need_a_pixel_size(tmp_path):
    path = table(tmp_path / "a_fish0.csv", "0,0,4,6")
    with pytest.raises(RecordingError, match=r"coordinates are in 'cm'.*set dataset\.test_dataset\.pixel_size"):
        play(path)
    assert play(path, pixel_size=2)[1][0].detections.keypoints.tolist() == [[[2, 3]]]
    in_pixels = table(tmp_path / "b_fish0.csv", "0,0,4,6", header=HEADER.replace("(cm)", "(px)"))
    assert play(in_pixels)[1][0].detections.keypoints.tolist() == [[[4, 6]]]


@pytest.mark.parametrize("above", [False, True])
def test_the_settings_beside_the_tables_give_the_pixel_size(tmp_path, above):
    path = table(tmp_path / "data" / "a_fish0.csv", "0,0,4,6")
    place = tmp_path if above else path.parent
    (place / "other.settings").write_text("cm_per_pixel = 9\n")
    (place / "a.settings").write_text('detect_type = "x"\ncm_per_pixel = 0.5\n')
    assert play(path)[1][0].detections.keypoints.tolist() == [[[8, 12]]]
    assert play(path.parent)[1][0].detections.keypoints.tolist() == [[[8, 12]]]
    assert play(path, pixel_size=2)[1][0].detections.keypoints.tolist() == [[[2, 3]]]


@pytest.mark.parametrize("text", ["cm_per_pixel = wide\n", "cm_per_pixel = 0\n"])
def test_settings_without_a_valid_pixel_size_are_an_error(tmp_path, text):
    (tmp_path / "a.settings").write_text(text)
    with pytest.raises(RecordingError, match=r"cm_per_pixel cannot be read|coordinates are in 'cm'"):
        play(table(tmp_path / "a_fish0.csv", "0,0,4,6"))


def test_without_a_column_y_the_top_of_the_blob_is_y(tmp_path, caplog):
    rows = (f"0,3.5,{BLOB}", "1,inf,inf")
    path = table(tmp_path / "a_fish0.csv", *rows, header="frame,X#wcentroid (cm),blobid")
    with pytest.raises(RecordingError, match=r"no column Y.*needs cm_per_pixel of a"):
        read_spots(path)
    (tmp_path / "a.settings").write_text("cm_per_pixel = 0.5")
    _, frames = play(path)
    assert [frame.detections.keypoints.tolist() for frame in frames] == [[[[7, 301]]], []]
    assert "y is the top of each animal" in caplog.text


def test_the_weighted_centroid_is_read_if_a_table_has_several_points(tmp_path):
    header = "frame,X (px),Y (px),X#pcentroid (px),Y#pcentroid (px),X#wcentroid (px),Y#wcentroid (px)"
    assert read_spots(table(tmp_path / "a.csv", "0,1,2,3,4,5,6", header=header)).points.tolist() == [[5, 6]]
    header = header.replace("wcentroid", "vcentroid")
    assert read_spots(table(tmp_path / "a.csv", "0,1,2,3,4,5,6", header=header)).points.tolist() == [[1, 2]]


def test_a_table_of_points_has_ids_and_boxes_if_it_has_their_columns(tmp_path, caplog):
    path = table(tmp_path / "t.csv", "1,4,2,3", "0,4,1,1", "1,4,5,5", "1,-1,6,6", header="frame,id,x,y")
    spots = read_spots(path, "trex")
    assert spots.frame_index.tolist() == [0, 1, 1, 1]
    assert spots.gt_ids.tolist() == [4, 4, -1, -1]
    assert "get no identity" in caplog.text
    header = "frame,x,y,left,top,width,height,area"
    path = table(tmp_path / "d.csv", "1,20,30,10,25,18,8,9", "0,2,3,1,1,3,4,9", header=header)
    _, frames = play(path, pixel_size=[2, 1])
    assert [frame.detections.boxes.tolist() for frame in frames] == [[[0.5, 1, 2, 5]], [[5, 25, 14, 33]]]
    assert frames[1].detections.keypoints.tolist() == [[[10, 30]]]
    assert frames[1].detections.gt_ids.tolist() == [-1]
    assert frames[1].detections.masks is None


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (HEADER, "0,0,a,1", r"row 2: X#wcentroid \(cm\) must be a number; got 'a'"),
        (HEADER, "0.5,0,1,1", "row 2: frame must be a whole number ≥ 0"),
        (HEADER, "0,0,1", "row 2: must have 4 cells"),
        ("frame,X (px)", "0,1", r"row 1: must hold Y or blobid beside X \(px\)"),
        ("frame,X (m),blobid", "0,1,5", "no column Y"),
        ("frame,x,y,left,top,width,height", "0,1,1,0,0,-2,2", "row 2: width and height must be ≥ 0; got -2, 2"),
        ("frame,x,y", "0,inf,1", "row 2: x must be a number; got 'inf'"),
    ],
)
def test_a_trex_error_names_the_row(tmp_path, header, row, message):
    path = table(tmp_path / "a_fish0.csv", row, header=header)
    with pytest.raises(RecordingError, match=message) as raised:
        read_spots(path)
    assert str(raised.value).startswith(str(path))


def test_a_folder_without_trex_tables_is_an_error(tmp_path):
    with pytest.raises(RecordingError, match=r"must hold TRex's tables.*there is none"):
        read_spots(tmp_path)
    with pytest.raises(RecordingError, match="source is 'icy', but the file looks like a folder of TRex tables"):
        read_spots(tmp_path, "icy")
    table(tmp_path / "a_fish0.csv", "0,0,1,1")
    table(tmp_path / "b.csv", "0,0", header="frame,time")
    with pytest.raises(RecordingError, match=r"b\.csv, row 1: must hold TRex's columns frame, X and Y"):
        read_spots(tmp_path)
    table(tmp_path / "b.csv", "0,0,1", header="frame,X (px),Y (px)")
    with pytest.raises(RecordingError, match="all tables must have one unit"):
        read_spots(tmp_path)


def test_a_pickle_of_idtracker_is_refused_without_opening_it(tmp_path):
    path = tmp_path / "trajectories.npy"
    path.write_bytes(b"\x93NUMPY")
    for source in (None, "trex"):
        with pytest.raises(RecordingError, match=r"idtracker\.ai is a pickle.*write it as a \.csv"):
            read_spots(path, source)
