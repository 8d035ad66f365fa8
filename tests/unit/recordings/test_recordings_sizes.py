"""Images of another size than the labels, or than the other images, are an error that names both sizes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import sleap_io
from recording_files import make_stack, make_trackmate, make_video, spot

from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.images.image_files import in_order
from trackd_client.recordings.images.tiff_stack import TiffStack
from trackd_client.recordings.microscopy import MicroscopyRecording
from trackd_client.recordings.motchallenge import MotRecording
from trackd_client.recordings.recording import Recording, RecordingError
from trackd_client.recordings.sleap import SleapRecording


def sleap(folder: Path, width: int, height: int) -> Recording:
    skeleton = sleap_io.Skeleton(nodes=["head"])
    metadata = {"type": "MediaVideo", "shape": (12, height, width, 1), "grayscale": True, "bgr": True}
    video = sleap_io.Video(filename="elsewhere.mp4", backend_metadata=metadata, open_backend=False)
    instance = sleap_io.PredictedInstance.from_numpy(np.ones((1, 2)), skeleton)
    frame = sleap_io.LabeledFrame(video=video, frame_idx=0, instances=[instance])
    sleap_io.save_slp(sleap_io.Labels([frame]), str(folder / "a.slp"), verbose=False)
    return SleapRecording(folder / "a.slp", TestDataset(), video=make_video(folder / "clip.mp4"))


def mot(folder: Path, width: int, height: int) -> Recording:
    (folder / "a.txt").write_text("1,-1,2,2,5,5,1\n")
    (folder / "seqinfo.ini").write_text(f"[Sequence]\nimWidth={width}\nimHeight={height}\n")
    return MotRecording(folder / "a.txt", TestDataset(), video=make_video(folder / "clip.mp4"))


def trackmate(folder: Path, width: int, height: int) -> Recording:
    image = f'width="{width}" height="{height}" nframes="6" pixelwidth="1.0" pixelheight="1.0"'
    path = make_trackmate(folder / "a.xml", {0: [spot(1, 1, 1, 0)]}, {}, image=image)
    images = TiffStack(make_stack(folder / "stack.tif"))
    return MicroscopyRecording(path, TestDataset(), images=images)


@pytest.mark.parametrize(("make", "size"), [(sleap, (64, 48)), (mot, (64, 48)), (trackmate, (24, 16))])
def test_images_must_have_the_size_that_the_labels_note(tmp_path, make, size):
    assert len(list(make(tmp_path, *size).frames())) >= 6
    with pytest.raises(RecordingError) as caught:
        list(make(tmp_path, 1024, 1000).frames())
    text = str(caught.value)
    assert f"its images have {size[0]} × {size[1]} pixels, and the labels of {tmp_path / 'a.'}" in text
    assert text.endswith("are for 1024 × 1000 pixels; name the images that were labelled")


def test_all_images_of_a_recording_must_have_one_size(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path, side in zip(paths, (20, 20, 30), strict=True):
        cv2.imwrite(str(path), np.zeros((10, side), np.uint8))
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    recording = MicroscopyRecording(tmp_path / "a.csv", TestDataset(), images=in_order(paths))
    with pytest.raises(RecordingError, match="frame 2: all images of a recording must have one size; this one has 30 × "
                       "10 pixels, and the first 20 × 10 pixels"):  # fmt: skip
        list(recording.frames())
