"""Blobs as detections: boxes with their centroids, or with the two ends of their long axis.

Letters: n blobs.
"""

from __future__ import annotations

import numpy as np

from trackd_client.detections import Detections, Skeleton
from trackd_client.detectors.blobs import Blobs, Floats
from trackd_client.detectors.detector import choice

CENTROID = Skeleton(("centroid",))
AXIS = Skeleton(("head", "tail"), ((0, 1),))
KEPT = 0.95  # of the evidence of earlier images for which end is the head


class Heads:
    """Which end of each animal is its head: the one that it moves towards.

    A shape alone does not tell. So the direction of the image before is kept, and turned when an animal has moved
    backwards by more than it has moved forwards.
    """

    def __init__(self) -> None:
        self._centroids: Floats = np.empty((0, 2))
        self._directions: Floats = np.empty((0, 2))
        self._evidence: Floats = np.empty(0)  # pixels moved towards the head

    def directions(self, blobs: Blobs) -> Floats:
        """Return unit vectors (n, 2) from tail to head."""
        directions, evidence = blobs.axes.copy(), np.zeros(len(blobs))
        if len(blobs) and len(self._centroids):
            distances = np.linalg.norm(blobs.centroids[:, None] - self._centroids[None], axis=2)
            nearest = distances.argmin(axis=1)
            known = distances[np.arange(len(blobs)), nearest] <= 2 * blobs.half_lengths
            before = self._directions[nearest]
            turned = (directions * before).sum(axis=1) < 0
            directions[turned & known] *= -1
            moved = ((blobs.centroids - self._centroids[nearest]) * directions).sum(axis=1)
            evidence = np.where(known, KEPT * self._evidence[nearest] + moved, 0.0)
            wrong = evidence < 0
            directions[wrong] *= -1
            evidence = np.abs(evidence)
        self._centroids, self._directions, self._evidence = blobs.centroids, directions, evidence
        return directions


class Outline:
    """Makes the detections of one stream of images.

    Args:
        keypoints: `centroid`, `axis` or `none`.
    """

    def __init__(self, keypoints: str) -> None:
        self._keypoints = choice("keypoints", keypoints, "centroid", "axis", "none")
        self._heads = Heads()

    @property
    def skeleton(self) -> Skeleton | None:
        """The nodes of the keypoints."""
        return {"centroid": CENTROID, "axis": AXIS}.get(self._keypoints)

    def detections(self, blobs: Blobs) -> Detections:
        """Return the blobs as detections."""
        boxes = blobs.boxes.astype(np.float32)
        if self._keypoints == "none":
            return Detections(boxes=boxes)
        if self._keypoints == "centroid":
            return Detections(boxes=boxes, keypoints=blobs.centroids[:, None].astype(np.float32))
        reach = self._heads.directions(blobs) * blobs.half_lengths[:, None]
        ends = np.stack([blobs.centroids + reach, blobs.centroids - reach], axis=1)
        return Detections(boxes=boxes, keypoints=ends.astype(np.float32))
