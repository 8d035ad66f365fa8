"""The recording of the demo: fish in a tank that cross, touch and hide, with their true identities.

Letters: F frames, A animals; the nodes are head, thorax and tail.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.commands.demo.animals import (
    Body,
    Stone,
    body_outline,
    cast_shadows,
    draw_fish,
    make_body,
    make_stone,
    node_positions,
    sandy_ground,
    spine_of,
)
from trackd.outputs.h264 import H264Video

Floats = NDArray[np.floating[Any]]

NODES = ("head", "thorax", "tail")
EDGES = ((0, 1), (1, 2))
N_ANIMALS = 5
MISSED = 0.03  # fraction of visible instances that the detector misses
JITTER_PX = 0.7  # standard deviation of the error of its keypoints


@dataclass(frozen=True, slots=True)
class DemoRecording:
    """The files of a demo recording."""

    slp: Path  # the detections; their tracks are the true identities
    video: Path
    truth: Path  # .npz: keypoints (F, A, 3, 2), boxes (F, A, 4), visible (F, A), detected (F, A)


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """The positions and postures of the animals."""

    thorax: Floats  # (F, A, 2) pixels
    heading: Floats  # (F, A) radians, 0 to the right, rising clockwise as y points down
    bend: Floats  # (F, A) how sharply each turns, -1 to 1
    beat: Floats  # (F, A) phase of the tail's beat, radians


def make_recording(
    folder: str | Path,
    seed: int = 0,
    n_frames: int = 600,
    n_animals: int = N_ANIMALS,
    size: tuple[int, int] = (640, 480),
    fps: float = 30,
) -> DemoRecording:
    """Draw a recording and write it as `demo.mp4`, `demo.slp` and `demo_truth.npz`.

    Args:
        folder: made if absent; files of the same names are replaced.
        seed: the same seed gives the same arrays and images.
        n_frames: number of frames.
        n_animals: number of animals, at least 1.
        size: width and height in pixels, both even.
        fps: frames per second, of the motion too.

    Raises:
        OSError: the video cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    width, height = size
    bodies = [make_body(generator, number, height) for number in range(n_animals)]
    ground = sandy_ground(generator, width, height)
    stone = make_stone(generator, width, height)
    motion = swim(generator, n_frames, n_animals, size, fps, stone.centre)

    keypoints = np.empty((n_frames, n_animals, 3, 2))
    boxes = np.empty((n_frames, n_animals, 4))
    visible = np.empty((n_frames, n_animals), bool)
    video = H264Video(folder / "demo.mp4", fps, size)
    for frame in range(n_frames):
        spines = [
            spine_of(
                body,
                motion.thorax[frame, i],
                float(motion.heading[frame, i]),
                float(motion.bend[frame, i]),
                float(motion.beat[frame, i]),
            )
            for i, body in enumerate(bodies)
        ]
        outlines = [body_outline(body, spine) for body, spine in zip(bodies, spines, strict=True)]
        for i, (spine, outline) in enumerate(zip(spines, outlines, strict=True)):
            keypoints[frame, i] = node_positions(spine)
            boxes[frame, i] = [*outline.min(axis=0), *outline.max(axis=0)]
            visible[frame, i] = not stone.hides(keypoints[frame, i, 1])
        video.write(_picture(ground, stone, bodies, spines, outlines, motion.beat[frame]))
    video.close()

    detected = visible & (generator.random(visible.shape) >= MISSED)
    truth = folder / "demo_truth.npz"
    np.savez(truth, keypoints=keypoints, boxes=boxes, visible=visible, detected=detected)
    seen = keypoints + generator.normal(0, JITTER_PX, keypoints.shape)
    scores = generator.uniform(0.75, 0.99, visible.shape)
    slp = folder / "demo.slp"
    _write_slp(slp, folder / "demo.mp4", seen, scores, detected, (n_frames, height, width, 3), fps)
    return DemoRecording(slp=slp, video=folder / "demo.mp4", truth=truth)


