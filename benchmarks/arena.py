"""A plain arena seen from above: dark animals on a light floor, which swim as those of the demo and touch.

Letters: F frames, A animals.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from trackd.commands.demo.recording import swim

LENGTH, WIDTH = 34, 13  # of an animal, pixels


def arena(
    n_frames: int, n_animals: int = 4, size: tuple[int, int] = (480, 360), seed: int = 0, noise: float = 3.0
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Return gray images (h, w), the centres (F, A, 2) and the headings (F, A) in radians."""
    generator = np.random.default_rng(seed)
    motion = swim(generator, n_frames, n_animals, size, 30, np.array(size) / 2)
    width, height = size
    y, x = np.mgrid[:height, :width]
    floor = 215 - 40 * np.hypot((x - width / 2) / width, (y - height / 2) / height)
    images = []
    for centres, headings in zip(motion.thorax, motion.heading, strict=True):
        image = floor + generator.normal(0, noise, floor.shape)
        for centre, heading in zip(centres, headings, strict=True):
            box = ((float(centre[0]), float(centre[1])), (LENGTH, WIDTH), float(np.degrees(heading)))
            body = np.zeros(floor.shape, np.uint8)
            cv2.ellipse(body, box, 255, -1, cv2.LINE_AA)
            left, top = np.maximum(centre.astype(int) - LENGTH, 0)
            part = np.s_[top : top + 2 * LENGTH, left : left + 2 * LENGTH]
            image[part] -= body[part] / 255 * (image[part] - 60)
        images.append(np.clip(image, 0, 255).astype(np.uint8))
    return images, motion.thorax, motion.heading


def write_video(path: Path, images: list[np.ndarray], fps: float = 30) -> Path:
    """Write gray images as a video."""
    height, width = images[0].shape
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    writer.release()
    return path
