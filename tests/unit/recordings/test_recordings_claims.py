"""Files that claim far more than they hold: each is refused in one line, in little time and memory."""

import re
import struct
import time
import zlib
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import tifffile
from recording_files import (
    make_skeleton,
    make_slp,
    make_stack,
    make_trackmate,
    make_video,
    spot,
    user,
    write_labels,
    write_trackmate_csv,
)

from trackd_client.configuration import ConfigError
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.limits import DEFAULT_LIMITS, RecordingLimits
from trackd_client.recordings.recording import RecordingError

MOST_MB = 200  # most of them are packages that the first test imports
MOST_S = 5.0  # of a machine with both cores busy; each takes some milliseconds
SMALL = RecordingLimits(recording_frames=1000, image_pixels=10_000, instances=10)


def read(base, limits=DEFAULT_LIMITS, **keys):
    """Open the one recording of these keys, and count its clips and its first frame's detections."""
    (recording,) = open_recordings(TestDataset(fps=30.0, **keys), DataloaderConfig(), base, limits)
    n_frames = len(recording)
    return n_frames, len(next(iter(recording.frames())).detections)


@pytest.fixture
def cheap():
    """Fail if the test takes much time or memory."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the resident memory begins here
    before, started = resident_mb("VmRSS"), time.process_time()
    yield
    assert resident_mb("VmHWM") - before < MOST_MB
    assert time.process_time() - started < MOST_S


def resident_mb(key):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def refused(base, match, limits=DEFAULT_LIMITS, **keys):
    with pytest.raises(RecordingError, match=match) as raised:
        read(base, limits, **keys)
    text = str(raised.value)
    assert "\n" not in text
    assert len(text) < 400 + len(str(base))


# ---- frame numbers


@pytest.mark.usefixtures("cheap")
def test_a_trackmate_frame_number(tmp_path):
    make_trackmate(tmp_path / "a.xml", {10**9: [spot(0, 5, 5)]}, {})
    refused(tmp_path, r"a.xml: claims 1000000001 frames; limits.recording_frames is 10000000", tracks=["a.xml"])


@pytest.mark.usefixtures("cheap")
def test_a_trackmate_number_of_frames(tmp_path):
    image = f'width="40" height="30" nframes="{2**40}" pixelwidth="1" pixelheight="1"'
    make_trackmate(tmp_path / "a.xml", {0: [spot(0, 5, 5)]}, {}, image=image)
    refused(tmp_path, r"a.xml: claims 1099511627776 frames; limits", tracks=["a.xml"])


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("frame", [10**9, 10**12])
def test_a_frame_number_of_a_table(tmp_path, frame):
    write_trackmate_csv(tmp_path / "a.csv", f"0,ID0,0,1,1,{frame},1,1", unit="(pixel)")
    refused(tmp_path, rf"a.csv: claims {frame + 1} frames; limits", tracks=["a.csv"])


@pytest.mark.parametrize("number", ["1e300", str(2**64), str(10**40)])
def test_a_number_beyond_64_bits(tmp_path, number):
    write_trackmate_csv(tmp_path / "a.csv", f"0,ID0,0,1,1,{number},1,1", unit="(pixel)")
    refused(tmp_path, r"a.csv, row 5: FRAME must be at most 2⁵³", tracks=["a.csv"])
    write_trackmate_csv(tmp_path / "a.csv", f"0,ID0,{number},1,1,0,1,1", unit="(pixel)")
    refused(tmp_path, r"a.csv, row 5: TRACK_ID must be at most 2⁵³", tracks=["a.csv"])
    make_trackmate(tmp_path / "a.xml", {0: [spot(0, 5, 5, number)]}, {})
    refused(tmp_path, r"a.xml, line \d+, <Spot>: attribute FRAME must be at most 2⁵³", tracks=["a.xml"])


@pytest.mark.usefixtures("cheap")
def test_a_mot_frame_number(tmp_path):
    (tmp_path / "a.txt").write_text(f"1,1,1,1,5,5,1\n{2 * 10**9},1,1,1,5,5,1\n")
    refused(
        tmp_path, r"a.txt, row 2: claims 2000000000 frames; limits.recording_frames is 10000000", det_files=["a.txt"]
    )


def test_a_mot_id_beyond_64_bits(tmp_path):
    (tmp_path / "a.txt").write_text("1,1e300,1,1,5,5,1\n")
    refused(tmp_path, r"a.txt, row 1: an id is a whole number up to 2⁵³", det_files=["a.txt"])


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seqLength=1099511627776", "seqinfo.ini: claims 1099511627776 frames; limits.recording_frames"),
        ("imWidth=200000\nimHeight=200000", "seqinfo.ini: claims an image of 200000 × 200000; .*limits.image_pixels"),
        ("imWidth=-5\nimHeight=5", "seqinfo.ini: claims an image of 5 × -5"),
    ],
)
def test_a_sequence_description(tmp_path, line, message):
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1\n")
    (tmp_path / "seqinfo.ini").write_text(f"[Sequence]\n{line}\n")
    refused(tmp_path, message, det_files=["a.txt"])


def test_a_number_in_a_file_name(tmp_path):
    write_labels(tmp_path / "labels", {f"t{n}.tif": np.zeros((8, 8), np.uint16) for n in ("001", "20261128101500")})
    refused(tmp_path, r"t20261128101500.tif: claims 20261128101501 frames", gt_images=["labels"])


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("clip_length", [1, 32])
def test_two_frames_far_apart_cost_their_rows_only(tmp_path, clip_length):
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1\n2000000,1,1,1,5,5,1\n")
    assert read(tmp_path, det_files=["a.txt"], clip_length=clip_length) == (2_000_000, 1)
    make_trackmate(tmp_path / "a.xml", {0: [spot(0, 5, 5)], 1_999_999: [spot(1, 5, 5)]}, {})
    assert read(tmp_path, tracks=["a.xml"], clip_length=clip_length) == (2_000_000, 1)


def test_a_limit_can_be_set(tmp_path):
    (tmp_path / "a.txt").write_text("1001,1,1,1,5,5,1\n")
    refused(tmp_path, r"claims 1001 frames; limits.recording_frames is 1000", SMALL, det_files=["a.txt"])
    assert read(tmp_path, det_files=["a.txt"]) == (1001, 0)


def test_more_clips_than_streams_can_be_are_not_shuffled(tmp_path):
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1\n2000000,1,1,1,5,5,1\n")
    dataset = TestDataset(det_files=["a.txt"], clip_length=1)
    loader = DataloaderConfig.model_validate({"test_dataloader": {"shuffle": True}})
    with pytest.raises(RecordingError, match=r"shuffle plays every clip .* at most 100000; there are 2000000"):
        open_recordings(dataset, loader, tmp_path)


def test_crowds(tmp_path):
    rows = "".join(f"7,{i},1,1,5,5,1\n" for i in range(11))
    (tmp_path / "a.txt").write_text(rows)
    refused(tmp_path, r"a.txt: frame 6 has more than 10 instances \(limits.instances\)", SMALL, det_files=["a.txt"])
    make_trackmate(tmp_path / "a.xml", {3: [spot(i, 5, 5) for i in range(11)]}, {})
    refused(tmp_path, r"a.xml: frame 3 has more than 10 instances", SMALL, tracks=["a.xml"])
    (tmp_path / "b.txt").write_text(rows.replace("7,0,", "8,0,"))
    assert read(tmp_path, SMALL, det_files=["b.txt"])[0] == 8


def test_a_frame_rate_that_no_clock_can_hold(tmp_path):
    (tmp_path / "a.txt").write_text("1,1,1,1,5,5,1\n9,1,1,1,5,5,1\n")
    (recording,) = open_recordings(TestDataset(det_files=["a.txt"], fps=1e-10), DataloaderConfig(), tmp_path)
    with pytest.raises(RecordingError, match=r"a: frame 1 would be 1e\+10 s after the first.*dataset.test_dataset.fps"):
        list(recording.frames())


# ---- XML


def test_elements_nested_too_deep(tmp_path):
    (tmp_path / "a.xml").write_text("<a>" * 5000 + "</a>" * 5000)
    refused(tmp_path, r"a.xml, line 1: elements are nested in more than 64 others", tracks=["a.xml"])


@pytest.mark.parametrize("encoding", ["UTF-6", "big5", "utf-7", "rot13", "idna", "undefined"])
def test_an_encoding_that_is_unknown_or_has_several_bytes(tmp_path, encoding):
    (tmp_path / "a.xml").write_text(f'<?xml version="1.0" encoding="{encoding}"?><TrackMate>ab</TrackMate>')
    refused(tmp_path, r"a.xml(, line \d+)?: (not XML in a known encoding|not well-formed|<)", tracks=["a.xml"])


@pytest.mark.usefixtures("cheap")
def test_long_lists_and_texts_take_time_by_their_length(tmp_path):
    n = 20_000
    outline = "\n".join(["1.5"] * (2 * n))
    shape = f'ID="0" POSITION_X="5" POSITION_Y="5" FRAME="0" ROI_N_POINTS="{n}">{outline}'
    make_trackmate(tmp_path / "a.xml", {0: [shape]}, {}, filtered=range(n))
    assert read(tmp_path, tracks=["a.xml"]) == (1, 1)


@pytest.mark.parametrize("text", ["nan 1 2 3", "inf 1 2 3"])
def test_an_outline_that_is_not_finite(tmp_path, text):
    shape = f'ID="0" POSITION_X="5" POSITION_Y="5" FRAME="0" ROI_N_POINTS="2">{text}'
    make_trackmate(tmp_path / "a.xml", {0: [shape]}, {})
    refused(tmp_path, r"<Spot>: ROI_N_POINTS is 2, so its text must be 4 finite numbers", tracks=["a.xml"])


@pytest.mark.usefixtures("cheap")
def test_an_outline_far_outside_the_image(tmp_path):
    shape = 'ID="0" POSITION_X="5" POSITION_Y="5" FRAME="0" ROI_N_POINTS="3">-2e9 -2e9 2e9 -2e9 0 2e9'
    make_trackmate(tmp_path / "a.xml", {0: [shape]}, {})
    (recording,) = open_recordings(TestDataset(tracks=["a.xml"], fps=30.0), DataloaderConfig(), tmp_path)
    assert (next(iter(recording.frames())).detections.masks == 1).all()


def test_a_track_number_of_thousands_of_digits(tmp_path):
    (tmp_path / "cells.csv").write_text("t,x,y,z\n0,1,1,0\n")
    (tmp_path / "cells_ground_truth.json").write_text(f'{{"{"9" * 5000}": [0]}}')
    refused(
        tmp_path, r"cells_ground_truth.json, track '9{40}': must be a number .* at most 15 digits", tracks=["cells.csv"]
    )


# ---- SLEAP


def slp(path, **changes):
    """A small file in which tables are replaced: a dict of `create_dataset`'s arguments, or a function of the rows."""
    worm = make_skeleton()
    make_slp(path, {0: [user(worm, [[1, 1], [2, 2]])], 3: [user(worm, [[1, 1], [2, 2]])]})
    with h5py.File(path, "a") as file:
        for name, change in changes.items():
            rows = file[name][()]
            del file[name]
            if callable(change):
                rows = rows.copy()
                change(rows)
                file.create_dataset(name, data=rows)
            else:
                file.create_dataset(name, dtype=rows.dtype, **change)
    return path


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("table", ["frames", "instances", "points", "pred_points"])
def test_an_slp_table_that_was_never_written(tmp_path, table):
    slp(tmp_path / "a.slp", **{table: {"shape": (10**9,), "chunks": (1024,)}})
    refused(tmp_path, rf"a.slp, {table}: claims \d+ bytes in shape \[1000000000\].* holds 0 bytes", slp_files=["a.slp"])


