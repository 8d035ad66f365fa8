"""The models that clients loaded, over a restart: a small file beside the journal."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

FILE_NAME = "models.json"
_VERSION = 1


class RememberedModel(NamedTuple):
    """A model as `model.load` loaded it."""

    name: str
    path: str  # absolute
    digest: str  # SHA-256 of the file, hexadecimal


class RememberedModels:
    """The list, in memory and in `state_dir`. A file that cannot be read gives an empty list and a warning.

    Args:
        state_dir: the folder, which this process has locked.
    """

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / FILE_NAME
        self._models = {model.name: model for model in self._read()}

    def all(self) -> list[RememberedModel]:
        """Return the models in the order in which they were loaded first."""
        return list(self._models.values())

    def add(self, model: RememberedModel) -> None:
        """Store a model, in place of one of the same name. It is on the disk when this returns.

        Raises:
            OSError: it cannot be stored; the list is as before.
        """
        models = {**self._models, model.name: model}
        rows = [model._asdict() for model in models.values()]
        self._write(json.dumps({"version": _VERSION, "models": rows}, indent=1))
        self._models = models

    def _read(self) -> list[RememberedModel]:
        try:
            stored = json.loads(self.path.read_text(encoding="utf-8"))
            rows = [RememberedModel(**row) for row in stored["models"]] if stored["version"] == _VERSION else None
            if rows is None or not all(isinstance(value, str) for row in rows for value in row):
                raise ValueError(f"version {stored['version']!r} with these values is not known")
            return rows
        except FileNotFoundError:
            return []
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            logger.warning("%s cannot be read, so its models are not loaded again: %s", self.path, error)
            return []

    def _write(self, text: str) -> None:
        """Replace the file as a whole: after a kill or a power failure it is the old or the new one."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
