"""The measures of `trackd eval`."""

import csv
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile

import trackd.commands.eval as eval_module
from trackd.config import Config
from trackd.evaluation import picture
from trackd.evaluation.cell_scores import cell_score, pooled
from trackd.evaluation.mot_truth import MotTruth
from trackd.evaluation.report import Row, tables, write_csv, write_json
from trackd.evaluation.segmentation import SegmentationScoring, best_overlaps, reference_folder
from trackd.evaluation.sequence import Sequence, frame_of_detections
from trackd.evaluation.switches import SwitchCount
from trackd.evaluation.tracking_scores import tracking_scores
from trackd_client.configuration import ConfigError
from trackd_client.recordings.labels.tables import rows_of
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import RecordingError


def sequence(*frames, gt_parents=None, track_parents=None):
    made = Sequence("one", gt_parents=gt_parents or {}, track_parents=track_parents or {})
    for number, (gt_ids, track_ids) in enumerate(frames):
        made.frames.append(frame_of_detections(number, np.array(gt_ids), np.array(track_ids)))
    return made


def score_of(*frames, **parents):
    return tracking_scores([sequence(*frames, **parents)])[0][0]


def test_perfect_tracks_score_one():
    score = score_of(([1, 2], [9, 4]), ([2, 1], [4, 9]))
    assert (score.hota, score.deta, score.assa, score.idf1, score.mota, score.id_switches) == (1, 1, 1, 1, 1, 0)
    assert (score.n_gt, score.n_tracks, score.n_gt_detections) == (2, 2, 4)


def test_a_swap_is_two_switches_and_halves_the_association():
    score = score_of(([1, 2], [1, 2]), ([1, 2], [2, 1]))
    assert score.id_switches == 2
    assert score.deta == 1
    assert score.assa == pytest.approx(1 / 3)


def test_detections_without_track_or_identity_are_missed_or_false():
    score = score_of(([1, -1, 2], [5, 6, -1]))
    assert (score.false_negatives, score.false_positives) == (1, 1)


def test_an_identity_that_is_twice_in_a_frame_counts_once():
    frame = frame_of_detections(0, np.array([3, 3, -1]), np.array([0, 1, 2]))
    assert frame.gt_ids.tolist() == [3]
    assert frame.similarity.tolist() == [[1, 0, 0]]


def test_all_recordings_together_pool_their_counts():
    good, bad = sequence(*[([1], [1])] * 9), sequence(([1], [-1]))
    _, total = tracking_scores([good, bad])
    assert total.mota == pytest.approx(0.9)
    assert total.n_gt == 2


def test_sw_cnt_counts_an_unassigned_detection_twice_and_leaves_out_detections_without_identity():
    count = SwitchCount()
    for number, (gt_ids, track_ids) in enumerate(
        [([1, -1], [0, 5]), ([1, -1], [-1, 6]), ([], []), ([1], [0]), ([1], [3])]
    ):
        count.add(number, np.array(gt_ids, int), np.array(track_ids, int))
    assert [(s.frame_index, s.before, s.after) for s in count.switches] == [(1, 0, -1), (3, -1, 0), (4, 0, 3)]


PARENT = [([1], [0]), ([1], [0])]
LINEAGE = {2: 1, 3: 1}


def test_a_division_that_was_found_costs_nothing():
    score = cell_score(sequence(*PARENT, *[([2, 3], [1, 2])] * 2, gt_parents=LINEAGE, track_parents={1: 0, 2: 0}))
    assert (score.tra, score.lnk, score.cost) == (1, 1, 0)
    assert (score.divisions.found, score.divisions.f1) == (1, 1)


def test_a_division_that_was_missed_or_false_is_counted():
    missed = cell_score(sequence(*PARENT, *[([2, 3], [0, 1])] * 2, gt_parents=LINEAGE))
    assert (missed.divisions.missed, missed.divisions.recall, missed.divisions.precision) == (1, 0, None)
    assert missed.tra < 1
    false = cell_score(sequence(([1, 2], [0, 1]), ([1, 2], [2, 3]), track_parents={2: 0, 3: 0}))
    assert (false.divisions.false, false.divisions.precision, false.divisions.f1) == (1, 0, 0)