@pytest.mark.usefixtures("cheap")
def test_an_slp_table_of_zeros_that_deflate_makes_small(tmp_path):
    rows = {"shape": (4_000_000,), "chunks": (100_000,), "compression": "gzip", "compression_opts": 9}
    slp(tmp_path / "a.slp", points=rows)
    with h5py.File(tmp_path / "a.slp", "a") as file:
        for first in range(0, 4_000_000, 400_000):
            file["points"][first : first + 400_000] = np.zeros(400_000, file["points"].dtype)
    assert (tmp_path / "a.slp").stat().st_size < 600_000
    refused(tmp_path, r"a.slp, points: claims \d+ bytes .* at most 32 times as many", slp_files=["a.slp"])


def test_an_slp_frame_number(tmp_path):
    def change(rows):
        rows["frame_idx"][1] = 10**9

    slp(tmp_path / "a.slp", frames=change)
    refused(tmp_path, r"a.slp, frames: claims 1000000001 frames; limits", slp_files=["a.slp"])


def test_slp_frames_that_share_instances(tmp_path):
    def change(rows):
        rows["instance_id_start"], rows["instance_id_end"] = 0, 2

    slp(tmp_path / "a.slp", frames=change)
    refused(tmp_path, r"a.slp, frames: instance_id_start .* must name rows from 0 to 2, each once", slp_files=["a.slp"])


