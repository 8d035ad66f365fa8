"""The models that streams select by name, and their scorers.

Torch is imported when the first checkpoint is read: `motion` does not need it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd.config import Config, StreamSettings
from trackd.models.checkpoint.file import CheckpointReader
from trackd.models.errors import CheckpointError
from trackd.models.motion.scorer import MotionScorer
from trackd.models.torch_import import import_torch
from trackd.models.transformer.requirements import Requirements
from trackd.tracking.scorer import Scorer
from trackd_client.configuration import ConfigError, find_path, nearest
from trackd_client.excerpt import excerpt

if TYPE_CHECKING:
    from trackd.models.transformer.loaded_model import LoadedModel

logger = logging.getLogger(__name__)

MOTION = "motion"
MAX_NAME = 128


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on its device, ready for use."""

    name: str
    loaded: LoadedModel
    requirements: Requirements
    device: str

    def make_scorer(self, settings: StreamSettings) -> Scorer:
        """Return a new scorer for one stream."""
        from trackd.models.transformer.scorer import TransformerScorer

        return TransformerScorer(self.loaded, settings)

    def fault(self, digest: str | None) -> str | None:
        """Return why this is not the model of a stream that was tracked with a file of this digest; None: it is."""
        if digest is None or digest == self.loaded.digest:
            return None
        return (
            f"model {self.name!r}: {self.loaded.path} is another file: its SHA-256 is {self.loaded.digest[:12]}…, "
            f"that of the stream's model {digest[:12]}…"
        )


