"""Blobs that hold several animals which touch or cross, divided where the number of animals is known.

Each animal's place, velocity and shape are remembered. In a blob of k animals a mixture of k Gaussians is fitted to its
pixels, with the animals' expected places and shapes as the prior: so that they pass through each other.

Letters: a animals, n blobs, k animals in one blob, p of its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trackd_client.detectors.blobs import Blobs, Floats, Pixels, measured, only

MOST_PIXELS = 1500  # of a blob, to which the Gaussians are fitted
ROUNDS = 8  # of expectation and maximization
OVERLAP = 0.6  # of k animals' area, that a blob of k animals has at least
LEARN = 0.05  # of a frame in the typical area and in an animal's shape
VELOCITY = 0.4  # of a frame in an animal's velocity
VELOCITY_TOGETHER = 0.05  # the same in a blob of several, whose places are less certain: animals go on as before
PLACE_PRIOR, SHAPE_PRIOR = 1.0, 1.5  # weights of what is expected, in animals' areas


@dataclass(slots=True, eq=False)
class Known:
    """The animals as they were last seen."""

    centres: Floats  # (a, 2)
    velocities: Floats  # (a, 2) pixels per image
    covariances: Floats  # (a, 2, 2)
    sizes: Floats  # (a,) square root of the determinant of the covariance, while apart


class Splitter:
    """Divides the blobs of one stream of images.

    Args:
        animals: the number of animals in view.
    """

    def __init__(self, animals: int) -> None:
        self._animals = animals
        self._area = 0.0  # of one animal, as seen while all were apart; 0: not known yet
        self._known: Known | None = None

    def split(self, pixels: Pixels) -> Blobs:
        """Return the blobs, at most one for each animal; a region of k animals is k blobs."""
        blobs = measured(pixels)
        if len(blobs) > self._animals:
            wanted = np.zeros(len(blobs), bool)
            wanted[np.argsort(-blobs.areas, kind="stable")[: self._animals]] = True
            pixels = only(pixels, wanted)
            blobs = measured(pixels)
        if len(blobs) == self._animals:
            self._learn(blobs)
        if self._known is None or not len(blobs):
            return blobs
        counts = shares(blobs.areas, self._area, self._animals)
        expected = self._known.centres + self._known.velocities
        places = _placed(expected, pixels, blobs, counts)
        return self._divided(pixels, blobs, expected, places)

    def _learn(self, blobs: Blobs) -> None:
        area = float(np.median(blobs.areas))
        self._area = area if not self._area else (1 - LEARN) * self._area + LEARN * area
        if self._known is None:
            self._known = Known(
                blobs.centroids.copy(), np.zeros_like(blobs.centroids), blobs.covariances.copy(), _sizes(blobs)
            )

    def _divided(self, pixels: Pixels, blobs: Blobs, expected: Floats, places: NDArray[np.int64]) -> Blobs:
        """Divide the blobs by the animals in each, and remember where these are now."""
        known = self._known
        assert known is not None
        kept = np.bincount(places[places >= 0], minlength=len(blobs)) <= 1
        centres, covariances, areas = [blobs.centroids[kept]], [blobs.covariances[kept]], [blobs.areas[kept]]
        seen = places >= 0
        strayed = np.zeros(len(expected), bool)
        now = known.centres.copy()
        alone = seen & kept[places]
        now[alone], known.covariances[alone] = blobs.centroids[places[alone]], blobs.covariances[places[alone]]
        known.sizes[alone] += LEARN * (_sizes(blobs)[places[alone]] - known.sizes[alone])
        for row in np.flatnonzero(~kept):
            inside = np.flatnonzero(places == row)
            points = pixels.points[pixels.rows == row]
            starts, outside = _drawn_in(expected[inside], points, np.sqrt(self._area) / 2)
            fitted = fit(points, starts, known.covariances[inside], known.sizes[inside], self._area)
            now[inside], known.covariances[inside] = fitted
            strayed[inside] = outside
            centres.append(fitted[0])
            covariances.append(fitted[1])
            areas.append(np.full(len(inside), blobs.areas[row] / len(inside)))
        gain = np.where(alone, VELOCITY, VELOCITY_TOGETHER)[:, None]
        known.velocities[seen] += (gain * (now - known.centres - known.velocities))[seen]
        known.velocities[~seen] *= 0.8
        known.velocities[strayed] = 0.0  # it has led out of the blob, where no pixel would ever correct it
        known.centres = now
        if kept.all():
            return blobs
        return _ellipses(np.concatenate(areas), np.concatenate(centres), np.concatenate(covariances))


def shares(areas: Floats, typical: float, animals: int) -> NDArray[np.int64]:
    """Return how many animals each blob holds, of `animals` in total; a blob of k has k animals' area, or nearly.

    Args:
        areas: (n,) of the blobs, n ≤ `animals`.
        typical: the area of one animal.
        animals: their number; some may be out of view.
    """
    counts = np.ones(len(areas), np.int64)
    for _ in range(animals - len(areas)):
        fullness = areas / ((counts + 1) * typical)
        largest = int(np.argmax(fullness))
        if fullness[largest] < OVERLAP:
            break
        counts[largest] += 1
    return counts


def _placed(expected: Floats, pixels: Pixels, blobs: Blobs, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The blob (a,) of each animal, −1 for none: the nearest to its expected place that is not full."""
    distances = np.empty((len(expected), len(blobs)))  # to the nearest pixel
    for row in range(len(blobs)):
        points = pixels.points[pixels.rows == row]
        sample = points[:: -(-len(points) // 128)]
        distances[:, row] = np.linalg.norm(expected[:, None] - sample[None], axis=2).min(axis=1)
    to_centres = np.linalg.norm(expected[:, None] - blobs.centroids[None], axis=2)
    costs = distances + 0.1 * to_centres
    places = np.full(len(expected), -1, np.int64)
    left = counts.copy()
    for pair in np.argsort(costs, axis=None, kind="stable"):
        animal, row = divmod(int(pair), len(blobs))
        if places[animal] < 0 and left[row] > 0:
            places[animal] = row
            left[row] -= 1
    # One that covers another has hardly a larger area; the covered one is where it was expected.
    for unplaced in np.flatnonzero(places < 0):
        row = int(np.argmin(costs[unplaced]))
        if to_centres[unplaced, row] <= blobs.half_lengths[row]:
            places[unplaced] = row
    return places


def _drawn_in(expected: Floats, points: Floats, reach: float) -> tuple[Floats, NDArray[np.bool_]]:
    """Move expected places that are far outside a blob to its nearest pixel.

    Args:
        expected: (k, 2).
        points: (p, 2) the pixels of the blob.
        reach: the distance from which on a place is far outside, pixels.

    Returns:
        The places (k, 2), and which of them (k,) were moved.
    """
    points = points[:: -(-len(points) // MOST_PIXELS)]
    distances = np.linalg.norm(expected[:, None] - points[None], axis=2)  # (k, p)
    moved = distances.min(axis=1) > reach
    return np.where(moved[:, None], points[distances.argmin(axis=1)], expected), moved


def fit(points: Floats, centres: Floats, covariances: Floats, sizes: Floats, area: float) -> tuple[Floats, Floats]:
    """Return the centres (k, 2) and covariances (k, 2, 2) of k Gaussians that explain the pixels of a blob.

    Args:
        points: (p, 2).
        centres: (k, 2) that are expected.
        covariances: (k, 2, 2) that are expected.
        sizes: (k,) the square roots of the determinants that the covariances have at the end.
        area: of one animal, pixels: the weight of what is expected is a multiple of it.
    """
    stride = -(-len(points) // MOST_PIXELS)
    sample = points[::stride]
    place_weight, shape_weight = PLACE_PRIOR * area / stride, SHAPE_PRIOR * area / stride
    expected, shapes = centres, covariances
    for _ in range(ROUNDS):
        logs = _logs(sample, centres, covariances)
        weights = np.exp(logs - logs.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)  # (p, k)
        total = weights.sum(axis=0)[:, None]
        centres = (weights.T @ sample + place_weight * expected) / (total + place_weight)
        offsets = sample[:, None] - centres[None]  # (p, k, 2)
        scatter = np.einsum("pk,pki,pkj->kij", weights, offsets, offsets)
        covariances = (scatter + shape_weight * shapes) / (total + shape_weight)[..., None]
        covariances *= (sizes / np.sqrt(np.linalg.det(covariances)))[:, None, None]
    return centres, covariances


def _logs(points: Floats, centres: Floats, covariances: Floats) -> Floats:
    """The log densities (p, k), up to a constant."""
    offsets = points[:, None] - centres[None]
    distances = np.einsum("pki,kij,pkj->pk", offsets, np.linalg.inv(covariances), offsets)
    return np.asarray(-0.5 * (distances + np.log(np.linalg.det(covariances))[None]))


def _ellipses(areas: Floats, centres: Floats, covariances: Floats) -> Blobs:
    """Uniform ellipses with these second moments, as blobs."""
    xx, yy, xy = covariances[:, 0, 0], covariances[:, 1, 1], covariances[:, 0, 1]
    angle = np.arctan2(2 * xy, xx - yy) / 2
    reach = 2 * np.sqrt(np.column_stack([xx, yy]))
    longest = (xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)
    return Blobs(
        areas,
        np.concatenate([centres - reach, centres + reach], axis=1),
        centres,
        covariances,
        np.column_stack([np.cos(angle), np.sin(angle)]),
        2 * np.sqrt(longest),
    )


def _sizes(blobs: Blobs) -> Floats:
    return np.asarray(np.sqrt(np.linalg.det(blobs.covariances)))