def test_slp_instances_that_share_points(tmp_path):
    def change(rows):
        rows["point_id_start"], rows["point_id_end"] = 0, 4

    slp(tmp_path / "a.slp", instances=change)
    refused(tmp_path, r"a.slp, instances: point_id_start .* each once", slp_files=["a.slp"])


@pytest.mark.usefixtures("cheap")
def test_slp_texts_that_are_the_same_bytes(tmp_path):
    slp(tmp_path / "a.slp")
    with h5py.File(tmp_path / "a.slp", "a") as file:
        del file["tracks_json"]
        table = file.create_dataset("tracks_json", (20_000,), h5py.string_dtype())
        table[0] = '[1, "' + "x" * 60_000 + '"]'
    # Each row refers to the heap's one text, so the first row's 16 bytes are copied to all.
    data = bytearray((tmp_path / "a.slp").read_bytes())
    with h5py.File(tmp_path / "a.slp") as file:
        at = file["tracks_json"].id.get_offset()
    data[at : at + 16 * 20_000] = bytes(data[at : at + 16]) * 20_000
    (tmp_path / "a.slp").write_bytes(bytes(data))
    refused(tmp_path, r"a.slp, tracks_json: its values have more than \d+ bytes, and the file has", slp_files=["a.slp"])


def test_an_slp_table_in_another_file(tmp_path):
    slp(tmp_path / "a.slp")
    with h5py.File(tmp_path / "a.slp", "a") as file:
        del file["points"]
        file["points"] = h5py.ExternalLink("/etc/hostname", "/points")
    refused(tmp_path, r"a.slp: points is a link to another place", slp_files=["a.slp"])