def test_the_order_of_the_instances_does_not_matter_to_the_cells():
    frames = [([5, 1, 9], [2, 0, 1]), ([9, 5, 1], [1, 2, 0])]
    assert cell_score(sequence(*frames)).tra == 1


def test_an_empty_result_scores_zero():
    score = cell_score(sequence(*[([1, 2], [-1, -1])] * 3))
    assert (score.tra, score.cost) == (0, 10 * 6 + 1.5 * 4)


def test_cells_of_several_recordings_are_pooled():
    one = cell_score(sequence(*PARENT, *[([2, 3], [1, 2])] * 2, gt_parents=LINEAGE, track_parents={1: 0, 2: 0}))
    none = cell_score(sequence(*PARENT, *[([2, 3], [0, 1])] * 2, gt_parents=LINEAGE))
    both = pooled([one, none])
    assert both.divisions.f1 == pytest.approx(2 / 3)
    assert both.tra == pytest.approx(1 - (one.cost + none.cost) / (one.cost_of_nothing + none.cost_of_nothing))
    assert pooled([]) is None


def test_a_reference_cell_counts_with_the_result_that_covers_more_than_half_of_it(tmp_path):
    reference = np.zeros((8, 8), np.uint16)
    reference[:4, :4], reference[6:, 6:] = 7, 9
    result = np.zeros((8, 8), np.uint16)
    result[:3, :4], result[6:, 6], result[7, 7] = 2, 3, 4
    np.testing.assert_allclose(best_overlaps(reference, result), [12 / 16, 0])
    folder = tmp_path / "01_ST" / "SEG"
    folder.mkdir(parents=True)
    (tmp_path / "01").mkdir()
    tifffile.imwrite(folder / "man_seg003.tif", reference)
    assert reference_folder(tmp_path / "01") == folder
    scoring = SegmentationScoring(folder)
    assert scoring.score is None
    scoring.add(2, result)
    scoring.add(3, result)
    assert scoring.score == pytest.approx(0.375)


def test_a_result_on_a_distractor_is_left_out(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("1,1,1,1,10,10,1,1,1\n1,2,51,1,10,10,0,8,1\n1,3,101,1,10,10,0,1,1\n")
    boxes = np.array([[0, 0, 10, 10], [50, 0, 60, 10], [100, 0, 110, 10], [200, 0, 210, 10]], np.float32)
    frame = MotTruth(path).frame(0, np.array([4, 5, 6, -1]), boxes)
    assert frame.gt_ids.tolist() == [1]
    assert frame.track_ids.tolist() == [4, 6]
    np.testing.assert_allclose(frame.similarity, [[1, 0]])


def test_a_ground_truth_that_is_no_table_is_an_error_that_names_the_file(tmp_path):
    (tmp_path / "gt.txt").write_text("no numbers\n")
    with pytest.raises(RecordingError, match=r"gt\.txt"):
        MotTruth(tmp_path / "gt.txt")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("2000000000,1,1,1,5,5", "row 1: claims 2000000000 frames; limits.recording_frames"),
        ("1e300,1,1,1,5,5", "row 1: claims 1e\\+300 frames"),
        ("1,1e300,1,1,5,5", "row 1: an id is a whole number"),
        ("1,1,1,1,5", "row 1: must hold frame,id,left,top,width,height"),
    ],
)
def test_a_ground_truth_that_claims_too_much_is_an_error(tmp_path, row, message):
    (tmp_path / "gt.txt").write_text(row + "\n")
    with pytest.raises(RecordingError, match=message):
        MotTruth(tmp_path / "gt.txt")


def test_segmentation_of_many_labels_takes_memory_by_the_pixels():
    reference = np.arange(256 * 256, dtype=np.uint32).reshape(256, 256) << 16  # labels up to 2³²
    result = np.arange(256 * 256, dtype=np.int32).reshape(256, 256)
    tracemalloc.start()
    values = best_overlaps(reference, result)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(values) == 256 * 256 - 1
    assert (values == 1).all()
    assert peak < 50e6


