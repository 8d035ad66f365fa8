"""The images that a key of the `dataset` section names."""

from __future__ import annotations

from pathlib import Path

from trackd_client.configuration import ConfigError, find_path
from trackd_client.recordings.images.image_files import IMAGE_SUFFIXES, by_number, image_source, in_order
from trackd_client.recordings.images.source import ImageSource
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.named_files import WHERE, named_files


def named_images(
    paths: str | list[str], base: Path, key: str, limits: RecordingLimits, *, numbered: bool = False
) -> ImageSource:
    """The images of one recording.

    Args:
        paths: a stack, a video or a folder; or a list of files.
        base: where relative paths are looked up first.
        key: the key that names them, for error texts.
        limits: what the files may claim.
        numbered: frame indices are the numbers in the file names, not the order of the files.

    Raises:
        ConfigError: something is missing, or there is no image.
        RecordingError: with `numbered`, a file name without a number.
    """
    if isinstance(paths, str):
        found = find_path(paths, f"{WHERE}.{key}", base, "file or folder")
        if not (numbered and found.is_dir()):
            return image_source(found, limits)
        files = sorted(file for file in found.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
    else:
        files = named_files(paths, base, key)
    if not files:
        raise ConfigError(f"{WHERE}.{key}: no image in {paths!r}")
    return by_number(files, limits) if numbered else in_order(files, limits)