# ---- images


def page(path, **tags):
    """A TIFF file of one page with these tags, little endian, whose strip is 8 bytes at offset 8."""
    known = {"ImageWidth": 256, "ImageLength": 257, "BitsPerSample": 258, "Compression": 259, "Photometric": 262,
             "StripOffsets": 273, "SamplesPerPixel": 277, "RowsPerStrip": 278, "StripByteCounts": 279,
             "TileWidth": 322, "TileLength": 323, "TileOffsets": 324, "TileByteCounts": 325}  # fmt: skip
    values = {"ImageWidth": 4, "ImageLength": 2, "BitsPerSample": 8, "Compression": 1, "Photometric": 1,
              "StripOffsets": 8, "SamplesPerPixel": 1, "RowsPerStrip": 2, "StripByteCounts": 8, **tags}  # fmt: skip
    entries = sorted((known[name], value) for name, value in values.items() if value is not None)
    table = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    head = struct.pack("<2sHI", b"II", 42, 16) + zlib.compress(b"", 9)
    path.write_bytes(head.ljust(16, b"\0") + struct.pack("<H", len(entries)) + table + bytes(4))
    return path


def test_the_plain_page_is_read(tmp_path):
    assert tifffile.imread(page(tmp_path / "t0.tif")).shape == (2, 4)
    assert read(tmp_path, gt_images=[["t0.tif"]])[0] == 1


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("compression", [1, 8])
def test_a_tiff_page_of_a_claimed_size(tmp_path, compression):
    tags = {"ImageWidth": 1_000_000, "ImageLength": 1_000_000, "Compression": compression}
    page(tmp_path / "t0.tif", **tags)
    refused(
        tmp_path, r"t0.tif: claims an image of 1000000 × 1000000; .*image_pixels is 67108864", gt_images=[["t0.tif"]]
    )
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    refused(tmp_path, r"t0.tif: claims an image of 1000000 × 1000000", tracks=["a.csv"], videos=["t0.tif"])


