import cv2
import numpy as np
import pytest
import tifffile
from recording_files import make_stack, make_video

from trackd_client.recordings.images.image_files import by_number, image_source, in_order
from trackd_client.recordings.images.source import images_of, layout_of
from trackd_client.recordings.images.tiff_stack import TiffStack
from trackd_client.recordings.recording import Clip, RecordingError


def middles(images, n):
    """The value that fills each image, or None for a frame without one."""
    return [None if image is None else int(image[5, 5]) for _, image in images_of(images, [Clip(0, n)])]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_a_stack_gives_its_images_one_by_one(tmp_path, dtype, compression, byteorder):
    path = make_stack(tmp_path / "a.tif", 5, dtype, compression=compression, byteorder=byteorder)
    stack = TiffStack(path)
    layout = layout_of(stack)
    assert (layout.stop, layout.frame_shape) == (5, (16, 24))
    assert middles(stack, 7) == [0, 1, 2, 3, 4, None, None]
    with stack:
        image = stack.read(3)
    assert image.dtype == np.dtype(dtype)
    assert image.dtype.isnative
    assert image[0, 0] == 100


def test_the_pixel_size_of_an_imagej_stack_is_read(tmp_path):
    path = make_stack(tmp_path / "a.tif", 5, imagej=True, resolution=(4, 2), metadata={"unit": "um", "axes": "TYX"})
    assert layout_of(TiffStack(path)).pixel_size == (0.25, 0.5)
    assert middles(TiffStack(path), 5) == [0, 1, 2, 3, 4]
    plain = make_stack(tmp_path / "b.tif", 2, resolution=(72, 72))
    assert layout_of(TiffStack(plain)).pixel_size is None  # dots per inch apply to printing


def test_the_pixel_size_of_an_ome_stack_is_read(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TYX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.5}
    tifffile.imwrite(path, np.zeros((3, 16, 24), np.uint16), metadata=metadata)
    assert layout_of(TiffStack(path)).pixel_size == (0.65, 0.5)
    assert layout_of(TiffStack(path)).stop == 3


def test_channels_of_a_stack_are_one_image(tmp_path):
    pixels = np.arange(4 * 2 * 16 * 24).astype(np.uint16).reshape(4, 2, 16, 24)
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TCYX"})
    stack = TiffStack(tmp_path / "a.tif")
    assert (layout_of(stack).stop, layout_of(stack).frame_shape) == (4, (16, 24, 2))
    with stack:
        np.testing.assert_array_equal(stack.read(2), np.moveaxis(pixels[2], 0, -1))


def test_a_stack_written_page_by_page_is_one_recording(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for i in range(5):
            writer.write(np.full((16, 24), i, np.uint8), contiguous=False, compression="zlib")
    assert middles(TiffStack(tmp_path / "a.tif"), 6) == [0, 1, 2, 3, 4, None]


def test_a_stack_with_one_page_header_for_all_images_is_mapped(tmp_path):
    path = make_stack(tmp_path / "a.tif", 5, np.uint16, imagej=True, metadata={"axes": "TYX"})
    # As in ImageJ's stacks of more than 4 GB: end the chain of page headers after the first.
    with tifffile.TiffFile(path) as file:
        offset, n_tags = file.pages[0].offset, len(file.pages[0].tags)
    data = bytearray(path.read_bytes())
    end = offset + 2 + 12 * n_tags
    data[end : end + 4] = b"\0" * 4
    path.write_bytes(data)
    with tifffile.TiffFile(path) as file:
        assert len(file.pages) == 1
    assert middles(TiffStack(path), 6) == [0, 1, 2, 3, 4, None]


def test_a_colour_stack_is_rgb(tmp_path):
    pixels = np.arange(4 * 16 * 24 * 3).astype(np.uint8).reshape(4, 16, 24, 3)
    for planar in ("contig", "separate"):
        tifffile.imwrite(
            tmp_path / "a.tif", pixels if planar == "contig" else np.moveaxis(pixels, -1, 1),
            photometric="rgb", planarconfig=planar, metadata=None,
        )  # fmt: skip
        with TiffStack(tmp_path / "a.tif") as stack:
            assert (stack.layout.stop, stack.layout.frame_shape) == (4, (16, 24, 3))
            np.testing.assert_array_equal(stack.read(2), pixels[2])


def test_a_stack_over_time_and_depth_is_an_error(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 16, 24), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with pytest.raises(RecordingError, match=r"must be a stack of images over time .*its axes are T Z Y X"):
        layout_of(TiffStack(tmp_path / "a.tif"))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_other_numbers_than_eight_or_sixteen_bits_are_an_error(tmp_path, dtype):
    path = make_stack(tmp_path / "a.tif", 2, dtype)
    with pytest.raises(
        RecordingError, match=rf"image 0: images must have 8 or 16 bits without sign; got {dtype.__name__}"
    ):
        layout_of(TiffStack(path))


def test_a_file_that_is_not_a_tiff_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"nothing of the kind")
    for name in ("a.tif", "absent.tif"):
        with pytest.raises(RecordingError, match=name):
            layout_of(TiffStack(tmp_path / name))