def swim(
    generator: np.random.Generator,
    n_frames: int,
    n_animals: int,
    size: tuple[int, int],
    fps: float,
    shelter: Floats,
) -> Motion:
    """Random paths that avoid the walls and meet: at random times an animal turns towards another one.

    The first animal swims under the shelter after a quarter of the recording.
    """
    extent, dt = np.array(size, float), 1 / fps
    unit = size[1] / 480
    thorax: Floats = generator.uniform(0.2, 0.8, (n_animals, 2)) * extent
    thorax[0] = np.array([0.3, 0.3]) * extent
    heading: Floats = generator.uniform(-np.pi, np.pi, n_animals)
    cruise = unit * generator.uniform(75, 115, n_animals)  # pixels per second
    speed, turn, beat = cruise.copy(), np.zeros(n_animals), generator.uniform(0, 6, n_animals)
    goal, goal_until = np.full(n_animals, -1), np.zeros(n_animals)
    hiding = False
    motion = Motion(*(np.empty((n_frames, n_animals, *rest)) for rest in ((2,), (), (), ())))
    for frame in range(n_frames):
        motion.thorax[frame], motion.heading[frame] = thorax, heading
        motion.bend[frame], motion.beat[frame] = np.clip(turn / 2.5, -1, 1), beat
        for i in np.flatnonzero(goal_until <= frame):
            others = np.delete(np.arange(n_animals), i)
            meets = len(others) and generator.random() < 0.4
            goal[i] = generator.choice(others) if meets else -1
            goal_until[i] = frame + fps * generator.uniform(1.0, 2.5)
        if n_frames // 4 <= frame < n_frames // 2 and not hiding:
            hiding = bool(np.linalg.norm(thorax[0] - shelter) < 0.1 * size[1])
        target = np.where((goal >= 0)[:, None], thorax[goal] - thorax, 0.0)
        if n_frames // 4 <= frame < n_frames // 2 and not hiding:
            target[0] = shelter - thorax[0]
        pull = np.where(np.abs(target).sum(axis=1) > 0, 1.6, 0.0)
        direction = np.arctan2(target[:, 1], target[:, 0])
        steer = pull * _wrapped(direction - heading)
        # Within a body length of a wall, the turn away from it outweighs the turn towards the target.
        margin = 85 * unit
        near = np.clip(1 - np.minimum(thorax, extent - thorax).min(axis=1) / margin, 0, 1)
        inwards = np.arctan2(*(extent / 2 - thorax).T[::-1])
        steer += 9 * near * _wrapped(inwards - heading)
        turn += dt * (4 * (steer - turn)) + 2.6 * np.sqrt(dt) * generator.normal(size=n_animals)
        turn = np.clip(turn, -3.2, 3.2)
        speed += dt * 1.5 * (cruise - speed) + 26 * unit * np.sqrt(dt) * generator.normal(size=n_animals)
        speed = np.clip(speed, 30 * unit, 170 * unit)
        heading = _wrapped(heading + turn * dt)
        thorax = thorax + (speed * dt)[:, None] * np.column_stack([np.cos(heading), np.sin(heading)])
        thorax = np.clip(thorax, 22 * unit, extent - 22 * unit)
        beat = beat + dt * (7 + 0.13 * speed / unit)
    return motion


def _picture(
    ground: NDArray[np.uint8],
    stone: Stone,
    bodies: list[Body],
    spines: list[Floats],
    outlines: list[Floats],
    beat: Floats,
) -> NDArray[np.uint8]:
    canvas = cast_shadows(ground, outlines, 0.012 * ground.shape[0])
    for i, body in enumerate(bodies):
        draw_fish(canvas, body, spines[i], float(beat[i]))
    return stone.lay_over(canvas)


def _wrapped(angle: Floats) -> Floats:
    """The same angles, from -π to π."""
    wrapped: Floats = (angle + np.pi) % (2 * np.pi) - np.pi
    return wrapped


def _write_slp(
    path: Path,
    video_path: Path,
    keypoints: Floats,
    scores: Floats,
    detected: NDArray[np.bool_],
    shape: tuple[int, int, int, int],
    fps: float,
) -> None:
    """Write the detections as predicted instances; the tracks `fish1`, `fish2` … are the ground truth."""
    import sleap_io

    skeleton = sleap_io.Skeleton(nodes=list(NODES), edges=list(EDGES), name="fish")
    metadata = {"type": "MediaVideo", "shape": shape, "grayscale": False, "bgr": True, "fps": fps}
    # The name has no folder: readers search beside the .slp, so the folder can be moved.
    video = sleap_io.Video(filename=video_path.name, backend_metadata=metadata, open_backend=False)
    tracks = [sleap_io.Track(name=f"fish{i + 1}") for i in range(keypoints.shape[1])]
    frames = []
    for frame in np.flatnonzero(detected.any(axis=1)):
        instances = [
            sleap_io.PredictedInstance.from_numpy(
                keypoints[frame, i],
                skeleton,
                point_scores=np.full(len(NODES), scores[frame, i]),
                score=float(scores[frame, i]),
                track=tracks[i],
            )
            for i in np.flatnonzero(detected[frame])
        ]
        frames.append(sleap_io.LabeledFrame(video=video, frame_idx=int(frame), instances=instances))
    labels = sleap_io.Labels(labeled_frames=frames, videos=[video], skeletons=[skeleton], tracks=tracks)
    sleap_io.save_slp(labels, str(path), verbose=False)
