"""DREEM itself beside trackd: the same recording, inference file and checkpoint, and both programs whole.

    TRACKD_SHARED=../shared python benchmarks/beside_dreem.py [N ...] [--cores C ...] [--checkpoint NAME ...]

`dreem track` runs in .venv-dreem, `trackd track` in this environment. Each is one process, bound to C cores, with C
torch threads (DREEM) or C threads of the encoder (trackd). In each round both track the recording, one after the other;
a ratio is of one round, and the table has medians over the rounds. The first run of each process is not counted. With
one core the seconds are those of CPU, which other programs slow least; with more they are real. The recordings are
drawn: N animals with two nodes, 2 % of the detections missed, images of 1024 px, crops of 74 px. The window is 8.

`job`: from the inference file to the tracked .slp, without the load of the model; video, crops and files included.
`loop`: of it, DREEM's `Tracker.track`; for trackd the steps of the same frames alone, which also cut the crops.
`encoder`: of the loop, the visual encoder; for trackd with the crops. `ids`: whether the two .slp have the same ids in
every frame, up to their numbers, in every round.

DREEM computes in float32. So does trackd here, unless `--dtype auto`, its default, finds native bfloat16.

Torch's threads wait for each other passively here (OMP_WAIT_POLICY). Actively, as is their default, two of them made
DREEM 1.25 times as fast while nothing else ran, and up to 11 times as slow when something did.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from arena_recording import ids_of, write_recording
from figures import Figure
from peer_process import HERE, AnsweringProcess
from targets import Target

VENV = HERE.parent / ".venv-dreem"
NO_DREEM = "no DREEM: `make bench-dreem` installs it"
SHARED = Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve()
CHECKPOINTS = {path.stem: path for path in sorted((SHARED / "oracle").glob("ckpt*/*.ckpt"))}
RESNET, DESCRIPTOR = "resnet18", "desc_learned"
FRAMES = {2: 128, 10: 64, 50: 32, 100: 32}  # multiples of the clip length: DREEM leaves out a short last clip
CLIP = 32
ANSWER_S = 600.0
FASTER = 10.0


@dataclass
class Run:
    """One program's run over a recording."""

    frames_s: float  # of the job
    loop_ms: float  # for a frame, as the next two
    encoder_ms: float
    load_s: float
    written: Path

    @property
    def other_ms(self) -> float:
        """Of the loop: all but the encoder."""
        return self.loop_ms - self.encoder_ms


def inference_file(folder: Path, checkpoint: Path, cores: int, dtype: str) -> Path:
    """Write the file that both read: DREEM's keys, and those of trackd, which DREEM does not read."""
    dataset = {
        "dir": {"path": str(folder), "labels_suffix": ".slp", "vid_suffix": ".mp4"},
        "anchors": "centroid", "crop_size": 64, "padding": 5, "chunk": True, "clip_length": CLIP,
    }  # fmt: skip
    tree = {
        "ckpt_path": str(checkpoint),
        "outdir": str(folder / "out"),
        "tracker": {"window_size": 8, "iou": "mult", "max_center_dist": 60.0, "semantics": "2026"},
        "dataset": {"test_dataset": dataset},
        "dataloader": {"test_dataloader": {"num_workers": 0}},
        "trainer": {"devices": 1, "enable_progress_bar": False, "default_root_dir": str(folder)},
        "stream": {"outputs": ["slp"]},
        "daemon": {"device": "cpu", "encoder_threads": cores, "encoder_dtype": dtype},
    }
    path = folder / f"{checkpoint.stem}-{cores}.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(process: AnsweringProcess, file: Path, n_frames: int) -> Run:
    """Track a recording once."""
    found = process.ask(ANSWER_S, config=str(file))
    loop_ms, encoder_ms = (1e3 * found[name] / n_frames for name in ("loop_s", "encode_s"))
    return Run(n_frames / found["job_s"], loop_ms, encoder_ms, found["load_s"], Path(found["written"]))


def different_frames(ours: Path, theirs: Path) -> int:
    """Return the number of frames whose ids do not correspond one to one, as in the frames before."""
    pairs: dict[int, int] = {}
    back: dict[int, int] = {}
    mine, others = ids_of(ours), ids_of(theirs)
    different = len(mine.keys() ^ others.keys())
    for frame in sorted(mine.keys() & others.keys()):
        a, b = mine[frame], others[frame]
        met = [(a[pose], b[pose]) for pose in a.keys() & b.keys()]
        equal = a.keys() == b.keys() and all(pairs.get(x, y) == y and back.get(y, x) == x for x, y in met)
        different += not equal
        for x, y in met:
            pairs.setdefault(x, y)
            back.setdefault(y, x)
    return different


