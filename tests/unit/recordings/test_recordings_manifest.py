"""Every file of the shared recordings has the counts of their MANIFEST.md.

idtracker_fish8 is left out, because its .npy is a pickle, which is refused.
"""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from trackd_client.configuration import validate
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.images.source import layout_of
from trackd_client.recordings.images.video import VideoFile
from trackd_client.recordings.labels.label_files import read_spots
from trackd_client.recordings.labels.trackmate_xml import read_model, read_trackmate_xml
from trackd_client.recordings.man_track import read_man_track
from trackd_client.recordings.recording import RecordingError

pytestmark = pytest.mark.shared

NOT_READ = {"idtracker_fish8"}
CTC = {"labels_suffix": ".tif", "vid_suffix": ".tif"}
RECEPTOR = "isbi_receptors/RECEPTOR snr 7 density low"


def slp(path: str) -> dict:
    return {"slp_files": path}


def mot(path: str) -> dict:
    return {"det_files": path}


def spots(path: str, **keys) -> dict:
    return {"tracks": path, **keys}


def ctc(folder: str) -> dict:
    return {"dir": {"path": folder, **CTC}}


# For files that the manifest does not list (other trackers' outputs, mot17's det.txt) the counts are their rows.
# keys, frames, images, detections, identities, (h, w), children of the lineage, divisions
FILES = [
    (slp("dreem_two_flies/two_flies.slp"), 128, 128, 256, 2, (1024, 1024), 0, 0),
    (slp("dreem_two_flies/two_flies_noisy_detections.slp"), 128, 128, 259, 2, (1024, 1024), 0, 0),
    (slp("dreem_three_flies/three_flies.slp"), 128, 128, 384, 3, (1024, 1024), 0, 0),
    (slp("dreem_single_fly/single_fly.slp"), 128, 128, 128, 1, (1024, 1024), 0, 0),
    (slp("dreem_ten_zfish/ten_zfish.slp"), 32, 32, 320, 10, (3712, 3712), 0, 0),
    (slp("sleap_clip_pair/clip.slp"), 1500, 1500, 3000, 2, (1024, 1024), 0, 0),
    (slp("sleap_clip_pair/clip.predictions.slp"), 1500, 1500, 2948, 2, (1024, 1024), 0, 0),
    (slp("sleap_centered_pair/centered_pair_predictions.slp"), 1100, 1100, 2274, 27, (384, 384), 0, 0),
    (mot("mot15_TUD-Campus/gt.txt"), 71, 0, 359, 8, None, 0, 0),
    (mot("mot15_TUD-Campus/det.txt"), 71, 0, 321, 0, None, 0, 0),
    (mot("mot15_TUD-Campus/tracker_output.txt"), 71, 0, 222, 13, None, 0, 0),
    (mot("mot15_PETS09-S2L1_detonly/det.txt"), 795, 0, 4359, 0, None, 0, 0),
    (mot("mot17_09/gt.txt"), 525, 0, 5325, 26, (1080, 1920), 0, 0),
    (mot("mot17_09/det.txt"), 525, 0, 3049, 0, (1080, 1920), 0, 0),
    (mot("mot17_09/lift_FRCNN_output.txt"), 525, 0, 3928, 32, (1080, 1920), 0, 0),
    (mot("mot17_10/gt.txt"), 654, 0, 12839, 57, (1080, 1920), 0, 0),
    (mot("mot17_10/det.txt"), 654, 0, 9701, 0, (1080, 1920), 0, 0),
    (mot("mot17_10/lift_DPM_output.txt"), 654, 0, 8902, 70, (1080, 1920), 0, 0),
    (ctc("ctc_DIC-C2DH-HeLa_01"), 84, 20, 1120, 38, (512, 512), 18, 8),
    (ctc("ctc_Fluo-N2DL-HeLa_01"), 92, 4, 8639, 265, (700, 1100), 188, 94),
    (ctc("dreem_ctc_sample"), 11, 11, 224, 23, (592, 608), 0, 0),
    (spots(RECEPTOR + ".xml", videos=[[RECEPTOR + f" t{i:03d} z0.tif" for i in range(9)]], source="isbi"),
     100, 9, 7438, 528, (512, 512), 0, 0),
    (spots("icy_10cells/10_cells_1_gt.xml", source="icy"), 200, 0, 2000, 10, None, 0, 0),
    (spots("imagej_manualtracking/test_airyscan_tracks.csv", source="imagej"), 500, 0, 12577, 38, None, 0, 0),
    (spots("imagej_manualtracking/test_airyscan_tracks.csv", source="TrackMate"), 500, 0, 12577, 38, None, 0, 0),
    (spots("trackmate_xml/laptrack_with_gap_closing.xml"), 50, 0, 134, 5, (128, 128), 0, 0),
    (spots("trackmate_xml/laptrack_with_merging.xml"), 50, 0, 134, 5, (128, 128), 0, 0),
    (spots("trackmate_xml/laptrack_with_splitting.xml"), 50, 0, 134, 7, (128, 128), 4, 2),
    (spots("trackmate_xml/laptrack_without_gap_closing.xml"), 50, 0, 134, 6, (128, 128), 0, 0),
    (spots("trackmate_xml/pytrackmate_FakeTracks_v3.7.xml"), 6, 0, 12, 2, (33, 43), 0, 0),
    (spots("trackmate_csv/D5_all_spots.csv"), 9, 0, 88, 12, None, 0, 0),
    (spots("trackmate_csv/D5_tracked_spots.csv"), 8, 0, 18, 8, None, 0, 0),
    (spots("trex_guppies8/trex_csv", videos="trex_guppies8/guppies8.mp4", source="trex"),
     200, 200, 1459, 8, (2304, 2304), 0, 0),
    (spots("trex_guppies8/trex_csv/test_fish1.csv"), 200, 0, 156, 1, None, 0, 0),
    (spots("trex_guppies8/tracks_trex.csv", source="trex"), 200, 0, 1459, 8, None, 0, 0),
    (spots("trex_guppies8/detections.csv", source="trex"), 200, 0, 1404, 0, None, 0, 0),
    (spots("btrack_testdata/test_data.csv", source="btrack"), 500, 0, 1399, 7, None, 6, 3),
]  # fmt: skip


