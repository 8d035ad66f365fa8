"""Fuzz target: the readers of recordings. A file is played, or refused in one line of a `RecordingError`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from fuzz_harness import check_text, work_folder
from recording_files import make_trackmate, spot, write_trackmate_csv

from trackd.evaluation.mot_truth import MotTruth
from trackd_client.configuration import ConfigError
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.limits import RecordingLimits
from trackd_client.recordings.recording import Clip, RecordingError

PACKAGES = ["trackd_client.recordings", "trackd.evaluation.mot_truth"]
MOST_MS = 1000
MOST_MB = 64
PARTED = b"|~|"  # between the files of a recording
WORDS = (PARTED, b"1e300", b"nan", b"inf", b"-1", b"1099511627776", b"9999999999999999999999", b"0.5", b"<Spot ", b"/>",
         b"<Edge ", b"SPOT_SOURCE_ID=\"", b"TRACK_ID=\"", b"ROI_N_POINTS=\"", b"FRAME=\"", b"nframes=\"", b"<track>",
         b"<detection ", b"<particle>", b"linklist", b"<!DOCTYPE ", b"&#0;", b"\"", b"'=", b"\xef\xbb\xbf", b"\0",
         b"seqLength=", b"imWidth=", b"X#wcentroid (cm)", b"blobid", b"FRAME,", b"TRACK_ID,", b"VISIBILITY,",
         b"encoding=\"utf-16\"", b"encoding=\"big5\"", b"ImageJ=1.53\nimages=", b"frames=", b"<OME ", b"SizeT=\"",
         b"{\"shape\": [", b"\"track_ids\":[", b"\"keypoints\":[", b"\"names\":{\"0\":",
         b"\"track_id\":", b"\"bbox\":[", b"\"segmentation\":[[", b"\"shape\": [", b"\"chunks\": [",
         b"\"id\": \"pickle\"", b"\"dtype\": \"|O\"", b"individuals", b"\xff\xff\xff\xff", b"\0\1\0\0")  # fmt: skip
LIMITS = RecordingLimits(recording_frames=10_000, image_pixels=1 << 20, instances=256)
ISBI = '<root><TrackContestISBI2012><particle><detection t="{}" x="5" y="5"/></particle></TrackContestISBI2012></root>'
ICY = (
    '<root><trackgroup description="a"><track id="1"><detection t="0" x="1" y="2"/></track><track id="2">'
    '<detection t="1" x="3" y="4"/></track></trackgroup><linklist><link from="1" to="2"/></linklist></root>'
)
OME = (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    'DimensionOrder="XYZCT" Type="uint8" SizeX="6" SizeY="4" SizeZ="1" SizeC="1" SizeT="2" PhysicalSizeX="0.5" '
    'PhysicalSizeY="0.5"><TiffData IFD="0" PlaneCount="2"/></Pixels></Image></OME>'
)
# Arrays of a graph, and the names of their pieces.
_ARRAYS = {"nodes/ids": "0", "edges/ids": "0.0"} | {f"nodes/props/{name}/values": "0" for name in ("t", "y", "x")}
GEFF = ("a.geff/.zattrs", *(f"a.geff/{name}/{part}" for name, piece in _ARRAYS.items() for part in (".zarray", piece)))
FOLDER = work_folder()


@dataclass(frozen=True)
class Kind:
    """A kind of recording: the names of its files, and the keys that name it."""

    files: tuple[str, ...]
    keys: dict[str, Any]


# The first byte of an input selects one.
KINDS = (
    Kind(("a.xml",), {"tracks": ["a.xml"]}),
    Kind(("a_spots.csv", "a_edges.csv"), {"tracks": ["a_spots.csv"]}),
    Kind(("cells.csv", "cells_ground_truth.json", "cells_graph.json"), {"tracks": ["cells.csv"]}),
    Kind(("a_fish1.csv", "a.settings"), {"tracks": ["a_fish1.csv"]}),
    Kind(("a.txt", "seqinfo.ini", "gt.txt"), {"det_files": ["a.txt"], "gt_files": ["gt.txt"]}),
    Kind(("t000.tif", "man_track.txt"), {"gt_images": [["t000.tif"]], "gt_list": ["man_track.txt"]}),
    Kind(("a.csv", "a.tif"), {"tracks": ["a.csv"], "videos": ["a.tif"]}),
    Kind(("a.csv", "0.png"), {"tracks": ["a.csv"], "videos": [["0.png"]]}),
    Kind(("a.jsonl",), {"track_files": ["a.jsonl"]}),
    Kind(("a.csv",), {"track_files": ["a.csv"]}),
    Kind(("a.json",), {"track_files": ["a.json"]}),
    Kind(GEFF, {"track_files": ["a.geff"]}),
)


def seeds() -> Iterator[bytes]:
    """A small valid recording of each format."""
    folder = FOLDER / "seeds"
    folder.mkdir(exist_ok=True)
    outline = 'ID="2" POSITION_X="5" POSITION_Y="5" FRAME="1" ROI_N_POINTS="3" RADIUS="2">0 0 3 0 0 3'
    model = make_trackmate(folder / "a.xml", {0: [spot(0, 5, 5)], 1: [spot(1, 6, 5), outline]}, {3: [(0, 1)]})
    yield _joined(0, model.read_bytes())
    yield _joined(0, ISBI.format(1).encode())
    yield _joined(0, ICY.encode())
    table = write_trackmate_csv(folder / "a.csv", "0,ID0,7,1,1,0,2,1", "1,ID1,ø,2,2,1,2,1", unit="(pixel)")
    edges = b"SPOT_SOURCE_ID,SPOT_TARGET_ID\n0,1\n"
    yield _joined(1, table.read_bytes(), edges)
    yield _joined(1, "Track n°,Slice n°,X,Y,Distance,Velocity,Pixel Value\n1,1,5,6,-1,-1,7\n".encode("latin-1"))
    yield _joined(2, b"t,x,y,z\n0,1,2,0\n1,3,4,0\n", b'{"1": [0], "2": [1]}', b'{"2": [1]}')
    yield _joined(3, b"frame,X#wcentroid (cm),Y#wcentroid (cm)\n0,1,2\n1,inf,inf\n", b"cm_per_pixel = 0.5\n")
    yield _joined(3, b"frame,X (px),blobid\n0,1,524352\n")
    yield _joined(3, b"frame,x,y,id,left,top,width,height\n0,1,2,3,0,1,2,2\n")
    info = b"[Sequence]\nname=a\nframeRate=30\nseqLength=3\nimWidth=64\nimHeight=48\n"
    yield _joined(
        4, b"1,-1,1,1,5,5,0.5,-1,-1,-1\n3,-1,2,2,5,5,1,-1,-1,-1\n", info, b"1,4,1,1,5,5,1,1,1\n2,4,2,2,5,5,1,1,1\n"
    )
    labels = np.zeros((4, 6), np.uint16)
    labels[1:3, 1:3] = 7
    yield _joined(5, _tiff(labels, compression="zlib"), b"7 0 3 0\n")
    yield _joined(5, _tiff(labels, tile=(16, 16)), b"7 0 3 0\n8 4 5 7\n")
    points = b"frame,x,y\n0,1,1\n"
    stack = np.zeros((2, 4, 6), np.uint8)
    yield _joined(6, points, _tiff(stack, photometric="minisblack"))
    yield _joined(6, points, _tiff(stack, imagej=True, metadata={"axes": "TYX", "unit": "um"}, resolution=(2, 2)))
    yield _joined(6, points, _tiff(stack, description=OME, metadata=None, photometric="minisblack"))
    yield _joined(6, points, _tiff(np.zeros((4, 6, 3), np.uint8), photometric="rgb", compression="jpeg"))
    yield _joined(
        8,
        b'{"trackd":1,"stream":"a","source":null,"frame_shape":[4,6],"fps":10.0,"nodes":["a","b"],"edges":[[0,1]]}\n'
        b'{"frame_index":0,"t_ns":5,"track_ids":[0,-1],"track_scores":[null,0.5],"boxes":[[1,1,2,2],[2,2,3,3]],'
        b'"keypoints":[[[1,1],[2,2]],[[2,2],[null,null]]],"names":{"0":"x"},"parents":{"0":3}}\n',
    )
    columns = b"frame_index,t_ns,detection,track_id,track_score,score,x1,y1,x2,y2,nose_x,nose_y,nose_score\n"
    yield _joined(9, columns + b"0,5,0,3,0.5,1,1,1,2,2,1.5,1.5,0.25\n1,9,-1,-1,,,,,,,,,\n")
    about = columns[:-1] + b",track_name,parent_id,corrections\n"
    yield _joined(9, about + b'0,5,0,3,0.5,1,1,1,2,2,1.5,1.5,0.25,Ann,2,"[{""number"":1}]"\n1,9,-1,-1,,,,,,,,,,,-1,\n')
    yield _joined(
        9, b"scorer,N,N,N\nindividuals,a,a,b\nbodyparts,p,p,p\ncoords,x,y,likelihood\n0,1,2,0.5\nimg7.png,,,\n"
    )
    annotation = b'{"image_id":1,"category_id":1,"bbox":[1,1,2,2],"track_id":3,"score":0.5,"keypoints":[1,1,2,0,0,0]}'
    other = b'{"image_id":1,"segmentation":[[1,1,2,2,1,3]],"attributes":{"object_id":"4"}}'
    yield _joined(
        10,
        b'{"images":[{"id":1,"file_name":"a_12.png","width":6,"height":4,"frame_index":2,"t_ns":5}],"annotations":['
        + annotation + b"," + other + b'],"categories":[{"id":1,"keypoints":["a","b"],"skeleton":[[1,2]]}],'
        b'"tracks":[{"id":3,"name":"x","parent_id":null}],"corrections":[[2,[{"number":1}]]]}',
    )  # fmt: skip
    graph = (
        b'{"geff":{"directed":true,"axes":[{"name":"t","type":"time"},{"name":"y","type":"space"},'
        b'{"name":"x","type":"space"}],"extra":{"trackd":{"names":{"0":"a"},"parents":{"1":0},"fps":10}}}}'
    )
    arrays = (np.arange(3), np.array([[0, 1]]), np.array([0, 1, 3]), np.arange(3.0), np.arange(3.0))
    yield _joined(11, graph, *(body for array in arrays for body in (_zarray(array), array.tobytes())))
    colour = np.zeros((4, 6, 3), np.uint8)
    for suffix in (".png", ".jpg", ".bmp"):
        yield _joined(7, points, cv2.imencode(suffix, colour)[1].tobytes())


def run(data: bytes) -> None:
    """Write the files of an input, and play them."""
    number = data[0] % len(KINDS) if data else 0
    kind = KINDS[number]
    bodies = data[1:].split(PARTED)
    place = FOLDER / f"kind{number}"
    place.mkdir(exist_ok=True)
    for name, body in itertools.zip_longest(kind.files, bodies[: len(kind.files)]):
        if body is None:
            (place / name).unlink(missing_ok=True)
        else:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(body)
    try:
        play(place, kind.keys)
        if "gt_files" in kind.keys:
            MotTruth(place / "gt.txt", LIMITS).after(-1)
    except (RecordingError, ConfigError) as error:
        check_text(error)


def play(place: Path, keys: dict[str, Any]) -> None:
    """Read all that a replay reads of a recording: its properties, the first frames and the last one."""
    dataset = TestDataset(clip_length=4, crop_size=8, seed=0, **keys)
    (recording,) = open_recordings(dataset, DataloaderConfig(), place, LIMITS)
    assert 0 <= len(recording) <= LIMITS.recording_frames
    _ = (recording.fps, recording.skeleton, recording.frame_shape, recording.lineage, recording.source)
    for _ in itertools.islice(recording.frames(), 3):
        pass
    if len(recording):
        stop = recording.clips[-1].stop
        for frame in recording.frames([Clip(stop - 1, stop)]):
            assert frame.frame_index == stop - 1


def _joined(number: int, *bodies: bytes) -> bytes:
    return bytes([number]) + PARTED.join(bodies)


def _zarray(array: np.ndarray) -> bytes:
    about = {"zarr_format": 2, "shape": list(array.shape), "chunks": list(array.shape), "dtype": array.dtype.str,
             "compressor": None, "filters": None, "fill_value": 0, "order": "C"}  # fmt: skip
    return json.dumps(about).encode()


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    path = FOLDER / "seed.tif"
    tifffile.imwrite(path, pixels, **options)
    return path.read_bytes()
