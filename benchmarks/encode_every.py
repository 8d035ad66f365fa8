"""What `tracker.encode_every` saves, and what it does to the ids: recordings with images and ground truth.

    TRACKD_SHARED=../shared python benchmarks/encode_every.py [NAME ...] [--checkpoint FILE] [--plain]

Each recording is tracked with every value of `encode_every` at the same time, frame by frame, on one thread. `crops` is
the share of the crops that were encoded. `equal` is the share of the frames whose ids are those of `encode_every: 1`.
`speed` is the frames per second of whole steps, decoding excluded, relative to `encode_every: 1` of the same round; the
median of the rounds. `blind` tracks with `use_vis_feats: false`: where its ids are equal too, the features decide
little in that recording, and equal ids say little about them. `--plain` leaves out `iou` and `max_center_dist`, so that
the model's scores alone decide.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from figures import Figure
from trackd.config import Config, LimitsConfig, StreamSettings, TrackerConfig, check_config
from trackd.engine.queue import QueuedFrame, StreamQueue
from trackd.engine.step import FrameStep, assign, encode, prepare, score
from trackd.engine.stream_state import StreamState
from trackd.evaluation.sequence import Sequence, frame_of_detections
from trackd.evaluation.switches import SwitchCount
from trackd.evaluation.tracking_scores import tracking_scores
from trackd.models.registry import ModelRegistry
from trackd.models.transformer.reuse import Encoded
from trackd_client.apps.replay import with_pixel_range
from trackd_client.protocol import Frame
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.paths import dataset_of
from trackd_client.recordings.recording import RecordedFrame, Recording

SHARED = Path(os.environ.get("TRACKD_SHARED", "../shared")).resolve()
DATA = SHARED / "data"
EVERY = (1, 2, 4, 8)
BLIND = "blind"
TRACKER = {"iou": "mult", "semantics": "2026", "max_center_dist": 60.0}  # as in DREEM's example
SETS: dict[str, tuple[str, int]] = {  # what is read, and the side of a crop, pixels
    "single_fly": ("dreem_single_fly/single_fly.slp", 128),
    "clip_pair": ("sleap_clip_pair/clip.slp", 128),
    "two_flies": ("dreem_two_flies/two_flies.slp", 128),
    "three_flies": ("dreem_three_flies/three_flies.slp", 128),
    "ten_zfish": ("dreem_ten_zfish/ten_zfish.slp", 128),
    "ctc_sample": ("dreem_ctc_sample", 64),
    "DIC-HeLa": ("ctc_DIC-C2DH-HeLa_01", 128),
    "N2DL-HeLa": ("ctc_Fluo-N2DL-HeLa_01", 48),
}


@dataclass(slots=True)
class Run:
    """A recording that was tracked with one setting."""

    ids: list[NDArray[np.int32]]
    frames_per_s: list[float] = field(default_factory=list)  # one of each round
    crops: int = 0
    encoded: int = 0
    hota: float = 0.0
    switches: int = 0


def settings_of(config: Config, recording: Recording, every: int | str) -> StreamSettings:
    changes = {"use_vis_feats": False} if every == BLIND else {"encode_every": every}
    return StreamSettings.of(config).changed({**with_pixel_range({}, recording), **changes})


def tracked(
    registry: ModelRegistry, settings: list[StreamSettings], recording: Recording, frames: list[RecordedFrame]
) -> list[tuple[Run, float]]:
    """Track the frames once with each of the settings, and give the seconds of all its steps.

    Each frame is stepped with every setting before the next one, so that other load slows all of them.
    """
    make_scorer, limits = registry.scorer_factory(registry.default), LimitsConfig(step_ms=None)
    streams = [
        StreamState("bench", 1, 0, each, recording.skeleton, recording.frame_shape, make_scorer, limits)
        for each in settings
    ]
    queue, runs, seconds = StreamQueue("bench", 1), [Run([]) for _ in streams], [0.0] * len(streams)
    for seq, recorded in enumerate(frames):
        for place, (state, run) in enumerate(zip(streams, runs, strict=True)):
            image = recorded.image if state.needs_image else None
            frame = Frame("bench", seq, recorded.frame_index, recorded.t_ns, recorded.detections, image)
            step = FrameStep(queue, QueuedFrame(frame, 0, 0), state)
            began = time.perf_counter()
            for function in (prepare, encode, score, assign):
                function([step])
            seconds[place] += time.perf_counter() - began
            note(step, run)
    return list(zip(runs, seconds, strict=True))


def note(step: FrameStep, run: Run) -> None:
    if step.assignment is None or step.instances is None:
        raise RuntimeError(f"frame {step.item.frame.frame_index} was not tracked: {step.error}")
    n_valid = int(step.instances.valid.sum())
    run.ids.append(step.assignment.track_ids)
    run.crops += n_valid
    run.encoded += int((step.features.ages == 0).sum()) if isinstance(step.features, Encoded) else n_valid


def scored(run: Run, recording: Recording, frames: list[RecordedFrame]) -> None:
    """Compare the ids with the ground truth."""
    sequence, switches = Sequence(recording.name), SwitchCount()
    for recorded, ids in zip(frames, run.ids, strict=True):
        gt_ids = recorded.detections.gt_ids
        assert gt_ids is not None
        sequence.frames.append(frame_of_detections(recorded.frame_index, gt_ids, ids))
        switches.add(recorded.frame_index, gt_ids, ids)
    _, total = tracking_scores([sequence])
    run.hota, run.switches = total.hota, len(switches.switches)


def equal(run: Run, other: Run) -> float:
    """Return the share of the frames with the same ids."""
    return float(np.mean([np.array_equal(a, b) for a, b in zip(run.ids, other.ids, strict=True)]))


def measure(checkpoint: Path, name: str, most: int, rounds: int, tracker: dict[str, Any]) -> dict[int | str, Run]:
    path, crop_size = SETS[name]
    dataset = {**dataset_of(DATA / path), "crop_size": crop_size}
    config = check_config(
        {
            "ckpt_path": str(checkpoint),
            "tracker": tracker,
            "dataset": {"test_dataset": dataset},
            "daemon": {"device": "cpu", "encoder_threads": 1},
        }
    )
    registry = ModelRegistry(config)
    (recording,) = open_recordings(config.dataset.test_dataset, config.dataloader, Path(), config.limits)
    frames = [each for each in recording.frames() if each.image is not None or not len(each.detections)][:most]
    names: tuple[int | str, ...] = (*EVERY, BLIND)
    settings = [settings_of(config, recording, every) for every in names]
    runs: dict[int | str, Run] = {}
    tracked(registry, settings, recording, frames[:4])  # the first steps are slower
    for _ in range(rounds):
        for every, (run, seconds) in zip(names, tracked(registry, settings, recording, frames), strict=True):
            kept = runs.setdefault(every, run)
            if equal(kept, run) < 1:
                raise RuntimeError(f"{name}: encode_every {every} gave other ids in another round")
            kept.frames_per_s.append(len(frames) / seconds)
    for run in runs.values():
        scored(run, recording, frames)
    return runs


def row(name: str, every: int | str, run: Run, base: Run) -> str:
    speed = np.median(np.divide(run.frames_per_s, base.frames_per_s))
    return (
        f"{name:12}{every!s:>6}{len(run.ids):7d}{np.median(run.frames_per_s):9.1f}{speed:8.2f}"
        f"{run.encoded / max(run.crops, 1):8.2f}{equal(run, base):8.3f}{run.switches:9d}{run.hota:8.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}")
    parser.add_argument("--checkpoint", type=Path, default=SHARED / "oracle/ckpt_resnet/resnet18.ckpt")
    parser.add_argument("--frames", type=int, default=120, help="of a recording, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--change", type=float, default=TrackerConfig().encode_change, help="tracker.encode_change")
    parser.add_argument("--plain", action="store_true", help="the defaults of the section `tracker`")
    options = parser.parse_args()
    tracker = {"encode_change": options.change, **({} if options.plain else TRACKER)}
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    print(f"{'':12}{'every':>6}{'frames':>7}{'fps':>9}{'speed':>8}{'crops':>8}{'equal':>8}{'switches':>9}{'HOTA':>8}")
    for name in track(options.names or list(SETS), console=Console(stderr=True)):
        runs = measure(options.checkpoint, name, options.frames, options.rounds, tracker)
        for every, run in runs.items():
            print(row(name, every, run, runs[1]), flush=True)
        ratios = np.divide(runs[4].frames_per_s, runs[1].frames_per_s)
        print(Figure.of(f"encode_every 4, {name}: frames/s relative to 1", ratios, more_is_better=True))


if __name__ == "__main__":
    main()
