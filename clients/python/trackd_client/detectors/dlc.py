"""The detector `dlc`: a model that was exported from DeepLabCut, by the package deeplabcut-live.

Written for deeplabcut-live 1.1: `dlclive.DLCLive`, whose `init_inference` loads the model with the first image, and
whose `get_pose` returns (k, 3), or (n, k, 3) for several animals: x, y and likelihood of each node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trackd_client.detections import Detections, Image, Skeleton
from trackd_client.detectors.detector import Detector, DetectorError, number
from trackd_client.detectors.poses import as_array, pose_detections


class DlcDetector(Detector):
    """Poses by DeepLabCut-Live.

    Args:
        model: the exported model: a folder (TensorFlow) or a `.pt` file (PyTorch).
        model_type: as of `DLCLive`: `base`, `pytorch`, `tflite`, `tensorrt`.
        confidence: nodes of a lower likelihood are not visible, 0 to 1.
        nodes: the names of the nodes, if the model's configuration does not name them.
        resize: the factor by which images are made smaller.
        live: a `DLCLive` in place of `model`.
    """

    def __init__(
        self,
        *,
        model: str = "",
        model_type: str | None = None,
        confidence: float = 0.5,
        nodes: Sequence[str] | None = None,
        resize: float | None = None,
        live: Any = None,
    ) -> None:
        self._confidence = number("confidence", confidence, 0, 1)
        self._live = live if live is not None else _load(model, model_type, resize)
        self._started = False
        names = list(nodes) if nodes is not None else node_names(getattr(self._live, "cfg", None))
        self.skeleton = Skeleton(tuple(str(name) for name in names)) if names else None

    def __call__(self, image: Image) -> Detections:
        """Return the poses of an image. The first call loads the network, which takes seconds."""
        # DLCLive takes images in the channel order of OpenCV.
        colour = np.stack([image] * 3, axis=2) if image.ndim == 2 else image[..., :3]
        frame = np.ascontiguousarray(colour[..., ::-1])
        pose = (self._live.get_pose if self._started else self._live.init_inference)(frame)
        self._started = True
        return detections_of(pose, self._confidence)


def detections_of(pose: Any, confidence: float = 0.0) -> Detections:
    """Return a pose of DeepLabCut-Live as detections.

    Args:
        pose: (k, 3) or (n, k, 3): x, y, likelihood.
        confidence: nodes of a lower likelihood are not visible.
    """
    given = poses = as_array(pose)
    if poses.ndim == 2:
        poses = poses[None]
    if poses.ndim != 3 or poses.shape[2] < 3:
        raise DetectorError(f"a pose of DeepLabCut-Live is (k, 3) or (n, k, 3); got {given.shape}")
    likelihoods = np.clip(np.nan_to_num(poses[..., 2]), 0, 1)
    return pose_detections(poses[..., :2], likelihoods, likelihoods.mean(axis=1), confidence)


def node_names(configuration: Any) -> list[str]:
    """Return the names of the nodes in a configuration of DeepLabCut, of TensorFlow or of PyTorch; [] for none."""
    if not isinstance(configuration, Mapping):
        return []
    names = configuration.get("all_joints_names")
    if names is None and isinstance(metadata := configuration.get("metadata"), Mapping):
        names = metadata.get("bodyparts")
    return [str(name) for name in names or ()]


def _load(model: str, model_type: str | None, resize: float | None) -> Any:
    if not model:
        raise DetectorError("the detector dlc needs a model: --detector-option model=FOLDER_OR_FILE")
    try:
        from dlclive import DLCLive
    except ImportError as error:
        raise DetectorError(
            f"the detector dlc needs deeplabcut-live: pip install 'deeplabcut-live[pytorch]' ({error})"
        ) from None
    given = {"model_type": model_type, "resize": resize}
    try:
        return DLCLive(model, **{name: value for name, value in given.items() if value is not None})
    except (OSError, ValueError) as error:
        raise DetectorError(f"DeepLabCut-Live cannot load {model}: {error}") from None