@pytest.mark.parametrize(
    ("keys", "n_frames", "n_images", "n_detections", "n_identities", "shape", "n_children", "n_divisions"),
    FILES,
    ids=lambda value: "-".join(str(v) for v in value.values())[:60] if isinstance(value, dict) else "",
)
def test_a_recording_has_exactly_the_counts_of_its_manifest(
    shared, keys, n_frames, n_images, n_detections, n_identities, shape, n_children, n_divisions
):
    dataset = validate(DatasetConfig, {"test_dataset": keys}).test_dataset
    (recording,) = open_recordings(dataset, DataloaderConfig(), shared / "data")
    indices, counts, ids = [], Counter(), set()
    for frame in recording.frames():
        found = frame.detections
        indices.append(frame.frame_index)
        counts["images"] += frame.image is not None
        counts["detections"] += len(found)
        tracked = found.gt_ids[found.gt_ids >= 0].tolist()
        assert len(tracked) == len(set(tracked))  # no identity twice in a frame
        ids.update(tracked)
        if found.boxes is not None:
            assert np.isfinite(found.boxes).all()
    assert indices == list(range(n_frames))
    assert len(recording) == n_frames
    assert counts["images"] == n_images
    assert counts["detections"] == n_detections
    assert len(ids) == n_identities
    assert recording.frame_shape == shape
    children = Counter(recording.lineage.values())
    assert sum(children.values()) == n_children
    assert sum(n >= 2 for n in children.values()) == n_divisions
    assert {*recording.lineage, *children} <= ids


def test_the_list_of_files_is_complete(shared):
    named = {
        str(path).split("/")[0]
        for keys, *_ in FILES
        for value in keys.values()
        for path in ([value["path"]] if isinstance(value, dict) else [value])
        if isinstance(path, str)
    }
    folders = {path.name for path in (shared / "data").iterdir() if path.is_dir()}
    assert folders - NOT_READ <= named
    files = {keys[key] for keys, *_ in FILES for key in ("slp_files", "det_files", "tracks") if key in keys}
    for folder in sorted(folders - NOT_READ):
        for path in sorted((shared / "data" / folder).iterdir()):
            # Tables of tracks and of edges belong to other files; images and videos to their labels.
            beside = path.name.endswith(("_tracks.csv", "_edges.csv")) or path.name.startswith("laptrack_")
            if path.suffix in {".slp", ".txt", ".xml"} or (path.suffix == ".csv" and not beside):
                assert f"{folder}/{path.name}" in files


