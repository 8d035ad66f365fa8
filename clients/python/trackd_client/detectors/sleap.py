"""The detector `sleap`: a model that was trained with SLEAP, by the package sleap-nn.

Written for sleap-nn 0.3: `sleap_nn.inference.Predictor.from_model_paths`, and `predict` of its `layer`, which takes one
image as an array and returns `Outputs` (its guide "Inference API", section "Real-time / numpy inference").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from trackd_client.detections import Detections, Image, Skeleton
from trackd_client.detectors.detector import Detector, DetectorError, number
from trackd_client.detectors.poses import as_array, pose_detections


class SleapDetector(Detector):
    """Poses by sleap-nn.

    Args:
        models: the folder of a trained model; for a top-down model two: centroid and centered instance.
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        confidence: of a peak, 0 to 1.
        animals: the most instances in an image; None: no limit.
        predictor: a `Predictor` in place of `models`.
    """

    def __init__(
        self,
        *,
        models: str | Sequence[str] = (),
        device: str = "cpu",
        confidence: float = 0.2,
        animals: int | None = None,
        predictor: Any = None,
    ) -> None:
        threshold = number("confidence", confidence, 0, 1)
        if predictor is None:
            predictor = _load([models] if isinstance(models, str) else list(models), device, threshold, animals)
        self._layer = predictor.layer
        outline = getattr(predictor, "skeleton", None)
        if outline is not None:
            self.skeleton = Skeleton(
                tuple(str(node) for node in outline.node_names),
                tuple((int(first), int(second)) for first, second in outline.edge_inds),
            )

    def __call__(self, image: Image) -> Detections:
        """Return the poses of an image; of a model for centroids alone, points."""
        found = self._layer.predict(image if image.ndim == 3 else image[..., None])
        arrays = found.numpy()
        points, values = arrays.get("pred_keypoints"), arrays.get("pred_peak_values")
        scores = arrays.get("instance_scores")
        if points is None:
            points, values = arrays.get("pred_centroids"), arrays.get("pred_centroid_values")
            if points is None:
                return Detections.empty()
            points = as_array(points)[:, :, None]
            scores, values = values, None
            if self.skeleton is not None and len(self.skeleton.nodes) > 1:
                rest = np.full((*points.shape[:2], len(self.skeleton.nodes) - 1, 2), np.nan)
                points = np.concatenate([points, rest], axis=2)
        return pose_detections(
            as_array(points)[0],
            None if values is None else as_array(values)[0],
            None if scores is None else as_array(scores)[0],
        )


def _load(models: list[str], device: str, confidence: float, animals: int | None) -> Any:
    if not models:
        raise DetectorError("the detector sleap needs a model: --detector-option models=FOLDER, or models=[ONE,TWO]")
    try:
        from sleap_nn.inference import Predictor
    except ImportError as error:
        raise DetectorError(f"the detector sleap needs sleap-nn 0.3 or newer: pip install sleap-nn ({error})") from None
    try:
        return Predictor.from_model_paths(
            models, device=device, batch_size=1, peak_threshold=confidence, max_instances=animals
        )
    except (OSError, ValueError) as error:
        raise DetectorError(f"sleap-nn cannot load {', '.join(models)}: {error}") from None
