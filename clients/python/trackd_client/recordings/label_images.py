"""Label images, which hold an instance's label in each pixel, and the detections in them.

Letters: n instances, h × w the image, L the highest label.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Detections


def detections_of(labels: NDArray[np.integer[Any]]) -> Detections:
    """Each label except 0 as an instance, in the order of the labels.

    Args:
        labels: (h, w).

    Returns:
        Boxes that enclose the pixels (the far edges included), the centre of mass as the one key point, the label
        as gt id, and the image renumbered: instance i is i + 1.
    """
    from scipy import ndimage  # installed by the recordings extra only

    ids = np.flatnonzero(np.bincount(labels.ravel()))  # np.unique sorts, which takes ten times as long
    ids = ids[ids > 0].astype(np.int64)
    number = np.zeros(int(labels.max(initial=0)) + 1, np.uint16 if len(ids) < 65536 else np.int32)  # (L + 1,)
    number[ids] = np.arange(1, len(ids) + 1)
    masks = number[labels]
    # Boxes from slices: one pass over the image for each label would take h · w · n steps.
    places = ndimage.find_objects(masks)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in places]
    return Detections(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        keypoints=_centres(masks, len(ids))[:, None],
        masks=masks,
        gt_ids=ids,
    )


def _centres(masks: NDArray[np.integer[Any]], n: int) -> NDArray[np.float64]:
    """Mean x, y of each instance's pixels (n, 2)."""
    y, x = np.nonzero(masks)
    label = masks[y, x]
    size = np.bincount(label, minlength=n + 1)[1:]
    return np.stack([np.bincount(label, axis, n + 1)[1:] / size for axis in (x, y)], axis=1)


def shaped(markers: NDArray[np.integer[Any]], shapes: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The labels of `markers` with the shapes of another segmentation, whose own labels are not used.

    Each marker is assigned the shape that it overlaps most. If several markers select one shape, the marker with the
    largest overlap gets it. The other markers, and those without a shape, keep their own pixels. Shapes that no
    marker overlaps are left out.

    Args:
        markers: (h, w) 0 or an identity.
        shapes: (h, w) 0 or a number of this frame only.
    """
    both = (markers > 0) & (shapes > 0)
    n_shapes = int(shapes.max(initial=0)) + 1
    pairs, counts = np.unique(markers[both].astype(np.int64) * n_shapes + shapes[both], return_counts=True)
    shape_of: dict[int, int] = {}
    tried: set[int] = set()
    # The largest overlap first; among equal ones the lower label first.
    for i in np.argsort(-counts, kind="stable"):
        marker, shape = divmod(int(pairs[i]), n_shapes)
        if marker not in tried:
            tried.add(marker)
            if shape not in shape_of:
                shape_of[shape] = marker
    table = np.zeros(n_shapes, markers.dtype)
    for shape, marker in shape_of.items():
        table[shape] = marker
    result = table[shapes]
    keep = (markers > 0) & ~np.isin(markers, list(shape_of.values()))
    result[keep] = markers[keep]
    return np.asarray(result)