@pytest.mark.usefixtures("cheap")
def test_tiff_tiles_of_a_claimed_size(tmp_path):
    tags = {"TileWidth": 2**20, "TileLength": 2**20, "TileOffsets": 8, "TileByteCounts": 8, "Compression": 8,
            "StripOffsets": None, "StripByteCounts": None, "RowsPerStrip": None}  # fmt: skip
    page(tmp_path / "t0.tif", **tags)
    refused(tmp_path, r"t0.tif: claims tiles of \[1048576, 1048576\] pixels", gt_images=[["t0.tif"]])


@pytest.mark.usefixtures("cheap")
def test_tiff_channels(tmp_path):
    page(tmp_path / "t0.tif", SamplesPerPixel=60_000, ImageWidth=8000, ImageLength=8000, Compression=8)
    refused(tmp_path, r"t0.tif: .* up to 4 channels; .*60000", gt_images=[["t0.tif"]])


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_tiff_pages_that_form_a_circle(tmp_path, bigtiff, byteorder):
    with tifffile.TiffWriter(tmp_path / "t0.tif", bigtiff=bigtiff, byteorder=byteorder) as writer:
        for _ in range(3):
            writer.write(np.zeros((4, 6), np.uint8), contiguous=False)
    assert read(tmp_path, gt_images=[["t0.tif"]])[0] == 1
    with tifffile.TiffFile(tmp_path / "t0.tif") as file:
        first, *_, last = (page.offset for page in file.pages)
        n_tags = len(file.pages[-1].tags)
    size, code = (8, "Q") if bigtiff else (4, "I")
    with (tmp_path / "t0.tif").open("r+b") as file:
        file.seek(last + (8 + 20 * n_tags if bigtiff else 2 + 12 * n_tags))
        assert file.read(size) == bytes(size)
        file.seek(-size, 1)
        file.write(struct.pack(byteorder + code, first))
    refused(tmp_path, r"t0.tif: its pages form a circle: page 3 is an earlier one", gt_images=[["t0.tif"]])


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(
    "plane",
    [
        'SizeT="1000000000000"><TiffData/>',
        'SizeT="1"><TiffData PlaneCount="1000000000"/>',
        'SizeT="2"><TiffData FirstT="1" PlaneCount="100000000"/>',
    ],
)
def test_planes_in_ome_metadata(tmp_path, plane):
    text = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
        f'DimensionOrder="XYZCT" Type="uint8" SizeX="24" SizeY="16" SizeZ="1" SizeC="1" {plane}</Pixels></Image></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((16, 24), np.uint8), description=text, metadata=None)
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    refused(
        tmp_path,
        r"a.ome.tif: claims \d+ planes \(.*\), and the file has \d+ bytes",
        tracks=["a.csv"],
        videos=["a.ome.tif"],
    )


@pytest.mark.usefixtures("cheap")
def test_frames_in_imagej_metadata(tmp_path):
    text = "ImageJ=1.53\nimages=1000000000\nframes=1000000000\n"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((16, 24), np.uint8), description=text, metadata=None)
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    assert read(tmp_path, tracks=["a.csv"], videos=["a.tif"]) == (1, 1)  # tifffile does not believe it either


