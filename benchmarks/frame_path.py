"""The path of one frame through the daemon: the files it enters, the calls it takes, the values it becomes.

    python benchmarks/frame_path.py [--frames 20] [--list]

A real daemon runs in this process with the `motion` scorer, without a journal and without outputs. A client in the same
process sends frames of two boxes in a closed loop. A profiler in the daemon's IO and engine threads records, for one
frame at a time:

- calls: of Python functions of this project, compiled functions and comprehensions included;
- files: in which these functions are;
- values: classes of this project that are constructed, each once. The constructors that `dataclass` generates are
  counted here and not as calls. Values that are a part of a message (`PARTS`) are not counted.

The median over the frames is printed. `--list` also prints the calls of the last frame, in order.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from trackd.config import check_config
from trackd.daemon import Daemon
from trackd_client import Client, Detections

PACKAGES = ("trackd/", "trackd_client/")
WARM_UP = 30  # frames, after which both tracks exist and all buffers are allocated
PAUSE_S = 0.02  # after a reply; the IO thread reaches its poll within that time
PARTS = frozenset({"Detections", "FrameHead", "Timing", "PartList", "Ack"})


@dataclass
class FramePath:
    """The records of one frame."""

    calls: list[str] = field(default_factory=list)  # "file:function", in order
    values: list[str] = field(default_factory=list)  # class names, in order of construction

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(call.partition(":")[0] for call in self.calls))


class Profiler:
    """Records the calls of a thread while `path` is set."""

    def __init__(self) -> None:
        self.path: FramePath | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        path = self.path
        if path is None or event != "call" or threading.current_thread().name not in ("io", "engine"):
            return
        code = frame.f_code
        owner = frame.f_locals.get("self", frame.f_locals.get("_cls"))
        owner_type = owner if isinstance(owner, type) else type(owner)
        is_project_value = owner_type.__module__.partition(".")[0] in ("trackd", "trackd_client")
        if code.co_name in ("__init__", "__new__") and is_project_value and owner_type.__name__ not in path.values:
            path.values.append(owner_type.__name__)
        start = max(code.co_filename.rfind(package) for package in PACKAGES)
        if start >= 0 and "site-packages" not in code.co_filename:
            path.calls.append(f"{code.co_filename[start:]}:{code.co_qualname}")


def frame_paths(frames: int) -> list[FramePath]:
    """Record the paths of several frames, one by one."""
    profiler = Profiler()
    endpoints = dict.fromkeys(("ingest", "tracks", "control"), "tcp://127.0.0.1:*")
    daemon = Daemon(check_config({"daemon": {"endpoints": endpoints, "http": None}}))
    threading.setprofile(profiler)
    daemon.start()
    threading.setprofile(None)  # type: ignore[arg-type]
    paths = []
    try:
        bound = {name: daemon.addresses[name] for name in endpoints}
        with Client(**bound) as client, client.open_stream("camera", reply="tracks") as stream:
            for step in range(WARM_UP + frames):
                boxes = np.array([[10 + step, 20, 50 + step, 60], [300 - step, 20, 340 - step, 60]], np.float32)
                path = profiler.path = FramePath() if step >= WARM_UP else None
                stream.track(None, Detections(boxes=boxes))
                time.sleep(PAUSE_S)
                profiler.path = None
                if path is not None:
                    paths.append(path)
                time.sleep(PAUSE_S)
    finally:
        daemon.close()
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--list", action="store_true", help="print the calls of the last frame")
    arguments = parser.parse_args()
    paths = frame_paths(arguments.frames)
    values = [[name for name in path.values if name not in PARTS] for path in paths]
    for name, counts in (
        ("files", [len(path.files) for path in paths]),
        ("calls", [len(path.calls) for path in paths]),
        ("values", [len(names) for names in values]),
    ):
        print(f"{name:7} median {statistics.median(counts):g}, {min(counts)} to {max(counts)}")
    print("values:", ", ".join(values[-1]))
    if arguments.list:
        print(*paths[-1].calls, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
