"""Small recordings that the tests write, and the paths of the shared real ones."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import sleap_io
import tifffile

REPOSITORY = Path(__file__).resolve().parents[3]
NODES = ["head", "tail"]
TRACKMATE_COLUMNS = "ID,LABEL,TRACK_ID,POSITION_X,POSITION_Y,FRAME,RADIUS,VISIBILITY"


def shared_data(*parts: str) -> Path:
    """The path of a real recording. Skips the test if it does not exist."""
    root = Path(os.environ.get("TRACKD_SHARED", REPOSITORY.parent / "shared"))
    path = root.joinpath("data", *parts)
    if not path.exists():
        pytest.skip(f"{path} does not exist: set TRACKD_SHARED to the folder that holds data/")
    return path


def make_video(path: Path, n_frames: int = 12, *, gray: bool = True, fps: float = 20) -> Path:
    """A 64 × 48 video. The brightness of frame i is about 10·i + 20, for the first 24 frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (64, 48))
    for index in range(n_frames):
        image = np.full((48, 64, 3), min(10 * index + 20, 255), np.uint8)
        if not gray:
            image[:, :, 2] = 255  # red, in OpenCV's order
        writer.write(image)
    writer.release()
    return path


def make_slp(path: Path, frames: dict[int, list], *, video: str | None = "clip.mp4", tracks: list = ()) -> Path:
    """A SLEAP file; `frames` holds instances that `user` and `predicted` return."""
    instances = [i for found in frames.values() for i in found]
    skeleton = instances[0].skeleton if instances else make_skeleton()
    videos = [sleap_io.Video(filename=video or "absent.mp4", open_backend=False)]
    labelled = [
        sleap_io.LabeledFrame(video=videos[0], frame_idx=index, instances=found) for index, found in frames.items()
    ]
    labels = sleap_io.Labels(labelled, videos=videos, skeletons=[skeleton], tracks=list(tracks))
    sleap_io.save_slp(labels, str(path), verbose=False)
    return path


def make_skeleton() -> sleap_io.Skeleton:
    return sleap_io.Skeleton(nodes=list(NODES), edges=[("head", "tail")], name="worm")


def user(skeleton, points, track=None, source=None):
    return sleap_io.Instance.from_numpy(np.array(points, float), skeleton, track=track, from_predicted=source)


def predicted(skeleton, points, track=None, score=0.5):
    points = np.array(points, float)
    weights = np.full(len(points), score)
    return sleap_io.PredictedInstance.from_numpy(points, skeleton, point_scores=weights, score=score, track=track)


def make_stack(path: Path, n_frames: int = 6, dtype=np.uint8, **options) -> Path:
    """A TIFF stack of 24 × 16 images; frame i is filled with i, except its corner, which holds 100."""
    images = np.stack([np.full((16, 24), i, dtype) for i in range(n_frames)])
    images[:, 0, 0] = 100
    tifffile.imwrite(path, images, **({"photometric": "minisblack"} | options))
    return path


def make_trackmate(
    path: Path, frames: dict[int, list[str]], edges: dict[int, list[tuple[int, int]]], **options
) -> Path:
    """A TrackMate file.

    Args:
        path: the file to write.
        frames: by frame, the text of each spot's attributes, with its content after a `>` if it has any.
        edges: by track, the source and target of each edge.
        options: `filtered`, the tracks listed as kept (by default all); `model`, `image`: their attributes.
    """
    filtered = options.get("filtered", list(edges))
    spots = "".join(
        f'<SpotsInFrame frame="{frame}">'
        + "".join(f"<Spot {spot}</Spot>" if ">" in spot else f"<Spot {spot} />" for spot in found)
        + "</SpotsInFrame>\n"
        for frame, found in frames.items()
    )
    tracks = "".join(
        f'<Track name="Track_{track}" TRACK_ID="{track}">'
        + "".join(f'<Edge SPOT_SOURCE_ID="{a}" SPOT_TARGET_ID="{b}" />\n' for a, b in links)
        + "</Track>"
        for track, links in edges.items()
    )
    kept = "".join(f'<TrackID TRACK_ID="{track}" />' for track in filtered)
    image = options.get("image", 'width="40" height="30" nframes="0" pixelwidth="1.0" pixelheight="1.0"')
    path.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<TrackMate version="6.0.3">
<Model {options.get("model", 'spatialunits="pixel" timeunits="frame"')}>
<AllSpots nspots="0">
{spots}</AllSpots>
<AllTracks>{tracks}</AllTracks>
<FilteredTracks>{kept}</FilteredTracks>
</Model>
<Settings><ImageData {image} /></Settings>
</TrackMate>
"""
    )
    return path


def spot(number: int, x: float, y: float, frame: int | None = None, more: str = "") -> str:
    """The text of a spot's attributes."""
    at = "" if frame is None else f'FRAME="{frame}" '
    return f'ID="{number}" POSITION_X="{x}" POSITION_Y="{y}" {at}{more}'


def write_trackmate_csv(
    path: Path, *rows: str, unit="(micron)", header=TRACKMATE_COLUMNS, encoding="utf-8", version=7
) -> Path:
    """A TrackMate table of spots, with the header of that version."""
    names = header.replace("POSITION_", "").title()
    units = ",".join(unit if "POSITION" in key else "" for key in header.split(","))
    head = [header] if version < 7 else [header, names, names, units]
    path.write_text("\n".join([*head, *rows]) + "\n", encoding=encoding)
    return path


def write_labels(folder: Path, images: dict[str, np.ndarray]) -> list[str]:
    """Write label images by file name, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in images.items():
        tifffile.imwrite(folder / name, labels, compression="zlib")
    return [str(folder / name) for name in images]


def blocks(**places: tuple[int, int, int, int]) -> np.ndarray:
    """A 40 × 30 label image; `_7=(x1, y1, x2, y2)` fills that box with 7."""
    labels = np.zeros((30, 40), np.uint16)
    for name, (x1, y1, x2, y2) in places.items():
        labels[y1:y2, x1:x2] = int(name.lstrip("_"))
    return labels
