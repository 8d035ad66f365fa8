"""Detectors by name, and a user's own functions and classes."""

from __future__ import annotations

import numpy as np
import pytest

from trackd_client.detections import Detections
from trackd_client.detectors.background import BackgroundDetector
from trackd_client.detectors.detector import DetectorError
from trackd_client.detectors.named import DETECTORS, open_detector

IMAGE = np.zeros((20, 30), np.uint8)
OWN = """
import numpy as np
from trackd_client import Detections, Skeleton

def corner(image, size=5):
    return Detections(boxes=np.array([[0, 0, size, size]], np.float32))

class Counting:
    skeleton = Skeleton(("a",))
    def __init__(self, start=0):
        self.count = start
    def __call__(self, image):
        self.count += 1
        return Detections(boxes=np.zeros((self.count, 4), np.float32))

class Silent:
    pass

made = Counting(7)
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the working directory."""
    name = f"own_detectors_of_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return name


def test_a_detector_gets_its_options_and_the_number_of_animals():
    assert isinstance(open_detector("background", {"threshold": 30}, 4), BackgroundDetector)


def test_a_function_a_class_and_an_object_of_a_module_are_detectors(own):
    assert open_detector(f"{own}:corner")(IMAGE).boxes.tolist() == [[0, 0, 5, 5]]
    assert open_detector(f"{own}:corner", {"size": 9}, animals=2)(IMAGE).boxes.tolist() == [[0, 0, 9, 9]]
    counting = open_detector(f"{own}:Counting", {"start": 1})
    assert [len(counting(IMAGE)) for _ in range(2)] == [2, 3]
    assert counting.skeleton.nodes == ("a",)
    found = open_detector(f"{own}:made")(IMAGE)
    assert isinstance(found, Detections)
    assert len(found) == 8


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("backround", {}, "--detector is one of background, colour"),
        ("background", {"size": 3}, "has no option 'size'; known: animals, method"),
        ("{own}:corner", {"width": 3}, "has no option 'width'; known: size"),
        ("{own}:absent", {}, "has no 'absent'"),
        ("{own}:number", {}, "is no function: int"),
        ("{own}:Silent", {}, "is a class without __call__"),
        ("no_such_module:f", {}, "No module named 'no_such_module'"),
    ],
)
def test_a_name_or_an_option_that_is_wrong_is_one_line(own, name, options, text):
    with pytest.raises(DetectorError) as caught:
        open_detector(name.format(own=own), options)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_name_leads_to_a_class():
    assert all(":" in path and path.startswith("trackd_client.detectors.") for path in DETECTORS.values())
