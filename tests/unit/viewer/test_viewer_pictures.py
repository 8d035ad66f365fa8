"""The pictures that pages get: size, colours, bits, and which files are sent as they are."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from trackd.viewer.pictures import PASSED_BYTES, PictureError, eight_bits, full_size, picture
from trackd_client.protocol import EncodedImage

RED, BLUE = (255, 0, 0), (0, 0, 255)


def halves(h: int = 120, w: int = 160, left=RED, right=BLUE, dtype=np.uint8) -> np.ndarray:
    """An RGB image, one colour on the left and another on the right."""
    image = np.empty((h, w, len(left)), dtype)
    image[:, : w // 2], image[:, w // 2 :] = left, right
    return image


def rgb(file: bytes) -> np.ndarray:
    """Decode a file as a browser does."""
    return cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]


def encoded(kind: str, image: np.ndarray, *options: int) -> EncodedImage:
    """Encode RGB or gray pixels."""
    done, file = cv2.imencode(f".{kind}", image if image.ndim == 2 else image[:, :, ::-1], options)
    assert done
    return EncodedImage({"jpg": "jpeg", "png": "png"}[kind], file.tobytes())


def assert_halves(shown: np.ndarray, left=RED, right=BLUE) -> None:
    h, w = shown.shape[:2]
    assert np.abs(shown[h // 2, w // 4].astype(int) - left).max() <= 8
    assert np.abs(shown[h // 2, 3 * w // 4].astype(int) - right).max() <= 8


def test_a_raw_image_is_red_where_its_first_channel_is_high():
    assert_halves(rgb(picture(halves(), 640)))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_an_encoded_image_that_is_scaled_has_the_same_colours(kind):
    shown = rgb(picture(encoded(kind, halves(480, 640)), 160))
    assert shown.shape == (120, 160, 3)
    assert_halves(shown)


def test_the_longest_side_of_a_picture_is_what_the_page_asked_for_and_images_are_not_enlarged():
    assert rgb(picture(np.zeros((400, 200), np.uint8), 100)).shape[:2] == (100, 50)
    assert rgb(picture(np.zeros((40, 20), np.uint8), 100)).shape[:2] == (40, 20)
    assert rgb(picture(np.zeros((3000, 2), np.uint8), 64)).shape[:2] == (64, 1)


def test_a_gray_image_stays_gray():
    for image in (
        np.full((50, 60), 90, np.uint8),
        np.full((50, 60, 1), 90, np.uint8),
        np.full((50, 60, 2), 90, np.uint8),
    ):
        shown = rgb(picture(image, 640))
        assert shown.shape == (50, 60, 3)
        assert np.abs(shown.astype(int) - 90).max() <= 2


def test_of_four_channels_the_first_three_are_shown():
    assert_halves(rgb(picture(halves(left=(*RED, 0), right=(*BLUE, 255)), 640)))


def test_sixteen_bits_are_stretched_between_the_darkest_and_the_brightest_thousandth():
    image = np.linspace(1000, 3000, 100 * 100).reshape(100, 100).astype(np.uint16)
    image[0, :2], image[-1, -2:] = 0, 65_535  # 4 of 10,000 pixels do not count
    shown = eight_bits(image)
    assert shown.dtype == np.uint8
    assert (shown[0, 2], shown[-1, -3]) == (0, 255)
    assert abs(int(shown[50, 0]) - 128) <= 2


def test_sixteen_bits_of_colour_are_stretched_alike_in_every_channel():
    image = halves(left=(4000, 2000, 1000), right=(1000, 2000, 4000), dtype=np.uint16)
    assert_halves(eight_bits(image), (255, 85, 0), (0, 85, 255))


def test_sixteen_bits_of_one_value_are_black():
    assert not eight_bits(np.full((9, 9), 700, np.uint16)).any()


def test_a_raw_image_of_sixteen_bits_is_shown_in_its_colours():
    assert_halves(rgb(picture(halves(left=(40_000, 0, 0), right=(0, 0, 40_000), dtype=np.uint16), 640)))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_small_file_of_the_right_size_is_sent_as_it_is(kind):
    image = encoded(kind, halves())
    assert picture(image, 160) == image.data
    assert picture(image, 159) != image.data


def test_a_large_file_is_encoded_again():
    noise = np.random.default_rng(1).integers(0, 255, (700, 700, 3), np.uint8)
    image = encoded("png", noise)
    assert len(image.data) > PASSED_BYTES
    assert len(picture(image, 700)) < len(image.data)


def test_a_png_file_of_sixteen_bits_is_encoded_again_in_eight():
    image = encoded("png", np.linspace(0, 4000, 6400).reshape(80, 80).astype(np.uint16))
    shown = rgb(picture(image, 640))
    assert (shown.min(), shown.max()) == (0, 255)


def test_a_jpeg_file_with_an_orientation_is_encoded_again_without_turning_it():
    image = encoded("jpg", halves())
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"  # orientation 6: a quarter turn
    segment = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    turned = EncodedImage("jpeg", image.data[:2] + segment + image.data[2:])
    for longest in (160, 40):
        shown = rgb(picture(turned, longest))
        assert shown.shape[1] == longest
        assert_halves(shown)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_damaged_file_that_has_to_be_decoded_is_one_error(kind):
    image = encoded(kind, halves(400, 400))
    for data in (b"", b"\0" * 100, bytes(image.data[:40]), bytes(image.data[:4])):
        with pytest.raises(PictureError):
            picture(EncodedImage(image.encoding, data), 64)


def test_the_full_size_is_width_and_height():
    assert full_size(np.zeros((20, 30, 3), np.uint8)) == [30, 20]
    assert full_size(encoded("jpg", halves(40, 50))) == [50, 40]
    assert full_size(None) is None
