"""A loaded checkpoint: the network, and the padded steps that run it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from trackd.models.architecture import Architecture
from trackd.models.encoder.device_jpeg import JpegDecoder
from trackd.models.transformer.gtr import GlobalTrackingTransformer
from trackd.models.transformer.padded import StepPool


@dataclass(frozen=True, slots=True)
class LoadReport:
    """Harmless differences between a checkpoint's tensors and the model's: parameters that the model does not use."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


@dataclass(slots=True, eq=False)
class LoadedModel:
    """A checkpoint ready for use; on the CPU until its model is moved."""

    name: str  # file stem
    model: GlobalTrackingTransformer
    architecture: Architecture
    path: Path
    report: LoadReport
    digest: str = ""  # SHA-256 of the file, hexadecimal
    padded: StepPool = field(init=False)  # shared by all scorers of the model
    decode_jpeg: JpegDecoder | None = None  # None: images are decoded by the engine, on the CPU

    def __post_init__(self) -> None:
        self.padded = StepPool(self.model)

    def release(self) -> None:
        """Free the buffers of the model's passes that this thread uses; they are made again when they are needed."""
        self.padded.clear()
        self.model.passes.clear()
