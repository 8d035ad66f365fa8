"""The messages that take longest to check, each within the default limits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgpack
import numpy as np

_SETTINGS = [
    "window_size", "decay_time", "iou", "max_gap", "front_nodes", "outputs", "on_overload", "queue_depth", "crop_size",
    "anchors", "seed", "padding",
]  # fmt: skip
_FIELDS = ["config", "skeleton", "frame_shape", "model", "reply", "takeover", "source", "stream"]
_METHODS = ["status", "stream.configure", "history", "tracks.live", "models", "model.load", "unknown"]


def _nested(depth: int) -> Any:
    value: Any = 1
    for i in range(depth):
        value = [value] if i % 2 else {"k": value}
    return value


@cache
def values() -> dict[str, Any]:
    """Return large values by what they consist of."""
    return {
        "maps": [{}] * 65_000,
        "lists": [[]] * 65_000,
        "lists in lists": [[[]] * 1000] * 64,
        "nulls": [None] * 65_000,
        "integers": [2**63 - 1] * 7200,
        "floats": [1.5] * 7200,
        "words": ["x"] * 32_000,
        "one text": "window_siz" * 6400,
        "escapes": "\u202e" * 21_000,
        "bytes": b"\xff" * 64_000,
        "keys": {f"{i:x}": None for i in range(10_000)},
        "nested": [_nested(28)] * 1100,
        "1,024 maps": [{}] * 1024,
        "1,024 lists": [[]] * 1024,
        "1,024 keys": {f"k{i}": {} for i in range(1024)},
        "256 words": ["x" * 200] * 256,
        "256 nulls": [None] * 256,
    }


def _packed(**header: Any) -> bytes:
    return msgpack.packb({"v": 1, **header})


def opens() -> Iterator[tuple[str, bytes]]:
    """Yield `open` messages by name."""
    for kind, value in values().items():
        for key in _SETTINGS:
            yield f"open config.{key}: {kind}", _packed(kind="open", stream="x", config={key: value})
        for key in ("tracker", "stream", "dataset"):
            yield f"open config.{key}: {kind}", _packed(kind="open", stream="x", config={key: value})
        for key in _FIELDS:
            yield f"open {key}: {kind}", _packed(**{"kind": "open", "stream": "x", key: value})
        for key in ("nodes", "edges"):
            skeleton = {"nodes": ["a", "b"], "edges": [], key: value}
            yield f"open skeleton.{key}: {kind}", _packed(kind="open", stream="x", skeleton=skeleton)
        yield f"kind: {kind}", _packed(kind=value, stream="x")
        yield f"unknown key: {kind}", _packed(kind="open", stream="x", unknown=value)
    skeleton = {"nodes": ["n" * 250] * 250}
    yield "open names of long nodes", _packed(kind="open", stream="x", config={"front_nodes": ["z"]}, skeleton=skeleton)
    yield "open 1,024 edges", _packed(kind="open", stream="x", skeleton={"nodes": ["a", "b"], "edges": [[0, 1]] * 1024})
    for config in ({"window_siz" * 6000: 1}, {"tracker": {"window_siz" * 6000: 1}}):
        yield "open a long unknown key", _packed(kind="open", stream="x", config=config)
    many_lists = b"\x84\xa1v\x01\xa4kind\xa4open\xa6stream\xa1x\xa6config" + b"\xdc\x04\x00" * 500 + b"\xc0" * 60_000
    yield "500 lists that claim 1,024 items each", many_lists


def requests(stream: str) -> Iterator[tuple[str, bytes]]:
    """Yield control requests by name; `stream` is open."""
    for kind, value in values().items():
        for method in _METHODS:
            yield f"{method} params: {kind}", _packed(kind="request", id=1, method=method, params=value)
            yield f"{method} id: {kind}", _packed(kind="request", id=value, method=method, params={"stream": "nobody"})
            for key in ("stream", "epoch", "limit", "config", "name", "path"):
                params = {"stream": stream, key: value}
                yield f"{method} {key}: {kind}", _packed(kind="request", id=1, method=method, params=params)
        for key in _SETTINGS:
            params = {"stream": stream, "config": {key: value}}
            name = f"stream.configure {key}: {kind}"
            yield name, _packed(kind="request", id=1, method="stream.configure", params=params)
        for key in ("zones", "lines", "author", "number"):
            params = {"stream": stream, key: value}
            name = f"stream.set_zones {key}: {kind}"
            yield name, _packed(kind="request", id=1, method="stream.set_zones", params=params)
            if key == "zones":
                params = {"stream": stream, key: {"a": value}}
                yield f"{name}, of one", _packed(kind="request", id=1, method="stream.set_zones", params=params)
        yield f"method: {kind}", _packed(kind="request", id=1, method=value)
    line = [[1.5, 2.5], [3.5, 4.5]]
    full = {chr(0x1F400 + i) * 64: [[1.5 * k, k * k] for k in range(8)] for i in range(64)}
    for name, zones, lines in (("all", full, {}), ("too many", {}, {f"{i}": line for i in range(680)})):
        params = {"stream": stream, "zones": zones, "lines": lines}
        yield f"stream.set_zones: {name}", _packed(kind="request", id=1, method="stream.set_zones", params=params)
    yield "stream.zones: all", _packed(kind="request", id=1, method="stream.zones", params={"stream": stream})


def frame(stream: str, seq: int, n: int, keypoints: int = 0, dtype: str = "<f8") -> list[bytes]:
    """Return a frame of `n` instances side by side with all of the arrays that it may have."""
    side = int(np.ceil(np.sqrt(n)))
    corners = np.stack(np.meshgrid(np.arange(side) * 50.0, np.arange(side) * 50.0), -1).reshape(-1, 2)[:n]
    arrays = {"boxes": np.concatenate([corners, corners + 40], 1), "scores": np.ones(n)}
    if keypoints:
        arrays["keypoints"] = np.repeat(corners[:, None], keypoints, 1)
        arrays["keypoint_scores"] = np.ones((n, keypoints))
    parts = [array.astype(dtype) for array in arrays.values()]
    detections = {
        name: {"dtype": dtype, "shape": list(part.shape), "part": i + 1}
        for i, (name, part) in enumerate(zip(arrays, parts, strict=True))
    }
    head = {"stream": stream, "seq": seq, "frame_index": seq, "t_ns": seq * 10**7, "image": None}
    return [_packed(kind="frame", **head, detections=detections), *(part.tobytes() for part in parts)]
