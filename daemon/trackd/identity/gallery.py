"""Galleries: what named animals look like, saved by one session and recognised by later ones.

A gallery is a `.safetensors` file: the mean features of each animal, and the covariance and the calibration by which
features are compared. No image is stored.

Letters: N animals, D features.
"""

from __future__ import annotations

import json
import logging
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.config import GALLERY_NAME
from trackd_client.configuration import ConfigError, nearest

logger = logging.getLogger(__name__)

MAX_ANIMALS = 256
MAX_GALLERIES = 1024
MAX_BYTES = 16 * 1024 * 1024
MAX_FEATURES = 1024  # D
_VERSION = 1
_SUFFIX = ".safetensors"
_CALIBRATION = ("within", "across", "other")
_COUNTS = ("within_counts", "across_counts")  # galleries of earlier versions have none
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The animals of one gallery."""

    names: tuple[str, ...]  # (N,)
    means: Floats  # (N, D)
    counts: Floats  # (N,) samples behind each mean
    scatter: Floats  # (D, D) of the samples about the means of their animals
    weight: float  # samples behind it
    calibration: dict[str, Floats]  # log distances: within and across fragments, and to other animals


class Galleries:
    """The galleries in one folder.

    Args:
        folder: may be absent.
        lenient: a gallery that cannot be read is logged and left out. A stream that a restart continues does not end
            since a file is gone.
    """

    def __init__(self, folder: Path, *, lenient: bool = False) -> None:
        self.folder = folder
        self._lenient = lenient

    def names(self) -> list[str]:
        """The names of all galleries, sorted."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name.removesuffix(_SUFFIX) for path in self.folder.iterdir() if path.name.endswith(_SUFFIX))

    def path(self, name: str) -> Path:
        """Where a gallery is, or would be.

        Raises:
            ConfigError: no name of a gallery.
        """
        if not re.fullmatch(GALLERY_NAME, name):
            raise ConfigError(
                f"a gallery has a name of 1 to 64 letters, digits or . _ -, which begins with no . _ -; got {name!r}"
            )
        return self.folder / (name + _SUFFIX)

    def check(self, name: str) -> None:
        """Check that there is such a gallery.

        Raises:
            ConfigError: there is none.
        """
        if not self.path(name).is_file():
            known = self.names()
            hint = nearest(name, known) if known else "there is none yet: `trackd identities save` makes one"
            raise ConfigError(f"tracker.gallery: {self.folder} has no gallery {name!r}; {hint}")

    def load(self, name: str) -> Gallery | None:
        """Read a gallery; None if it cannot be read and this is lenient.

        Raises:
            ConfigError: there is none, or the file is damaged.
        """
        try:
            return self._load(name)
        except ConfigError as error:
            if not self._lenient:
                raise
            logger.error("identities are learnt without a gallery: %s", error)
            return None

    def _load(self, name: str) -> Gallery:
        self.check(name)
        path = self.path(name)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError(f"it must have at most {MAX_BYTES} bytes; got {path.stat().st_size}")
            return _read(path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is no gallery that can be read: {str(error)[:200]}") from None

    def save(self, name: str, gallery: Gallery) -> Path:
        """Write a gallery; one of this name is replaced.

        Raises:
            ConfigError: no name of a gallery, too many animals or galleries, or the file cannot be written.
        """
        from safetensors.numpy import save

        path = self.path(name)
        if len(gallery.names) > MAX_ANIMALS:
            raise ConfigError(f"a gallery holds at most {MAX_ANIMALS} animals; got {len(gallery.names)}")
        if not path.exists() and len(self.names()) >= MAX_GALLERIES:
            raise ConfigError(f"{self.folder} holds at most {MAX_GALLERIES} galleries; remove some, or replace one")
        tensors = {
            "means": gallery.means.astype(np.float32),
            "counts": gallery.counts.astype(np.float32),
            "scatter": gallery.scatter.astype(np.float32),
            **{key: np.asarray(values, np.float32) for key, values in gallery.calibration.items()},
        }
        about = {"trackd_gallery": json.dumps({"version": _VERSION, "names": gallery.names, "weight": gallery.weight})}
        self.replace_file(path, save(tensors, about))
        return path

    def replace_file(self, path: Path, data: bytes) -> None:
        """Write the file of a gallery as a whole.

        Raises:
            ConfigError: it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


def _read(path: Path) -> Gallery:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            about: Any = json.loads((file.metadata() or {})["trackd_gallery"])
            arrays = {key: np.asarray(file.get_tensor(key), np.float64) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if about["version"] != _VERSION:
        raise ValueError(f"its version is {about['version']!r}; this trackd reads {_VERSION}")
    names, (n, size) = tuple(map(str, about["names"])), arrays["means"].shape
    shapes = {"means": (n, size), "counts": (n,), "scatter": (size, size)}
    if not 0 < n <= MAX_ANIMALS or len(names) != n or len(set(names)) != n or not 0 < size <= MAX_FEATURES:
        raise ValueError("its names and its features do not belong together")
    if any(arrays[key].shape != shape for key, shape in shapes.items()):
        raise ValueError("its arrays do not belong together")
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise ValueError("it holds numbers that are not finite")
    calibration = {
        key: arrays[key].ravel()[:400] for key in (*_CALIBRATION, *_COUNTS) if key in _CALIBRATION or key in arrays
    }
    if any(len(values) != len(calibration[key.removesuffix("_counts")]) for key, values in calibration.items()):
        raise ValueError("its arrays do not belong together")
    return Gallery(names, arrays["means"], arrays["counts"], arrays["scatter"], float(about["weight"]), calibration)
