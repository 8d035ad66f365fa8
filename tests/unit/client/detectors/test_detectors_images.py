"""`background`, `colour` and `aruco` on images with known answers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trackd_client.detectors.aruco import ArucoDetector
from trackd_client.detectors.background import BackgroundDetector
from trackd_client.detectors.colour import ColourDetector
from trackd_client.detectors.detector import DetectorError


def scene(*animals: tuple[float, float], level: int = 200, ink: int = 60, shape=(120, 160)) -> np.ndarray:
    """A light floor with dark ellipses."""
    image = np.full(shape, level, np.uint8)
    for x, y in animals:
        cv2.ellipse(image, ((x, y), (24, 10), 20), ink, -1)
    return image


def centres(found) -> np.ndarray:
    return found.keypoints[:, 0]


def test_a_background_of_a_file_is_known_before_the_first_image():
    detector = BackgroundDetector(min_area=50)
    detector.prepare([scene((20 + 6 * i, 60)) for i in range(20)])
    found = detector(scene((20, 60), (100, 30)))
    assert np.abs(centres(found)[np.argsort(centres(found)[:, 0])] - [[20, 60], [100, 30]]).max() < 1.5
    assert found.boxes.shape == (2, 4)
    assert detector.skeleton.nodes == ("centroid",)


def test_a_camera_is_watched_for_the_warm_up_first():
    detector = BackgroundDetector(min_area=50, warm_up=20)
    counts = [len(detector(scene((10 + 3 * i, 60)))) for i in range(40)]
    assert counts[:20] == [0] * 20
    assert counts[20:] == [1] * 20


def test_an_animal_that_rests_is_seen_for_long():
    detector = BackgroundDetector(min_area=50, every=1, hold=4)
    detector.prepare([scene()])
    assert all(len(detector(scene((80, 60)))) == 1 for _ in range(300))


def test_slow_changes_of_the_light_are_followed():
    detector = BackgroundDetector(min_area=50, every=1)
    detector.prepare([scene()])
    for i in range(60):
        found = detector(scene((80, 60), level=200 - i))
    assert len(found) == 1


def test_a_lamp_that_is_switched_begins_another_background():
    detector = BackgroundDetector(min_area=50, warm_up=15)
    detector.prepare([scene()])
    for i in range(40):
        found = detector(scene((20 + 3 * i, 60), level=120, ink=30))
    assert len(found) == 1
    assert np.abs(centres(found) - [137, 60]).max() < 1.5


@pytest.mark.parametrize(("polarity", "found"), [("both", [60, 200]), ("dark", [60]), ("light", [200])])
def test_polarity_selects_dark_or_light_animals(polarity, found):
    detector = BackgroundDetector(min_area=50, polarity=polarity)
    image = scene(level=128)
    detector.prepare([image.copy()])
    for ink, x in ((60, 40), (200, 120)):
        cv2.ellipse(image, ((x, 60), (24, 10), 0), ink, -1)
    xs = sorted(centres(detector(image))[:, 0].round().astype(int).tolist())
    assert xs == [{60: 40, 200: 120}[ink] for ink in found]


def test_colour_images_differ_by_colour_too():
    image = np.full((120, 160, 3), (100, 140, 100), np.uint8)
    detector = BackgroundDetector(min_area=50)
    detector.prepare([image.copy()])
    cv2.circle(image, (80, 60), 12, (140, 123, 100), -1)  # of the same brightness
    assert np.abs(centres(detector(image)) - [80, 60]).max() < 1


def test_the_mixture_of_gaussians_finds_a_moving_animal():
    detector = BackgroundDetector(method="mog2", min_area=50, warm_up=20)
    for i in range(40):
        found = detector(scene((10 + 3 * i, 60)))
    assert np.abs(centres(found) - [127, 60]).max() < 3


def test_a_hue_is_found_also_around_red():
    image = np.full((120, 160, 3), 90, np.uint8)
    for x, colour in ((30, (220, 20, 40)), (80, (30, 200, 40)), (130, (20, 40, 220))):
        cv2.circle(image, (x, 60), 10, colour, -1)
    for hue, x in (([340, 20], 30), ([90, 150], 80), ([210, 270], 130)):
        found = ColourDetector(hue=hue, min_area=50)(image)
        assert np.abs(centres(found) - [x, 60]).max() < 1
    assert len(ColourDetector()(image[..., 0])) == 0


def test_markers_are_found_with_their_numbers():
    dictionary = cv2.aruco.getPredefinedDictionary(cv2.aruco.DICT_4X4_50)
    image = np.full((200, 300), 255, np.uint8)
    for number, (x, y) in ((7, (40, 50)), (3, (180, 90))):
        image[y : y + 60, x : x + 60] = cv2.aruco.generateImageMarker(dictionary, number, 60)
    found = ArucoDetector(truth=True)(image)
    assert found.classes.tolist() == [3, 7]
    assert found.gt_ids.tolist() == [3, 7]
    assert np.abs(found.boxes - [[180, 90, 239, 149], [40, 50, 99, 109]]).max() < 2
    assert np.abs(found.keypoints[0] - [[180, 90], [239, 90], [239, 149], [180, 149]]).max() < 2
    assert len(ArucoDetector()(np.full((100, 100, 3), 255, np.uint8))) == 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: BackgroundDetector(threshold="high"), "threshold is a number from 1 to 255; got 'high'"),
        (lambda: BackgroundDetector(method="mean"), "method is one of median, mog2; got 'mean'"),
        (lambda: BackgroundDetector(min_area=9, max_area=3), "min_area is at most max_area; got 9 and 3"),
        (lambda: ColourDetector(hue=[10]), "hue is the first and the last hue"),
        (lambda: ColourDetector(hue=[10, 400]), "hue is a number from 0 to 360; got 400"),
        (lambda: ArucoDetector(dictionary="DICT_3X3"), "dictionary is one of DICT_4X4_100"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(make, text):
    with pytest.raises(DetectorError, match=r"^the option .*") as caught:
        make()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
