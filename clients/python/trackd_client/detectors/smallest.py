"""The smallest region that is an animal, learnt from images in which all animals are seen apart."""

from __future__ import annotations

import numpy as np

from trackd_client.detectors.blobs import Floats

SHARE = 1 / 5000  # of the image's area, before it is learnt
FLOOR = 100.0  # pixels: what is smaller may be noise
IMAGES = 15  # with as many regions as animals, from which it is learnt
ALIKE = 0.25  # of the largest animal's area: the smallest one, and the smallest region of the median animal


class SmallestArea:
    """A share of the image suits arenas that the animals fill; in a large one animals are smaller than that.

    Args:
        animals: the number of animals in view; None: not known, so that nothing is learnt.
    """

    def __init__(self, animals: int | None) -> None:
        self._animals = animals
        self._medians: list[float] = []
        self._learnt: float | None = None

    def of(self, image_size: int) -> float:
        """Return the smallest area in pixels for an image of so many pixels."""
        usual = image_size * SHARE
        return usual if self._learnt is None else min(usual, self._learnt)

    def learns(self, image_size: int) -> bool:
        """Whether regions smaller than `of` are of use for `learn`."""
        return self._animals is not None and self._learnt is None and image_size * SHARE > FLOOR

    def learn(self, areas: Floats) -> None:
        """Note the areas of all regions of an image of at least `FLOOR` pixels."""
        assert self._animals is not None
        largest = np.sort(areas)[::-1][: self._animals]
        if len(largest) == self._animals and largest[-1] >= ALIKE * largest[0]:
            self._medians.append(float(np.median(largest)))
            if len(self._medians) == IMAGES:
                self._learnt = max(FLOOR, ALIKE * float(np.median(self._medians)))
