"""The ids of the detector `background`: IDF1 and id switches on drawn arenas, and on the demo's recording.

    python benchmarks/background.py [--seeds 0 1 2] [--demo] [--option threshold=18]

The arena has four dark animals on a light floor (`arena.py`). They swim as those of the demo do, also over each other.
A detection within 20 pixels of an animal's centre is that animal's (30 in the demo, whose fish are longer). The
detector has 25 images of the recording to learn the background, as `trackd live FILE` gives it. Each recording is
tracked without and with the number of animals. The row `truth` has the true boxes in place of the detector's.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from arena import arena
from trackd.commands.daemon_process import running_daemon
from trackd.commands.demo.recording import make_recording
from trackd.evaluation import IdentityScoring
from trackd_client import Client, Detections
from trackd_client.apps.camera.run import parsed_options
from trackd_client.detectors.named import open_detector

FPS, N_FRAMES, LEARNED = 30, 600, 25
BEGIN_NS = 1_700_000_000_000_000_000
FAR = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--option", action="append", default=[])
    given = parser.parse_args()
    options = parsed_options(given.option)
    with (
        running_daemon([]) as addresses,
        Client(addresses["ingest"], addresses["tracks"], addresses["control"], timeout_s=60) as client,
    ):
        for seed in given.seeds:
            images, truth, _ = arena(N_FRAMES, 4, seed=seed)
            seen = np.ones(truth.shape[:2], bool)
            compare(client, f"arena {seed}", images, truth, seen, 20, options)
        if given.demo:
            compare(client, "demo", *demo(), 30, options)


def demo() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """The images, the thoraxes (F, A, 2) and whether each is visible (F, A)."""
    files = make_recording(tempfile.mkdtemp(), seed=3)
    truth = np.load(files.truth)
    capture, images = cv2.VideoCapture(str(files.video)), []
    while (read := capture.read())[0]:
        images.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    return images, truth["keypoints"][:, :, 1], truth["visible"]


def compare(client: Client, name: str, images: Sequence[np.ndarray], truth, seen, tolerance: float, options) -> None:
    animals = truth.shape[1]
    boxes = iter(np.concatenate([truth - 13, truth + 13], axis=2).astype(np.float32))
    show(client, f"{name}, truth", images, truth, seen, tolerance, lambda image: Detections(boxes=next(boxes)))
    for known in (None, animals):
        detector = open_detector("background", options, known)
        detector.prepare(images[:: max(1, len(images) // LEARNED)])
        row = f"{name}, {'number known' if known else 'number unknown'}"
        show(client, row, images, truth, seen, tolerance, detector)


def show(
    client: Client,
    name: str,
    images: Sequence[np.ndarray],
    truth: np.ndarray,
    seen: np.ndarray,
    tolerance: float,
    detect: Callable[[np.ndarray], Detections],
) -> None:
    """Track one recording, and print its scores."""
    scoring = IdentityScoring()
    missed = wrong = 0
    seconds = 0.0
    stream_name = name.replace(", ", "-").replace(" ", "_")
    with client.open_stream(
        stream_name,
        config={"max_tracks": truth.shape[1]},
        reply="tracks",
        skeleton=getattr(detect, "skeleton", None),
        frame_shape=images[0].shape,
    ) as stream:
        for index, image in enumerate(images):
            began = time.process_time()
            found = detect(image)
            seconds += time.process_time() - began
            tracks = stream.track(image, found, frame_index=index, t_ns=BEGIN_NS + index * 10**9 // FPS, timeout_s=60)
            centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
            distances = np.linalg.norm(truth[index][:, None] - centres[None], axis=2)
            distances[~seen[index]] = FAR
            animals, rows = linear_sum_assignment(distances)
            near = distances[animals, rows] < tolerance
            ids = np.full(truth.shape[1], -1)
            ids[animals[near]] = tracks.track_ids[rows[near]]
            missed += int((ids[seen[index]] < 0).sum())
            wrong += len(centres) - int(near.sum())
            scoring.add_detections(np.flatnonzero(seen[index]), ids[seen[index]])
    score = scoring.score()
    print(
        f"{name:26} IDF1 {score.idf1:.3f}, {score.id_switches} id switches, {missed} of {seen.sum()} missed, "
        f"{wrong} false, {seconds / len(images) * 1e3:.1f} ms of processor time per image",
        flush=True,
    )


if __name__ == "__main__":
    main()
