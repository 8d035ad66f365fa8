"""Track and score every recording of $TRACKD_SHARED/data that has a ground truth; prints a table.

    TRACKD_SHARED=../shared python benchmarks/recordings.py [NAME ...]

`trackd eval` scores each set with the defaults of the `motion` scorer, and the CTC sets also with
`tracker.divisions` true and false. For sets that have only tracks, the positions of the ground truth are the detections
("perfect detections"); `noisy` and the MOT sets have those of a detector.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from rich.console import Console

from trackd.commands.eval import evaluate
from trackd.config import check_config
from trackd.evaluation.report import Row

SHARED = Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve()
DATA = SHARED / "data"


def sleap(labels: str, video: str) -> dict[str, Any]:
    return {"slp_files": [str(DATA / labels)], "video_files": [str(DATA / video)]}


def mot(folder: str) -> dict[str, Any]:
    return {"det_files": [str(DATA / folder / "det.txt")], "gt_files": [str(DATA / folder / "gt.txt")]}


def ctc(folder: str) -> dict[str, Any]:
    return {"dir": {"path": [str(DATA / folder)], "labels_suffix": ".tif", "vid_suffix": ".tif"}}


def microscopy(tracks: str, source: str) -> dict[str, Any]:
    return {"tracks": [str(DATA / tracks)], "source": source}


FLIES = "dreem_two_flies/two_flies"
SETS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "single_fly": (sleap("dreem_single_fly/single_fly.slp", "dreem_single_fly/single_fly.mp4"), {}),
    "two_flies": (sleap(f"{FLIES}.slp", f"{FLIES}.mp4"), {}),
    "two_flies_noisy": (sleap(f"{FLIES}_noisy_detections.slp", f"{FLIES}.mp4"), {}),
    "three_flies": (sleap("dreem_three_flies/three_flies.slp", "dreem_three_flies/three_flies.mp4"), {}),
    "ten_zfish": (sleap("dreem_ten_zfish/ten_zfish.slp", "dreem_ten_zfish/ten_zfish.mp4"), {}),
    "clip_pair": (sleap("sleap_clip_pair/clip.slp", "sleap_clip_pair/clip.mp4"), {}),
    "TUD-Campus": (mot("mot15_TUD-Campus"), {}),
    "MOT17-09": (mot("mot17_09"), {}),
    "MOT17-10": (mot("mot17_10"), {}),
    "DIC-HeLa": (ctc("ctc_DIC-C2DH-HeLa_01"), {}),
    "DIC-HeLa true": (ctc("ctc_DIC-C2DH-HeLa_01"), {"divisions": True}),
    "DIC-HeLa false": (ctc("ctc_DIC-C2DH-HeLa_01"), {"divisions": False}),
    "Fluo-HeLa": (ctc("ctc_Fluo-N2DL-HeLa_01"), {}),
    "Fluo-HeLa true": (ctc("ctc_Fluo-N2DL-HeLa_01"), {"divisions": True}),
    "Fluo-HeLa false": (ctc("ctc_Fluo-N2DL-HeLa_01"), {"divisions": False}),
    "dreem_ctc": (ctc("dreem_ctc_sample"), {}),
    "isbi_receptors": (microscopy("isbi_receptors/RECEPTOR snr 7 density low.xml", "isbi"), {}),
    "icy_10cells": (microscopy("icy_10cells/10_cells_1_gt.xml", "icy"), {}),
    "imagej": (microscopy("imagej_manualtracking/test_airyscan_tracks.csv", "imagej"), {}),
    "laptrack_splits": (microscopy("trackmate_xml/laptrack_with_splitting.xml", "trackmate"), {}),
}


def run(dataset: dict[str, Any], tracker: dict[str, Any]) -> tuple[Row, float]:
    with tempfile.TemporaryDirectory() as folder:
        tree = {"out_dir": folder, "dataset": {"test_dataset": dataset}, "tracker": tracker}
        started = time.monotonic()
        row = evaluate(
            check_config(tree | {"stream": {"outputs": ["mot"]}}), DATA, console=Console(file=io.StringIO())
        )[0]
        return row, time.monotonic() - started


def line(name: str, row: Row, seconds: float) -> str:
    score, cells = row.tracking, row.cells
    percent = [100 * value for value in (score.hota, score.deta, score.assa, score.idf1, score.mota)]
    text = f"{name:16} {row.frames:6d} {score.n_gt:5d} {score.n_tracks:6d} "
    text += " ".join(f"{value:6.1f}" for value in percent) + f" {score.id_switches:5d} {row.sw_cnt:6d}"
    if cells is None:
        return f"{text} {'':26} {seconds:6.1f}"
    found = cells.divisions
    f1 = "–" if found.f1 is None else f"{100 * found.f1:.1f}"
    return f"{text} {100 * cells.tra:6.2f} {found.found:4d} {found.false:3d} {found.missed:4d} {f1:>6} {seconds:6.1f}"


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    names = sys.argv[1:] or list(SETS)
    print(
        f"{'recording':16} frames ident tracks   HOTA   DetA   AssA   IDF1   MOTA  IDSW sw_cnt    TRA  div "
        f"{'fls':>3} miss div.F1      s"
    )
    for name in names:
        print(line(name, *run(*SETS[name])), flush=True)


if __name__ == "__main__":
    main()
