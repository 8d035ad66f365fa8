"""Galleries on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save

from trackd.identity.gallery import MAX_ANIMALS, Galleries, Gallery
from trackd_client.configuration import ConfigError

SIZE = 6


def gallery(*names: str) -> Gallery:
    random = np.random.default_rng(0)
    n = len(names)
    calibration = {key: random.normal(5, 1, 12) for key in ("within", "across", "other")}
    return Gallery(names, random.normal(0, 1, (n, SIZE)), np.full(n, 50.0), np.eye(SIZE), 100.0, calibration)


def tensors(**changed: np.ndarray) -> dict[str, np.ndarray]:
    made = {"means": np.zeros((1, SIZE)), "counts": np.ones(1), "scatter": np.eye(SIZE)}
    made |= {key: np.zeros(3) for key in ("within", "across", "other")}
    return {key: np.asarray(value, np.float32) for key, value in (made | changed).items()}


def about(**changed: object) -> dict[str, str]:
    return {"trackd_gallery": json.dumps({"version": 1, "names": ["ana"], "weight": 1.0} | changed)}


def test_a_gallery_is_read_as_it_was_saved(tmp_path):
    galleries, made = Galleries(tmp_path / "new"), gallery("ana", "bén")
    galleries.save("cage-3", made)
    read = galleries.load("cage-3")
    assert read is not None
    assert read.names == made.names
    np.testing.assert_allclose(read.means, made.means, rtol=1e-6)
    np.testing.assert_allclose(read.scatter, made.scatter, rtol=1e-6)
    np.testing.assert_allclose(read.calibration["across"], made.calibration["across"], rtol=1e-6)
    assert galleries.names() == ["cage-3"]


def test_a_later_gallery_of_the_same_name_replaces_the_first(tmp_path):
    galleries = Galleries(tmp_path)
    galleries.save("cage", gallery("ana"))
    galleries.save("cage", gallery("ben", "cem"))
    read = galleries.load("cage")
    assert read is not None
    assert read.names == ("ben", "cem")
    assert [path.name for path in tmp_path.iterdir()] == ["cage.safetensors"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "x" * 65, "ä", "a\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match="1 to 64 letters"):
        Galleries(tmp_path).save(name, gallery("ana"))


def test_an_unknown_gallery_is_refused_with_those_that_there_are(tmp_path):
    galleries = Galleries(tmp_path)
    with pytest.raises(ConfigError, match="trackd identities save"):
        galleries.load("cage-3")
    galleries.save("cage-3", gallery("ana"))
    with pytest.raises(ConfigError, match="did you mean 'cage-3'"):
        galleries.load("cage-4")


def test_a_restart_goes_on_without_a_gallery_that_is_gone(tmp_path, caplog):
    assert Galleries(tmp_path, lenient=True).load("cage-3") is None
    assert "without a gallery" in caplog.text


def test_more_galleries_than_a_folder_holds_are_refused_and_one_can_still_be_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("trackd.identity.gallery.MAX_GALLERIES", 2)
    galleries = Galleries(tmp_path)
    for name in ("a", "b", "a"):
        galleries.save(name, gallery("ana"))
    with pytest.raises(ConfigError, match="at most 2 galleries"):
        galleries.save("c", gallery("ana"))


def test_more_animals_than_a_gallery_holds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="at most 256"):
        Galleries(tmp_path).save("cage", gallery(*map(str, range(MAX_ANIMALS + 1))))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no gallery"),
        (b"\x80\x04]q\x00.", "no gallery"),
        (b"\xff" * 64, "no gallery"),
        (save(tensors()), "trackd_gallery"),
        (save(tensors(), about(version=2)), "version"),
        (save(tensors(), about(names=["ana", "ben"])), "belong together"),
        (save(tensors(), about(names=[])), "belong together"),
        (save(tensors(means=np.zeros((1, 2000)))), "no gallery"),
        (save(tensors(scatter=np.zeros((2, SIZE))), about()), "belong together"),
        (save(tensors(means=np.full((1, SIZE), np.nan)), about()), "not finite"),
        (save(tensors(means=np.zeros(SIZE)), about()), "no gallery"),
        (save({"means": np.zeros((1, SIZE), np.float32)}, about()), "no gallery"),
        (save(tensors(), {"trackd_gallery": "[]"}), "no gallery"),
        (save(tensors(), {"trackd_gallery": "{" * 5}), "no gallery"),
    ],
    ids=range(14),
)
def test_a_file_that_is_no_gallery_is_refused_in_one_line(tmp_path, content, told):
    (tmp_path / "cage.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=told) as raised:
        Galleries(tmp_path).load("cage")
    assert "\n" not in str(raised.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "cage.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(ConfigError, match="at most"):
        Galleries(tmp_path).load("cage")
