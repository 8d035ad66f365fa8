"""Label images in the journal: as runs of equal pixels, which take a small part of the bytes.

Letters: h × w the image, r runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trackd_client.detections import IntArray


def pack_labels(labels: IntArray) -> dict[str, Any]:
    """A label image (h, w) as the starts (r,) and labels (r,) of its runs; as its pixels where that is less."""
    flat = labels.ravel()
    starts = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    if len(starts) * (4 + flat.itemsize) >= flat.nbytes:
        return {"pixels": labels}
    starts = np.concatenate([[0], starts]).astype(np.uint32)
    return {"starts": starts, "labels": flat[starts], "shape": list(labels.shape)}


def unpack_labels(packed: Mapping[str, Any]) -> IntArray:
    """The label image that `pack_labels` was given."""
    if "pixels" in packed:
        pixels: IntArray = packed["pixels"]
        return pixels
    height, width = packed["shape"]
    lengths = np.diff(packed["starts"].astype(np.int64), append=height * width)
    return np.repeat(packed["labels"], lengths).reshape(height, width)
