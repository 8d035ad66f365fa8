from collections.abc import Iterator

import numpy as np
import pytest

from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import Clip, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.transforms.augmentations import AugmentedRecording, Dropout


class Squares(Recording):
    """Ten frames of four instances; every keypoint lies on a white pixel of a black image."""

    name, source, fps, skeleton = "squares", None, 10.0, None
    clips = (Clip(0, 10),)

    def __init__(self, dtype=np.uint8, *, images=True):
        self.dtype = dtype
        self.images = images

    @property
    def frame_shape(self):
        return (40, 60)

    def frames(self, clips=None) -> Iterator[RecordedFrame]:
        for index in range(10):
            places = np.array([[[5 + 12 * i, 8 + index], [8 + 12 * i, 25]] for i in range(4)], float)
            image = np.zeros((40, 60), self.dtype)
            for x, y in places.reshape(-1, 2).astype(int):
                image[y, x] = np.iinfo(self.dtype).max
            places[0, 1] = np.nan
            boxes = np.concatenate([places[:, 0] - 2, places[:, 0] + 2], axis=1).astype(np.float32)
            detections = Detections(
                boxes=boxes, keypoints=places, scores=np.arange(4) / 4, gt_ids=np.arange(4), masks=None
            )
            yield RecordedFrame(index, self.time_ns(index), image if self.images else None, detections)


def play(recording=None, **keys):
    return list(AugmentedRecording(recording or Squares(), TestDataset(**keys)).frames())


def test_the_same_seed_gives_the_same_stream():
    keys = {
        "augmentations": {
            "Rotate": {"limit": 45, "p": 0.7},
            "MotionBlur": {"blur_limit": [3, 7], "p": 0.5},
            "NodeDropout": {"p": 0.5, "n": 1},
            "InstanceDropout": {"p": 0.5, "n": 2},
        },
        "mode": "train",
    }
    first, second, other = play(seed=5, **keys), play(seed=5, **keys), play(seed=6, **keys)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.detections.keypoints, b.detections.keypoints)
        np.testing.assert_array_equal(a.detections.gt_ids, b.detections.gt_ids)
    assert any(not np.array_equal(a.image, b.image) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_image_keypoints_and_boxes_move_together(dtype):
    for frame in play(Squares(dtype), augmentations={"HorizontalFlip": {"p": 1.0}}):
        points = frame.detections.keypoints
        visible = np.isfinite(points).all(axis=-1)
        assert frame.image.dtype == dtype
        assert visible.sum() == 7  # the hidden node is still hidden
        for x, y in points[visible]:
            assert frame.image[round(y), round(x)] == np.iinfo(dtype).max
        middle = (frame.detections.boxes[:, :2] + frame.detections.boxes[:, 2:]) / 2
        np.testing.assert_allclose(middle, points[:, 0])


def test_poses_without_images_are_transformed_too():
    (first, *_) = play(Squares(images=False), augmentations={"VerticalFlip": {"p": 1.0}})
    assert first.image is None
    np.testing.assert_allclose(first.detections.keypoints[0, 0], [5, 39 - 8])


def test_instances_that_leave_the_image_keep_their_rows():
    for frame in play(augmentations={"Affine": {"translate_px": {"x": [50, 50], "y": [0, 0]}, "p": 1.0}}):
        assert len(frame.detections) == len(frame.detections.keypoints) == 4


def test_node_dropout_hides_at_most_n_nodes_of_an_instance():
    for n, expected in ((1, 1), (2, 2), (None, 2)):
        arguments = {"p": 1.0} if n is None else {"p": 1.0, "n": n}
        for frame in play(augmentations={"NodeDropout": arguments}):
            hidden = np.isnan(frame.detections.keypoints).all(axis=-1).sum(axis=1)
            assert hidden.tolist() == [min(1 + expected, 2), expected, expected, expected]


def test_instance_dropout_drops_at_most_n_rows_from_all_arrays_alike():
    for frame in play(augmentations={"InstanceDropout": {"p": 1.0, "n": 1}}):
        kept = frame.detections.gt_ids
        assert len(kept) == 3
        np.testing.assert_array_equal(frame.detections.scores, kept / 4)
        np.testing.assert_array_equal(frame.detections.keypoints[:, 0, 0], 5 + 12 * kept)


def test_dropout_draws_with_its_probability():
    generator = np.random.default_rng(0)
    dropped = np.mean([Dropout(0.3).chosen(10, generator) for _ in range(500)])
    assert abs(dropped - 0.3) < 0.03


def test_only_training_shuffles_the_instances_of_a_frame():
    augmentations = {"NodeDropout": {"p": 0.0}}
    for mode in ("val", "test"):
        frames = play(mode=mode, augmentations=augmentations)
        assert all(frame.detections.gt_ids.tolist() == [0, 1, 2, 3] for frame in frames)
    orders = {tuple(frame.detections.gt_ids.tolist()) for frame in play(mode="train", seed=1)}
    assert len(orders) > 3
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)


@pytest.mark.parametrize(
    ("augmentations", "message"),
    [
        ({"Rotat": {}}, "did you mean 'Rotate'"),
        ({"NodeDropot": {}}, "did you mean 'NodeDropout'"),
        ({"Rotate": {"limit": "far"}}, "Rotate: arguments do not fit"),
        ({"Rotate": {"limit": "far"}}, "limit should be a list of numbers; got 'far'"),
        ({"Rotate": {"limits": 4}}, "Rotate.limits: unknown key; did you mean 'limit'?"),
        ({"NodeDropout": {"p": 2}}, "NodeDropout.p must be a probability"),
        ({"InstanceDropout": {"n": -1}}, "InstanceDropout.n must be a whole number"),
        ({"InstanceDropout": {"prob": 1}}, "InstanceDropout.prob: unknown key"),
    ],
)
def test_an_invalid_augmentation_is_an_error_when_the_recording_is_opened(augmentations, message):
    with pytest.raises(ConfigError) as raised:
        AugmentedRecording(Squares(), TestDataset(augmentations=augmentations))
    assert message in str(raised.value)


def test_an_augmentation_that_changes_the_frames_size_is_an_error():
    with pytest.raises(RecordingError, match="must keep the frame's size"):
        play(augmentations={"CenterCrop": {"height": 20, "width": 20, "p": 1.0}})


def test_masks_follow_their_instances():
    masks = np.zeros((40, 60), np.int32)
    masks[5:9, 0:10] = 1
    masks[20:30, 20:30] = 2
    detections = Detections(boxes=np.array([[0, 5, 10, 9], [20, 20, 30, 30]], np.float32), masks=masks)

    class Masked(Squares):
        def frames(self, clips=None):
            yield RecordedFrame(0, 0, np.zeros((40, 60), np.uint8), detections)

    (frame,) = play(
        Masked(), augmentations={"HorizontalFlip": {"p": 1.0}, "InstanceDropout": {"p": 1.0, "n": 1}}, seed=0
    )
    ((x1, y1, x2, y2),) = frame.detections.boxes.round().astype(int)
    assert set(np.unique(frame.detections.masks)) == {0, 1}
    assert (frame.detections.masks[y1 : y2 - 1, x1 + 2 : x2 - 1] == 1).all()
