from __future__ import annotations

import numpy as np
import torch

from trackd.models.encoder.descriptor import DescriptorEncoder


def slow_descriptor(image: np.ndarray) -> list[float]:
    """The twelve numbers of a crop by their definitions, in double precision."""
    image = image.astype(np.float64)
    r, c = np.mgrid[: image.shape[0], : image.shape[1]]
    m00 = image.sum()
    r0, c0 = (r * image).sum() / m00, (c * image).sum() / m00

    def mu(p: int, q: int) -> float:
        return float(((r - r0) ** p * (c - c0) ** q * image).sum())

    def nu(p: int, q: int) -> float:
        return mu(p, q) / m00 ** (1 + (p + q) / 2)

    a, b = nu(3, 0) + nu(1, 2), nu(2, 1) + nu(0, 3)
    e, f = nu(3, 0) - 3 * nu(1, 2), 3 * nu(2, 1) - nu(0, 3)
    spread = nu(2, 0) - nu(0, 2)
    return [
        mu(0, 2) / m00,
        -mu(1, 1) / m00,
        -mu(1, 1) / m00,
        mu(2, 0) / m00,
        float(image.mean()),
        nu(2, 0) + nu(0, 2),
        spread**2 + 4 * nu(1, 1) ** 2,
        e**2 + f**2,
        a**2 + b**2,
        e * a * (a**2 - 3 * b**2) + f * b * (3 * a**2 - b**2),
        spread * (a**2 - b**2) + 4 * nu(1, 1) * a * b,
        f * a * (a**2 - 3 * b**2) - e * b * (3 * a**2 - b**2),
    ]


def blobs(n: int, height: int, width: int) -> torch.Tensor:
    """Crops with one asymmetric bright spot each, (n, 1, height, width)."""
    rng = np.random.default_rng(1)
    r, c = np.mgrid[:height, :width]
    images = []
    for _ in range(n):
        y, x, s = rng.uniform(0.3, 0.7) * height, rng.uniform(0.3, 0.7) * width, rng.uniform(2, 5)
        images.append(np.exp(-((r - y) ** 2 + 0.3 * (c - x) ** 2) / s**2) + 0.2 * rng.random((height, width)))
    return torch.from_numpy(np.stack(images)[:, None].astype(np.float32))


def test_descriptors_equal_their_definition():
    crops = blobs(7, 21, 34)
    wanted = np.array([slow_descriptor(crop[0].numpy()) for crop in crops])
    got = DescriptorEncoder(use_hu_moments=True)(crops)
    np.testing.assert_allclose(got.numpy(), wanted, rtol=2e-4, atol=1e-12)
    torch.testing.assert_close(DescriptorEncoder(use_hu_moments=False)(crops), got[:, :5])


def test_only_the_first_channel_counts():
    crops = blobs(3, 16, 16).repeat(1, 3, 1, 1)
    changed = crops.clone()
    changed[:, 1:] = 7.0
    encoder = DescriptorEncoder(use_hu_moments=True)
    assert torch.equal(encoder(crops), encoder(changed))


def test_an_empty_crop_gives_zeros_and_does_not_change_its_neighbours():
    crops = blobs(3, 16, 16)
    crops[1] = 0
    features = DescriptorEncoder(use_hu_moments=True)(crops)
    assert features[1].count_nonzero() == 0
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features[2], DescriptorEncoder(use_hu_moments=True)(crops[2:])[0])


def test_a_single_bright_pixel_has_no_extent():
    crops = torch.zeros(1, 1, 9, 9)
    crops[0, 0, 2, 7] = 255.0
    features = DescriptorEncoder(use_hu_moments=True)(crops)
    torch.testing.assert_close(features[0, :4], torch.zeros(4))
    torch.testing.assert_close(features[0, 4], torch.tensor(255.0 / 81))