@dataclass
class Compared:
    """All rounds with one recording."""

    n: int
    n_frames: int
    dreem: list[Run]
    trackd: list[Run]
    different: int  # frames, in any round

    @property
    def ratios(self) -> list[float]:
        """How many times as fast the whole job is, by round."""
        return [ours.frames_s / theirs.frames_s for ours, theirs in zip(self.trackd, self.dreem, strict=True)]

    def row(self) -> str:
        cells = [f"{self.n:5d} {self.n_frames:6d}"]
        for name in ("frames_s", "loop_ms", "encoder_ms", "other_ms"):
            theirs, ours = (np.array([getattr(each, name) for each in runs]) for runs in (self.dreem, self.trackd))
            ratio = np.median(ours / theirs if name == "frames_s" else theirs / ours)
            cells.append(f"{np.median(theirs):8.1f} {np.median(ours):7.1f} {ratio:5.1f}×")
        loads = (np.median([each.load_s for each in runs]) for runs in (self.dreem, self.trackd))
        cells.append("{:6.2f} {:6.2f} ".format(*loads))
        cells.append("equal" if not self.different else f"{self.different} frames differ")
        return "  ".join(cells)


def compare(counts: list[int], cores: int, checkpoint: Path, dtype: str, rounds: int, root: Path) -> list[Compared]:
    """Run both over each recording in turn."""
    found = []
    with ExitStack() as stack:
        theirs, ours = (
            AnsweringProcess([python, HERE / script, str(cores)], stack, {"OMP_WAIT_POLICY": "passive"})
            for python, script in ((VENV / "bin" / "python", "dreem_peer.py"), (sys.executable, "trackd_peer.py"))
        )
        warm_up = inference_file(recording(root, 2, CLIP), checkpoint, cores, dtype)
        for process in (theirs, ours):
            run(process, warm_up, CLIP)
        for n in counts:
            n_frames = FRAMES.get(n, CLIP)
            file = inference_file(recording(root, n, n_frames), checkpoint, cores, dtype)
            each = Compared(n, n_frames, [], [], 0)
            for _ in range(rounds):
                each.dreem.append(run(theirs, file, n_frames))
                each.trackd.append(run(ours, file, n_frames))
                each.different += different_frames(each.trackd[-1].written, each.dreem[-1].written)
            print(each.row(), flush=True)
            found.append(each)
    return found


def recording(root: Path, n: int, n_frames: int) -> Path:
    """Return the folder of a recording; it is drawn if it is not there."""
    folder = root / f"{n}-{n_frames}"
    if not folder.exists():
        folder.mkdir()
        write_recording(folder, n, n_frames)
    return folder


def of(cores: int) -> str:
    return "1 core" if cores == 1 else f"{cores} cores"


def targets(found: dict[tuple[str, int], list[Compared]]) -> list[Target]:
    lines = []
    for (checkpoint, cores), each in found.items():
        what = f"`trackd track` relative to `dreem track`, {checkpoint}, window 8, {of(cores)}"
        median, n = min((float(np.median(one.ratios)), one.n) for one in each)
        lines.append(Target(what, f"≥ {FASTER:g}× as fast", f"≥ {median:.1f}× (N = {n})", median >= FASTER))
    runs = [one for each in found.values() for one in each]
    equal, frames = sum(not one.different for one in runs), sum(one.n_frames for one in runs)
    lines.append(
        Target("ids of `trackd track` and `dreem track`, frame by frame", "equal",
               f"in {equal} of {len(runs)} runs, {frames} frames", equal == len(runs))
    )  # fmt: skip
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="*", type=int, default=list(FRAMES))
    parser.add_argument("--cores", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--checkpoint", nargs="+", default=[RESNET, DESCRIPTOR], choices=sorted(CHECKPOINTS))
    parser.add_argument("--dtype", default="float32", choices=["float32", "auto"], help="of trackd's encoder")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not (VENV / "bin" / "python").exists():
        print(NO_DREEM)
        print(Target("`trackd track` relative to `dreem track`", f"≥ {FASTER:g}× as fast", "not installed", None))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for checkpoint in options.checkpoint:
            for cores in options.cores:
                print(f"{checkpoint}, {of(cores)}, {options.dtype}: DREEM, trackd, ratio; {options.rounds} rounds")
                heads = ("job, frames/s", "loop, ms", "encoder, ms", "rest, ms")
                print(f"{'N':>5} frames  " + "  ".join(f"{head:^22}" for head in heads) + "      load, s    ids")
                found[checkpoint, cores] = compare(
                    options.counts, cores, CHECKPOINTS[checkpoint], options.dtype, options.rounds, Path(folder)
                )
                print()
    for (checkpoint, cores), each in found.items():
        for one in each:
            what = f"`trackd track` relative to `dreem track`, {checkpoint}, N = {one.n}, {of(cores)}"
            print(Figure.of(what, one.ratios, more_is_better=True))
    print()
    for target in targets(found):
        print(target)


if __name__ == "__main__":
    main()
