"""The visual encoder without weights: shape and brightness of a crop from its image moments.

Letters: n crops, h x w pixels; p and q are powers of the row and column offset.
Formulas: scikit-image's `inertia_tensor` and `moments_hu` (Hu 1962), as DREEM's `DescriptorVisualEncoder` calls them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DescriptorEncoder(nn.Module):
    """Crops to 5 numbers (inertia tensor and mean intensity), or 12 with the 7 Hu moments. Holds no parameters."""

    def __init__(self, use_hu_moments: bool) -> None:
        super().__init__()
        self.use_hu_moments = use_hu_moments

    def forward(self, crops: Tensor, n_lone: int = 0) -> Tensor:
        """Crops (n, C, h, w) float, of which channel 0 is used -> (n, 5 or 12) float32; `n_lone` has no effect.

        A crop that is zero everywhere has no shape: it gives zeros.
        """
        image = crops[:, 0]  # (n, h, w)
        mu = central_moments(image, order=3 if self.use_hu_moments else 2)  # (n, p, q)
        m00 = mu[:, 0, 0]
        mass = torch.where(m00 == 0, 1.0, m00)
        cross = -mu[:, 1, 1] / mass
        parts = [mu[:, 0, 2] / mass, cross, cross, mu[:, 2, 0] / mass, m00 / (image.shape[1] * image.shape[2])]
        if self.use_hu_moments:
            parts += hu_moments(mu / mass[:, None, None], mass)
        features = torch.stack(parts, dim=1).float()
        return torch.where((m00 == 0)[:, None], 0.0, features)


def central_moments(image: Tensor, order: int) -> Tensor:
    """Moments about the centroid, sum over pixels of (r - r0)^p (c - c0)^q image[r, c].

    They are summed about the middle of the crop, where the powers are small, and then shifted to the centroid:
    two matrix products over all crops instead of a loop.

    Args:
        image: (n, h, w); the centroid of a crop of zeros is its middle.
        order: highest power P of each offset.

    Returns:
        (n, P + 1, P + 1), indexed [p, q], double if the device supports it.
    """
    dtype = torch.float32 if image.device.type == "mps" else torch.float64
    rows = _powers(image.shape[1], order, image.device, dtype)  # (P + 1, h)
    columns = _powers(image.shape[2], order, image.device, dtype)  # (P + 1, w)
    m = rows @ (image @ columns.T.to(image.dtype)).to(dtype)  # (n, P + 1, P + 1), about the middle
    mass = torch.where(m[:, 0, 0] == 0, 1.0, m[:, 0, 0])
    to_rows = _shift(-m[:, 1, 0] / mass, order)
    to_columns = _shift(-m[:, 0, 1] / mass, order)
    return to_rows @ m @ to_columns.transpose(1, 2)


def hu_moments(shape: Tensor, mass: Tensor) -> list[Tensor]:
    """Hu's seven invariants, each (n,).

    Args:
        shape: (n, 4, 4) central moments divided by the mass.
        mass: (n,) zeroth moment.
    """
    second, third = 1 / mass, mass**-1.5  # nu_pq = mu_pq / mass^(1 + (p + q) / 2)
    n20, n02, n11 = shape[:, 2, 0] * second, shape[:, 0, 2] * second, shape[:, 1, 1] * second
    n30, n03 = shape[:, 3, 0] * third, shape[:, 0, 3] * third
    n21, n12 = shape[:, 2, 1] * third, shape[:, 1, 2] * third
    a, b = n30 + n12, n21 + n03
    c, d = n30 - 3 * n12, 3 * n21 - n03
    e, f = a * (a**2 - 3 * b**2), b * (3 * a**2 - b**2)
    return [
        n20 + n02,
        (n20 - n02) ** 2 + 4 * n11**2,
        c**2 + d**2,
        a**2 + b**2,
        c * e + d * f,
        (n20 - n02) * (a**2 - b**2) + 4 * n11 * a * b,
        d * e - c * f,
    ]


def _powers(length: int, order: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Offsets from the middle, raised to the powers 0 .. order: (order + 1, length)."""
    offset = torch.arange(length, device=device, dtype=dtype) - (length - 1) / 2
    return torch.stack([offset**p for p in range(order + 1)])


def _shift(by: Tensor, order: int) -> Tensor:
    """Matrices that turn moments about 0 into moments about -by (binomial theorem): (n, order + 1, order + 1)."""
    zero, one = torch.zeros_like(by), torch.ones_like(by)
    rows = [[one, zero, zero, zero], [by, one, zero, zero], [by**2, 2 * by, one, zero]]
    rows.append([by**3, 3 * by**2, 3 * by, one])
    return torch.stack([torch.stack(row[: order + 1], dim=1) for row in rows[: order + 1]], dim=1)