def test_a_jpeg_within_a_tiff_page_states_its_own_size(tmp_path):
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    at = jpeg.index(b"\xff\xc0") + 5
    jpeg[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    page(tmp_path / "t0.tif", ImageWidth=16, ImageLength=16, RowsPerStrip=16, Compression=7, StripOffsets=4096,
         StripByteCounts=len(jpeg))  # fmt: skip
    with (tmp_path / "t0.tif").open("r+b") as file:
        file.seek(4096)
        file.write(jpeg)
    refused(tmp_path, r"t0.tif: claims an image of 60000 × 60000", gt_images=[["t0.tif"]])


def test_a_compression_without_a_bound(tmp_path):
    page(tmp_path / "t0.tif", Compression=34712)
    refused(tmp_path, r"t0.tif: compression 34712 is not read; supported: none, LZW, deflate", gt_images=[["t0.tif"]])


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def bmp(width, height):
    return (
        b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, *[0] * 6)
    )


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize(("name", "make"), [("0.png", png), ("0.bmp", bmp)])
def test_an_image_file_of_a_claimed_size(tmp_path, name, make):
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    (tmp_path / name).write_bytes(make(20_000, 20_000))
    refused(tmp_path, rf"{name}: claims an image of 20000 × 20000", tracks=["a.csv"], videos=[[name]])


@pytest.mark.usefixtures("cheap")
def test_a_chunk_of_a_png_file_of_a_claimed_length(tmp_path):
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    data = bytearray(png(6, 4))
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = struct.pack(">I", 0xFFFF0016)
    (tmp_path / "0.png").write_bytes(bytes(data))
    refused(tmp_path, r"0.png: not an image that OpenCV can decode", tracks=["a.csv"], videos=[["0.png"]])


def test_an_image_file_of_another_kind(tmp_path):
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    (tmp_path / "0.png").write_bytes(cv2.imencode(".webp", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    refused(tmp_path, r"0.png: not an image that OpenCV can decode; expected PNG, JPEG or BMP", tracks=["a.csv"],
            videos=[["0.png"]])  # fmt: skip


# ---- videos


def claim_frames(path, n):
    """Make an .mp4 claim `n` frames of 1 byte, in its table of sizes and of times."""
    data = bytearray(path.read_bytes())
    sizes, times = data.index(b"stsz") + 4, data.index(b"stts") + 4
    struct.pack_into(">II", data, sizes + 4, 1, n)
    struct.pack_into(">I", data, times + 8, n)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.usefixtures("cheap")
def test_a_video_that_claims_more_frames_than_bytes(tmp_path):
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    claim_frames(make_video(tmp_path / "a.mp4"), 2**31)
    refused(
        tmp_path,
        r"a.mp4: claims \d+ frames, and the file has \d+ bytes|not a video",
        tracks=["a.csv"],
        videos=["a.mp4"],
    )


@pytest.mark.usefixtures("cheap")
def test_frames_after_the_end_of_a_video_cost_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("20000,1,1,1,5,5,1\n")
    make_video(tmp_path / "a.mp4", 20)
    (recording,) = open_recordings(
        TestDataset(det_files=["a.txt"], video_files=["a.mp4"]), DataloaderConfig(), tmp_path
    )
    images = [frame.image is not None for frame in recording.frames()]
    assert (sum(images), len(images)) == (20, 20_000)


def test_a_stack_of_more_frames_than_the_limit(tmp_path):
    make_stack(tmp_path / "a.tif", 5)
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1,1\n")
    limits = RecordingLimits(recording_frames=4)
    refused(
        tmp_path, r"a.tif: claims 5 frames; limits.recording_frames is 4", limits, tracks=["a.csv"], videos=["a.tif"]
    )


# ---- the setting


def test_replay_takes_the_limit_from_the_configuration(tmp_path):
    from trackd_client.apps.replay import read_replay

    (tmp_path / "a.txt").write_text("1001,1,1,1,5,5,1\n")
    text = "dataset: {test_dataset: {det_files: a.txt}}\nlimits: {recording_frames: 1000, header_bytes: 65536}\n"
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(RecordingError, match=re.escape("limits.recording_frames is 1000")):
        len(read_replay(tmp_path / "a.yaml", []).recordings[0])
    assert len(read_replay(tmp_path / "a.yaml", ["limits.recording_frames=2000"]).recordings[0]) == 1001
    with pytest.raises(ConfigError, match=r"limits.recording_frames .*greater than or equal to 1; got 0"):
        read_replay(tmp_path / "a.yaml", ["limits.recording_frames=0"])