class ModelRegistry:
    """Loaded models by name; the first checkpoint is the default, else the checkpoint-free `motion`.

    One thread owns it; only `read` may be called from another.
    """

    def __init__(self, config: Config, base: Path | None = None) -> None:
        """Read the checkpoints of a configuration; each is named by its file's stem.

        Args:
            config: its `ckpt_path`, `model`, and of `daemon` the device and how the encoder runs there.
            base: the configuration file's folder, for relative paths.

        Raises:
            ConfigError: a checkpoint that cannot be used, two of one name, or a device that does not exist.
        """
        self._daemon = config.daemon
        self._temporal_input = config.model.temporal_input
        self._base = base
        self._checkpoints: dict[str, Checkpoint] = {}
        self._unavailable: dict[str, str] = {}  # of remembered models: by name, why they are not loaded
        self._loading: str | None = None
        self._reader = CheckpointReader(config.limits.checkpoint_bytes)
        for path in config.checkpoints:
            name = Path(path).stem
            self._check_name(name, f"ckpt_path: {path}")
            self._checkpoints[name] = self.read(name, path, "ckpt_path")
        self.default = next(iter(self._checkpoints), MOTION)

    @property
    def device(self) -> str:
        """The device of the checkpoints; "cpu" if none is loaded."""
        return next((checkpoint.device for checkpoint in self._checkpoints.values()), "cpu")

    @property
    def names(self) -> list[str]:
        """The names of all models."""
        return [*self._checkpoints, MOTION]

    def resolve(self, name: str | None) -> str:
        """The name of a loaded model; None gives the default.

        Raises:
            KeyError: no model of that name is loaded; its text names the loaded ones.
        """
        if name is None:
            return self.default
        if name in self._unavailable:
            raise KeyError(f"model {name!r} is not loaded: {self._unavailable[name]}")
        if name not in self.names:
            raise KeyError(f"model {excerpt(name)} is not loaded; {nearest(name, self.names)}")
        return name

    def digest(self, name: str) -> str | None:
        """The SHA-256 of a loaded model's file; None for `motion`."""
        return None if name == MOTION else self._checkpoints[name].loaded.digest

    def fault(self, name: str, digest: str | None) -> str | None:
        """Why a stored stream cannot be tracked.

        Args:
            name: of its model.
            digest: of the model's file, where it is known.

        Returns:
            A reason in one line; None: the model is loaded, and is the same.
        """
        if name == MOTION:
            return None
        if name in self._checkpoints:
            return self._checkpoints[name].fault(digest)
        return f"model {name!r} is not loaded" + (f": {self._unavailable[name]}" if name in self._unavailable else "")

    def check_stream(self, name: str, settings: StreamSettings, frame_shape: Sequence[int] | None) -> None:
        """Check a stream's settings against a model's requirements.

        Args:
            name: of a loaded model.
            settings: of the stream.
            frame_shape: (h, w) or (h, w, channels) if `open` stated it.

        Raises:
            ConfigError: a setting does not fit.
        """
        if name != MOTION:
            self._checkpoints[name].requirements.check_stream(settings, frame_shape)

    def scorer_factory(self, name: str) -> Callable[[StreamSettings], Scorer]:
        """A function that makes a new scorer for one stream."""
        if name == MOTION:
            return lambda settings: MotionScorer(settings.tracker.use_vis_feats, settings.tracker.use_scores)
        return self._checkpoints[name].make_scorer

    def rows(self) -> list[dict[str, object]]:
        """The rows of the reply to `models`."""
        rows = [_row(checkpoint) for checkpoint in self._checkpoints.values()]
        rows.append({"name": MOTION, "device": "cpu", "path": None})
        return [{**row, "default": row["name"] == self.default} for row in rows]

    def recall(self, name: str, path: str, digest: str) -> None:
        """Load a model again that a client had loaded; where its file is gone or changed, remember why.

        A checkpoint of the same name in the configuration takes precedence.
        """
        if name in self._checkpoints:
            return
        try:
            self._check_name(name, "name")
            checkpoint = self.read(name, path)
        except ConfigError as error:
            self._unavailable[name] = str(error).removeprefix("path: ")
        else:
            if checkpoint.loaded.digest == digest:
                self._checkpoints[name] = checkpoint
                return
            self._unavailable[name] = (
                f"{path} has changed since it was loaded: its SHA-256 was {digest[:12]}… "
                f"and is {checkpoint.loaded.digest[:12]}…"
            )
        logger.warning("model %r is not loaded again: %s", name, self._unavailable[name])

    # --- loading while streams run: reserve, read on a separate thread, finish_loading ---

    def reserve(self, name: str) -> None:
        """Reserve a name for a checkpoint before it is read.

        Raises:
            ConfigError: the name is taken or not allowed, or another checkpoint is being read.
        """
        self._check_name(name, "name")
        if self._loading is not None:
            raise ConfigError(f"{self._loading!r} is being loaded; load {name!r} when that is done")
        self._loading = name

    def read(self, name: str, path: str, key: str = "path") -> Checkpoint:
        """Read a checkpoint onto its device. The registry does not change, so any thread may call this.

        Raises:
            ConfigError: it cannot be used; one line.
        """
        place = find_path(path, key, self._base)
        import_torch()
        from trackd.models.checkpoint.device import resolve_device, resolve_encoder_dtype, resolve_encoder_threads
        from trackd.models.checkpoint.load import load_checkpoint
        from trackd.models.encoder.device_jpeg import jpeg_decoder

        device = resolve_device(self._daemon.device)
        decode = jpeg_decoder(device) if self._daemon.decode_on_device else None
        try:
            loaded = load_checkpoint(place, self._temporal_input, self._reader)
            requirements = Requirements.of(loaded.architecture)
        except CheckpointError as error:
            raise ConfigError(f"{key}: {error}") from None
        try:
            loaded.model.to(device)
            loaded.model.prepare(
                resolve_encoder_dtype(self._daemon.encoder_dtype, device),
                resolve_encoder_threads(self._daemon.encoder_threads, device),
            )
        except RuntimeError as error:  # the device's memory is full
            raise ConfigError(f"{key}: {place} cannot be moved to {device}: {str(error).splitlines()[0]}") from None
        loaded.decode_jpeg = decode
        return Checkpoint(name, loaded, requirements, str(device))

    def finish_loading(self, checkpoint: Checkpoint | None) -> dict[str, object] | None:
        """Add the checkpoint that `reserve` announced; None: reading failed.

        Returns:
            The new model's row.
        """
        self._loading = None
        if checkpoint is None:
            return None
        self._checkpoints[checkpoint.name] = checkpoint
        self._unavailable.pop(checkpoint.name, None)
        return {**_row(checkpoint), "default": False}

    def empty_image(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array for an image that is copied on receipt: in pinned memory where checkpoints run on CUDA.

        From there it is uploaded without a further copy on the host. Where no pinned memory is left, in other memory.
        """
        if self.device.startswith("cuda"):
            import torch

            try:
                pinned: NDArray[Any] = torch.empty(
                    shape, dtype=torch.uint16 if dtype == np.uint16 else torch.uint8, pin_memory=True
                ).numpy()
                return pinned
            except RuntimeError:
                logger.debug("no pinned memory is left for an image", exc_info=True)
        return np.empty(shape, dtype)

    def stop(self) -> None:
        """End the process of a checkpoint that is being read; any thread may call this."""
        self._reader.stop()

    def _check_name(self, name: str, where: str) -> None:
        if not 1 <= len(name) <= MAX_NAME:
            raise ConfigError(f"{where}: a model's name has 1 to {MAX_NAME} characters; got {len(name)}")
        if name == MOTION:
            raise ConfigError(f"{where}: the name {MOTION!r} is the built-in model's; take another")
        taken = self._checkpoints.get(name)
        if taken is not None:
            raise ConfigError(f"{where}: the name {name!r} is taken by {taken.loaded.path}; rename one of them")


def _row(checkpoint: Checkpoint) -> dict[str, object]:
    return {"name": checkpoint.name, "device": checkpoint.device, "path": str(checkpoint.loaded.path)}