def test_a_damaged_page_is_an_error_that_names_it(tmp_path):
    path = make_stack(tmp_path / "a.tif", 3, compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[2].dataoffsets[0]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(data)
    with pytest.raises(RecordingError, match=r"a\.tif, image 2: cannot be read"):
        middles(TiffStack(path), 3)


def test_a_list_may_mix_tiff_png_and_jpeg(tmp_path):
    gray = np.full((16, 24), 40, np.uint8)
    tifffile.imwrite(tmp_path / "0.tif", gray, compression="lzw")
    cv2.imwrite(str(tmp_path / "1.png"), gray + 1)
    cv2.imwrite(str(tmp_path / "2.jpg"), gray + 2)
    images = in_order([tmp_path / name for name in ("0.tif", "1.png", "2.jpg")])
    assert middles(images, 3) == [40, 41, 42]
    assert images.path == tmp_path


def test_a_colour_image_is_rgb(tmp_path):
    red = np.zeros((16, 24, 3), np.uint8)
    red[..., 2] = 200  # OpenCV's order
    cv2.imwrite(str(tmp_path / "a.png"), red)
    with in_order([tmp_path / "a.png"]) as images:
        assert images.read(0)[5, 5].tolist() == [200, 0, 0]


def test_a_png_of_sixteen_bits_is_read_unchanged(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.full((16, 24), 40000, np.uint16))
    assert middles(in_order([tmp_path / "a.png"]), 1) == [40000]


def test_the_number_in_a_name_is_the_frame_index(tmp_path):
    names = ["t152.tif", "t150.tif"]
    for name in names:
        tifffile.imwrite(tmp_path / name, np.zeros((4, 4), np.uint8))
    images = by_number([tmp_path / name for name in names])
    assert list(images.files) == [150, 152]
    assert (layout_of(images).start, layout_of(images).stop) == (150, 153)


def test_names_without_a_number_or_with_the_same_one_are_errors(tmp_path):
    with pytest.raises(RecordingError, match=r"cell\.tif: the name must end in the frame's number"):
        by_number([tmp_path / "cell.tif"])
    with pytest.raises(RecordingError, match=r"t01\.tif: t001\.tif already has frame 1"):
        by_number([tmp_path / "t001.tif", tmp_path / "t01.tif"])


def test_a_missing_image_of_a_list_is_an_error_that_names_it(tmp_path):
    make_stack(tmp_path / "a.tif", 1)
    with pytest.raises(RecordingError, match=r"b\.tif: no such image"):
        layout_of(in_order([tmp_path / "a.tif", tmp_path / "b.tif"]))


def test_a_path_may_be_a_stack_a_video_or_a_folder(tmp_path):
    make_stack(tmp_path / "a.tif", 3)
    make_video(tmp_path / "a.mp4", 4)
    (tmp_path / "images").mkdir()
    for i in range(5):
        make_stack(tmp_path / "images" / f"{i}.tif", 1)
    assert [layout_of(image_source(tmp_path / name)).stop for name in ("a.tif", "a.mp4", "images")] == [3, 4, 5]
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecordingError, match="empty: no image in this folder"):
        image_source(tmp_path / "empty")
