"""The configuration of `trackd track IN`: a YAML file, or a path of recordings and a few options, as in DREEM."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from trackd.config import Config, load_config
from trackd_client.configuration import ConfigError
from trackd_client.recordings.paths import dataset_of

YAML_SUFFIXES = (".yaml", ".yml")
_DATASET = "dataset.test_dataset"


def configuration_of(
    source: Path,
    overrides: Iterable[str] = (),
    *,
    checkpoint: Path | None = None,
    output: Path | None = None,
    crop_size: int | None = None,
    video: Path | None = None,
) -> tuple[Config, Path]:
    """The configuration, and the folder of its relative paths.

    Args:
        source: a YAML file; or a file or folder of recordings.
        overrides: `a.b.c=value` texts; they win over the options.
        checkpoint: `ckpt_path`. For recordings without a YAML file it brings DREEM's default `iou: mult`.
        output: `out_dir`.
        crop_size: `dataset.test_dataset.crop_size`.
        video: the images of a recording.

    Raises:
        ConfigError: one line with the path, or the key and its value.
    """
    values: dict[str, object] = {}
    if source.suffix.lower() in YAML_SUFFIXES and not source.is_dir():
        if video is not None:
            raise ConfigError(f"--video belongs to a recording; {source} names its videos itself")
        file, base = source, source.parent
    else:
        file, base = None, Path()
        values |= {f"{_DATASET}.{key}": value for key, value in dataset_of(source, video=video).items()}
        if checkpoint is not None:
            values["tracker.iou"] = "mult"
    options = {
        "ckpt_path": None if checkpoint is None else str(checkpoint.absolute()),
        "out_dir": None if output is None else str(output),
        f"{_DATASET}.crop_size": crop_size,
    }
    values |= {key: value for key, value in options.items() if value is not None}
    texts = [f"{key}={json.dumps(value)}" for key, value in values.items()]  # JSON is YAML
    return load_config(file, [*texts, *overrides]), base