def test_reference_masks_that_cannot_be_are_an_error_that_names_the_file(tmp_path):
    scoring = SegmentationScoring(tmp_path, RecordingLimits(image_pixels=1000))
    result = np.zeros((4, 6), np.uint16)
    for number, (reference, message) in enumerate(
        [
            (np.zeros((5, 6), np.uint16), r"must be whole numbers ≥ 0 of shape \[4, 6\]; got uint16 of \[5, 6\]"),
            (np.zeros((4, 6), np.float32), "got float32"),
            (np.full((4, 6), -1, np.int16), "must be whole numbers ≥ 0"),
            (np.zeros((50, 60), np.uint16), "claims an image of 50 × 60"),
        ]
    ):
        tifffile.imwrite(tmp_path / f"man_seg{number:03d}.tif", reference)
        with pytest.raises(RecordingError, match=message):
            scoring.add(number, result)
    (tmp_path / "man_seg009.tif").write_bytes(b"II*\0")
    with pytest.raises(RecordingError, match=r"man_seg009\.tif: not a TIFF image"):
        scoring.add(9, result)


def test_a_name_that_a_spreadsheet_would_run_is_escaped_and_negative_scores_are_not(tmp_path):
    score = score_of(([1], [-1]), ([1], [1]), ([-1, -1, -1], [2, 3, 4]))
    assert score.mota < 0
    write_csv(tmp_path / "s.csv", [Row("-1+1", 2, score, 0, None, None)])
    with (tmp_path / "s.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["recording"] == "'-1+1"
    assert row["mota"] == str(score.mota)
    assert list(rows_of(tmp_path / "s.csv"))[1][0] == "-1+1"


def test_runs_end_at_gaps_and_switches():
    history = [(0, 1), (1, 1), (4, 1), (5, 2), (6, -1), (7, 2)]
    assert list(picture.runs(history)) == [(0, 1, 1), (4, 4, 1), (5, 5, 2), (7, 7, 2)]
    assert list(picture.runs([])) == []


def test_the_picture_is_written_even_without_tracks(tmp_path):
    count = SwitchCount()
    count.add(0, np.array([1]), np.array([0]))
    count.add(1, np.array([1]), np.array([2]))
    picture.draw_tracks(tmp_path / "a.png", "a", {1: [(0, 0), (1, 2)]}, count.switches)
    picture.draw_tracks(tmp_path / "b.png", "b", {}, [])
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.png"))


def test_the_report_has_the_same_values_in_all_its_forms(tmp_path):
    row = Row("one", 2, score_of(([1], [1]), ([1], [1])), 0, None, None)
    write_json(tmp_path / "s.json", [row])
    write_csv(tmp_path / "s.csv", [row])
    (read,) = json.loads((tmp_path / "s.json").read_text())
    with (tmp_path / "s.csv").open() as file:
        (line,) = csv.DictReader(file)
    assert (read["recording"], read["hota"], read["tra"]) == ("one", 1, None)
    assert (line["recording"], float(line["hota"]), line["tra"]) == ("one", 1, "")
    assert len(tables([row])) == 1


@pytest.mark.parametrize(
    ("missing", "package"), [("trackeval", "trackeval"), ("ctc_metrics", "py-ctcmetrics"), ("matplotlib", "matplotlib")]
)
def test_a_missing_package_is_an_error_before_the_tracking(monkeypatch, missing, package):
    find = eval_module.importlib.util.find_spec
    monkeypatch.setattr(eval_module.importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(ConfigError, match=rf"not installed: pip install {package}$"):
        eval_module.evaluate(Config(), Path())


def test_instances_of_the_truth_after_the_last_frame_count_as_missed(tmp_path):
    path = tmp_path / "gt.txt"
    path.write_text("".join(f"{i},1,1,1,10,10,1,1,1\n" for i in (1, 2, 5)))
    assert [(frame.frame_index, frame.gt_ids.tolist()) for frame in MotTruth(path).after(0)] == [(1, [1]), (4, [1])]
