"""Augmentations: random changes to a recording's frames. Equal seeds give equal changes.

Letters: n instances of a frame, k nodes, h × w the frame.
"""

from __future__ import annotations

import inspect
import logging
import os
import secrets
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from trackd_client.configuration import ConfigError, nearest
from trackd_client.detections import Detections, FloatArray, Image
from trackd_client.excerpt import yaml_excerpt
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import Clip, DerivedRecording, RecordedFrame, Recording, RecordingError
from trackd_client.recordings.transforms.rows import take_rows

logger = logging.getLogger(__name__)

WHERE = "dataset.test_dataset.augmentations"
OWN = ("NodeDropout", "InstanceDropout")


@dataclass(frozen=True, slots=True)
class Dropout:
    """Each item is dropped with probability `p`, at most `n` of them; null: no limit."""

    p: float = 0.0
    n: int | None = None

    def chosen(self, n_items: int, generator: np.random.Generator) -> NDArray[np.bool_]:
        """Whether each of `n_items` is dropped (n_items,)."""
        dropped = generator.random(n_items) < self.p
        if self.n is not None and dropped.sum() > self.n:
            kept_back = generator.permutation(np.flatnonzero(dropped))[self.n :]
            dropped[kept_back] = False
        return dropped


@dataclass(frozen=True, slots=True)
class Augmentations:
    """A dataset's augmentations, ready to run."""

    compose: Any | None  # albumentations' pipeline
    nodes: Dropout
    instances: Dropout
    shuffle_instances: bool
    entropy: int  # the seed, or a random number if there is none
    remarks: tuple[str, ...] = ()  # of albumentations, about the arguments

    def apply(self, frame: RecordedFrame, frame_shape: tuple[int, ...] | None) -> RecordedFrame:
        """The changed frame: first the image with its coordinates, then the dropouts, then the order of instances."""
        image, detections = frame.image, frame.detections
        generator = np.random.default_rng([self.entropy, frame.frame_index])
        if self.compose is not None:
            self.compose.set_random_seed(int(generator.integers(2**31)))
        if self.compose is not None and (image is not None or frame_shape is not None):
            # Poses without an image are transformed over an empty image.
            canvas = image if image is not None else np.zeros(frame_shape or (), np.uint8)
            changed, detections = _transformed(self.compose, canvas, detections)
            image = changed if image is not None else None
        detections = self._without_nodes(detections, generator)
        dropped = self.instances.chosen(len(detections), generator)
        order = np.flatnonzero(~dropped)
        if self.shuffle_instances:
            order = generator.permutation(order)
        if self.shuffle_instances or dropped.any():
            detections = take_rows(detections, order)
        return replace(frame, image=image, detections=detections)

    def _without_nodes(self, detections: Detections, generator: np.random.Generator) -> Detections:
        if detections.keypoints is None or self.nodes.p == 0:
            return detections
        keypoints = detections.keypoints.copy()
        for instance in keypoints:  # (k, 2)
            visible = np.flatnonzero(np.isfinite(instance).all(axis=1))
            instance[visible[self.nodes.chosen(len(visible), generator)]] = np.nan
        return replace(detections, keypoints=keypoints)


class AugmentedRecording(DerivedRecording):
    """Another recording's frames with `dataset.augmentations`. In `train` mode their instances are shuffled.

    The changes of a frame depend only on the seed and the frame's index. Equal seeds give equal streams, in any order
    of reading and with any number of processes.

    Raises:
        ConfigError: an augmentation does not exist, or does not accept its arguments.
    """

    def __init__(self, recording: Recording, dataset: TestDataset) -> None:
        super().__init__(recording)
        self._dataset = dataset
        build(dataset)

    def frames(self, clips: Iterable[Clip] | None = None) -> Iterator[RecordedFrame]:
        """Every frame of the clips, changed.

        Raises:
            RecordingError: an augmentation changes the size of the image.
        """
        augmentations = build(self._dataset)
        shape = self.frame_shape
        for frame in self._recording.frames(clips):
            changed = augmentations.apply(frame, shape)
            before, after = frame.image, changed.image
            if before is not None and after is not None and before.shape != after.shape:
                raise RecordingError(
                    f"{self.name}: augmentations must keep the frame's size; "
                    f"{before.shape} became {after.shape}: leave out crops and resizing"
                )
            yield changed


def warn_about(dataset: TestDataset) -> None:
    """Log, once for all recordings, what a user should know about the augmentations of a dataset.

    That they change the tracked frames although `mode` is not `train`, and which arguments albumentations changes.
    """
    for text in dict.fromkeys(build(dataset).remarks):
        logger.warning(text)
    if dataset.augmentations and dataset.mode != "train":
        names = ", ".join(dataset.augmentations)
        logger.warning("augmentations change the frames that are tracked mode=%s names=%s", dataset.mode, names)


