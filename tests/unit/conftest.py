"""Small checkpoints for the tests of what runs them; torch is imported only where one is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trackd.models.transformer.loaded_model import LoadedModel


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A checkpoint whose features are descriptors."""
    from checkpoint_files import DESCRIPTOR, load

    return load(tmp_path_factory.mktemp("ckpt"), DESCRIPTOR)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """A checkpoint with a visual encoder."""
    from checkpoint_files import RESNET, load

    return load(tmp_path_factory.mktemp("resnet"), RESNET)
