import pytest
from recording_files import make_trackmate, spot

from trackd_client.recordings.labels.label_files import read_spots
from trackd_client.recordings.recording import RecordingError

ISBI = """<?xml version="1.0"?>
<root><TrackContestISBI2012 SNR="7" density="low" scenario="RECEPTOR">
<particle><detection t="2" x="1.5" y="2" z="0"/><detection t="3" x="2" y="2.5" z="0"/></particle>
<particle><detection t="0" x="9" y="9" z="0"/></particle>
</TrackContestISBI2012></root>
"""
ICY = """<root>
<trackfile version="1"/>
<trackgroup description="cells">
<track id="-77"><detection t="0" x="1" y="2"/><detection t="1" x="1" y="3"/></track>
<track id="88"><detection t="2" x="0" y="4"/></track>
<track id="99"><detection t="2" x="2" y="4"/></track>
</trackgroup>
<linklist><link from="-77" to="88"/><link from="-77" to="99"/></linklist>
</root>
"""
IMAGEJ = (
    "Track n°,Slice n°,X,Y,Distance,Velocity,Pixel Value\n4,1,130,109,-1,-1,9\n4,2,129,113,0,0,8\n5,2,1,1,-1,-1,7\n"
)


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


def test_an_isbi_particle_is_the_identity_of_its_detections(tmp_path):
    spots = read_spots(write(tmp_path / "a.xml", ISBI))
    assert spots.frame_index.tolist() == [0, 2, 3]
    assert spots.gt_ids.tolist() == [1, 0, 0]
    assert spots.points.tolist() == [[9, 9], [1.5, 2], [2, 2.5]]
    assert (spots.unit, spots.stop) == ("pixel", 4)


def test_the_links_of_icy_are_the_lineage(tmp_path):
    spots = read_spots(write(tmp_path / "a.xml", ICY))
    assert spots.gt_ids.tolist() == [0, 0, 1, 2]
    assert spots.lineage == {1: 0, 2: 0}


def test_an_icy_merge_keeps_its_first_parent(tmp_path, caplog):
    text = ICY.replace('<link from="-77" to="99"/>', '<link from="99" to="88"/>')
    assert read_spots(write(tmp_path / "a.xml", text)).lineage == {1: 0}
    assert "only its first parent is kept" in caplog.text


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_imagej_slices_count_from_one_and_frames_from_zero(tmp_path, encoding, separator):
    spots = read_spots(write(tmp_path / "a.csv", IMAGEJ.replace(",", separator), encoding))
    assert spots.frame_index.tolist() == [0, 1, 1]
    assert spots.gt_ids.tolist() == [4, 4, 5]
    assert spots.points.tolist() == [[130, 109], [129, 113], [1, 1]]


def test_a_slice_clicked_twice_is_two_detections_and_one_identity(tmp_path, caplog):
    spots = read_spots(write(tmp_path / "a.csv", IMAGEJ + "4,2,131,113,0,0,8\n", "latin-1"))
    assert spots.gt_ids.tolist() == [4, 4, 5, -1]
    assert "get no identity" in caplog.text
    assert "tracks=[4]" in caplog.text


@pytest.mark.parametrize(
    ("name", "text", "source", "message"),
    [
        ("a.xml", ISBI, "icy", "source is 'icy', but the file looks like an ISBI 2012 challenge file"),
        ("a.xml", ICY, "trackmate", "looks like an ICY file: set source to 'icy' or null"),
        ("a.xml", "<root/>", None, "must be a TrackMate file, an ISBI 2012 challenge file, an ICY file, "),
        ("a.csv", IMAGEJ, "isbi", "looks like an ImageJ Manual Tracking table"),
        ("a.csv", "x,y\n1,2\n", None, "looks like none of them"),
        ("a.csv", "", "trackmate", "looks like none of them"),
        ("a.csv", "LABEL,SPOT_SOURCE_ID\n", "trackmate", "a TrackMate table of edges: name the table of spots"),
        ("a.csv", "LABEL,NUMBER_SPOTS\n", "trackmate", "a TrackMate table of tracks: name the table of spots"),
    ],
)
def test_a_file_of_another_format_is_an_error_that_names_the_format(tmp_path, name, text, source, message):
    path = write(tmp_path / name, text)
    with pytest.raises(RecordingError) as raised:
        read_spots(path, source)
    assert message in str(raised.value)
    assert str(raised.value).startswith(str(path))


def test_source_trackmate_accepts_an_imagej_table_as_in_dreem(tmp_path):
    assert len(read_spots(write(tmp_path / "a.csv", IMAGEJ, "latin-1"), "trackmate")) == 3


def test_a_files_own_source_is_accepted(tmp_path):
    trackmate = make_trackmate(tmp_path / "t.xml", {0: [spot(1, 1, 1, 0)]}, {})
    for path, source in ((trackmate, "trackmate"), (write(tmp_path / "i.xml", ISBI), "isbi")):
        assert len(read_spots(path, source)) == len(read_spots(path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ISBI.replace('x="1.5"', 'x=""'), "line 3, <detection>: attribute x must be a finite number; got ''"),
        (ISBI.replace('t="3"', ""), "line 3, <detection>: attribute t must be a finite number; it has none"),
        (ISBI.replace('y="9"', 'y="nan"'), "line 4, <detection>: attribute y must be a finite number"),
        (ISBI.replace("</root>", ""), "not well-formed XML"),
        (ICY.replace('to="88"', 'to="89"'), "line 8, <link>: attribute to must be a track's id; got '89'"),
    ],
)
def test_an_xml_error_names_the_line_and_the_element(tmp_path, text, message):
    path = write(tmp_path / "a.xml", text)
    with pytest.raises(RecordingError) as raised:
        read_spots(path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("4,0,1,1,0,0,0", "row 5: slice n must be a whole number ≥ 1; got 0"),
        ("4,3,a,1,0,0,0", "row 5: x must be a number; got 'a'"),
    ],
)
def test_an_imagej_error_names_the_row(tmp_path, row, message):
    with pytest.raises(RecordingError, match=message):
        read_spots(write(tmp_path / "a.csv", IMAGEJ + row + "\n"))


def test_an_entity_bomb_is_refused_before_it_is_expanded(tmp_path):
    bomb = '<!DOCTYPE b [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;">]>\n<root>&b;</root>'
    with pytest.raises(RecordingError, match=r"line 1: a document type is not accepted"):
        read_spots(write(tmp_path / "a.xml", bomb))