def test_a_pickle_of_idtracker_is_refused(shared):
    keys = {"tracks": "idtracker_fish8/test_trajectories_idtrackerai.npy"}
    dataset = validate(DatasetConfig, {"test_dataset": keys}).test_dataset
    (recording,) = open_recordings(dataset, DataloaderConfig(), shared / "data")
    with pytest.raises(RecordingError, match=r"idtracker\.ai is a pickle"):
        next(recording.frames())


def test_the_folder_of_a_trex_export_agrees_with_the_table_derived_from_it(shared):
    folder = shared / "data" / "trex_guppies8"
    exported, derived = read_spots(folder / "trex_csv"), read_spots(folder / "tracks_trex.csv")
    by_fish = [np.lexsort((spots.gt_ids, spots.frame_index)) for spots in (exported, derived)]
    for name in ("frame_index", "gt_ids"):
        assert (getattr(exported, name)[by_fish[0]] == getattr(derived, name)[by_fish[1]]).all()
    apart = derived.points[by_fish[1]] - exported.points[by_fish[0]]
    assert (apart[:, 0] == 0).all()
    assert 3 < apart[:, 1].min() <= apart[:, 1].max() < 31  # the top of a fish is above its middle
    assert exported.pixel_size == (1, 1)


def test_a_table_of_tracks_is_refused(shared):
    (recording,) = open_recordings(
        validate(DatasetConfig, {"test_dataset": {"tracks": "trackmate_csv/D5_tracks.csv"}}).test_dataset,
        DataloaderConfig(), shared / "data",
    )  # fmt: skip
    with pytest.raises(ValueError, match="looks like a TrackMate table of tracks"):
        next(recording.frames())


@pytest.mark.parametrize(
    ("name", "n_edges"),
    [("with_gap_closing", 128), ("with_merging", 129), ("with_splitting", 130), ("without_gap_closing", 127)],
)
def test_a_trackmate_file_has_the_expected_edges(shared, name, n_edges):
    folder = shared / "data" / "trackmate_xml"
    path = folder / f"laptrack_{name}.xml"
    links, spots = read_model(path).links, read_trackmate_xml(path)
    with (folder / f"laptrack_{name}.csv").open(encoding="utf-8") as file:
        expected = list(csv.DictReader(file))
    assert len(links) == len(expected) == n_edges
    row_of = {int(number): row for row, number in enumerate(spots.spot_ids)}
    links = links[np.lexsort((links[:, 1], links[:, 0]))].tolist()
    expected.sort(key=lambda row: (int(row["spot_source_id"]), int(row["spot_target_id"])))
    for (source, target, track, _), row in zip(links, expected, strict=True):
        assert (source, target, track) == tuple(
            int(row[key]) for key in ("spot_source_id", "spot_target_id", "track_id")
        )
        for end, spot in (("source", row_of[source]), ("target", row_of[target])):
            assert spots.frame_index[spot] == int(row[f"{end}_frame"])
            assert spots.points[spot].tolist() == [float(row[f"{end}_position_{axis}"]) for axis in "xy"]


def test_the_oldest_trackmate_file_has_ten_edges(shared):
    assert len(read_model(shared / "data" / "trackmate_xml" / "pytrackmate_FakeTracks_v3.7.xml").links) == 10


@pytest.mark.parametrize(
    ("folder", "n_tracks", "n_children"),
    [
        ("ctc_DIC-C2DH-HeLa_01/01_GT", 38, 18),
        ("ctc_Fluo-N2DL-HeLa_01/01_GT", 265, 188),
        ("dreem_ctc_sample/test_0_GT", 23, 0),
    ],
)
def test_a_table_of_tracks_has_the_counts_of_its_manifest(shared, folder, n_tracks, n_children):
    table = read_man_track(shared / "data" / folder / "TRA" / "man_track.txt")
    assert (len(table.tracks), len(table.lineage)) == (n_tracks, n_children)


def test_a_real_video_has_the_expected_layout(shared):
    layout = layout_of(VideoFile(Path(shared / "data" / "trex_guppies8" / "guppies8.mp4")))
    assert (layout.stop, layout.frame_shape[:2]) == (200, (2304, 2304))