def build(dataset: TestDataset) -> Augmentations:
    """The augmentations of a dataset.

    Raises:
        ConfigError: an augmentation does not exist, or does not accept its arguments.
    """
    own = {name: _dropout(name, dataset.augmentations.get(name, {})) for name in OWN}
    others = {name: arguments for name, arguments in dataset.augmentations.items() if name not in OWN}
    compose, remarks = _compose(others) if others else (None, ())
    return Augmentations(
        compose=compose,
        nodes=own["NodeDropout"],
        instances=own["InstanceDropout"],
        shuffle_instances=dataset.mode == "train",
        entropy=dataset.seed if dataset.seed is not None else secrets.randbits(64),
        remarks=remarks,
    )


def _dropout(name: str, arguments: dict[str, Any]) -> Dropout:
    p, n = arguments.get("p", 0.0), arguments.get("n")
    if unknown := sorted(arguments.keys() - {"p", "n"}):
        raise ConfigError(f"{WHERE}.{name}.{unknown[0]}: unknown key; known: n, p")
    if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
        raise ConfigError(f"{WHERE}.{name}.p must be a probability, 0 to 1; got {p!r}")
    if n is not None and (isinstance(n, bool) or not isinstance(n, int) or n < 0):
        raise ConfigError(f"{WHERE}.{name}.n must be a whole number ≥ 0; got {n!r}")
    return Dropout(float(p), n)


def _compose(wanted: dict[str, dict[str, Any]]) -> tuple[Any, tuple[str, ...]]:
    # Otherwise albumentations queries a server for its newest version at import.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    known = {
        name
        for name, value in vars(albumentations).items()
        if isinstance(value, type) and issubclass(value, albumentations.BasicTransform)
    }
    transforms = []
    remarks = []
    for name, arguments in wanted.items():
        if name not in known:
            raise ConfigError(f"{WHERE}.{name}: no such augmentation; {nearest(name, [*known, *OWN])}")
        accepted = [key for key in inspect.signature(getattr(albumentations, name)).parameters if key != "self"]
        for key in arguments:  # albumentations would ignore it
            if key not in accepted:
                raise ConfigError(f"{WHERE}.{name}.{key}: unknown key; {nearest(str(key), accepted)}")
        pairs = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                transforms.append(getattr(albumentations, name)(**pairs))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{WHERE}.{name}: arguments do not fit: {_reason(error)}") from None
        remarks += [f"{WHERE}.{name}: {warning.message}" for warning in caught]
    points = albumentations.KeypointParams(format="xy", remove_invisible=False)
    with warnings.catch_warnings():  # transforms of images alone leave the key points as they are, which is right
        warnings.filterwarnings("ignore", message="Got processor for keypoints")
        return albumentations.Compose(transforms, keypoint_params=points), tuple(remarks)


def _reason(error: Exception) -> str:
    """The reason of albumentations: of a report of several lines by pydantic, the argument and what it should be."""
    cause = error.__cause__ or error.__context__
    if not isinstance(cause, ValidationError):
        return " ".join(str(error).split())
    detail = cause.errors(include_url=False)[0]
    message = (
        detail["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("valid tuple", "list of numbers")
    )
    return f"{detail['loc'][0] if detail['loc'] else ''} {message}; got {yaml_excerpt(detail['input'])}".strip()


def _transformed(compose: Callable[..., Any], image: Image, detections: Detections) -> tuple[Image, Detections]:
    """The image and the detections, transformed in the same way.

    The four corners of a box are transformed, and the new box encloses them. albumentations' own boxes are clipped or
    removed at the image's border, but every row must be kept.
    """
    n = len(detections)
    corners = np.empty((0, 2)) if detections.boxes is None else detections.boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]]
    keypoints = np.empty((0, 2)) if detections.keypoints is None else detections.keypoints
    points = np.concatenate([keypoints.reshape(-1, 2), corners.reshape(-1, 2)]).astype(np.float64)
    finite = np.isfinite(points).all(axis=1)
    # albumentations accepts only eight bits or floats.
    wide = image.dtype == np.uint16
    masks = {} if detections.masks is None else {"mask": detections.masks.astype(np.uint16)}
    result = compose(image=(image / np.float32(65535)) if wide else image, keypoints=points[finite].tolist(), **masks)
    changed = np.asarray(result["image"])
    if wide:
        changed = np.rint(np.clip(changed, 0, 1) * 65535).astype(np.uint16)
    points[finite] = np.asarray(result["keypoints"], np.float64).reshape(-1, 2)
    n_keypoints = keypoints.size // 2
    return changed, replace(
        detections,
        keypoints=None if detections.keypoints is None else points[:n_keypoints].reshape(keypoints.shape),
        boxes=None if detections.boxes is None else _enclosing(points[n_keypoints:].reshape(n, 4, 2)),
        masks=None if detections.masks is None else result["mask"].astype(detections.masks.dtype),
    )


def _enclosing(corners: FloatArray) -> NDArray[np.float32]:
    """The boxes (n, 4) that enclose corners (n, 4, 2)."""
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)
