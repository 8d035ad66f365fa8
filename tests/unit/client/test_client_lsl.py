"""`trackd-client lsl` on a stand-in for pylsl with its documented interface."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from typing import Any

import numpy as np

from trackd_client.apps.lsl import LslOutlets, sample
from trackd_client.protocol import Event, EventName, Status, Tracks


class Element:
    """An XML element of a stream's description."""

    def __init__(self) -> None:
        self.values: list[tuple[str, str]] = []
        self.children: list[Element] = []

    def append_child(self, name: str) -> Element:
        self.children.append(Element())
        return self.children[-1]

    def append_child_value(self, name: str, value: str) -> Element:
        self.values.append((name, value))
        return self


class Info:
    def __init__(self, name: str, type_: str, channel_count: int, nominal_srate: float, channel_format: str,
                 source_id: str) -> None:  # fmt: skip
        self.name, self.type, self.count, self.format = name, type_, channel_count, channel_format
        self.description = Element()

    def desc(self) -> Element:
        return self.description


class Pylsl:
    """The parts of the module that the program uses. Its clock is at 1000 s."""

    def __init__(self) -> None:
        self.pushed: dict[str, list[tuple[Any, float]]] = {}
        self.infos: dict[str, Info] = {}
        self.StreamInfo = Info
        outer = self

        class StreamOutlet:
            def __init__(self, info: Info) -> None:
                outer.infos[info.name] = info
                self._samples = outer.pushed.setdefault(info.name, [])
                self._count = info.count

            def push_sample(self, x: list[Any], timestamp: float = 0.0) -> None:
                assert len(x) == self._count
                self._samples.append((x, timestamp))

        self.StreamOutlet = StreamOutlet

    def local_clock(self) -> float:
        return 1000.0


def frame(t_ns: int, **lists) -> Tracks:
    return Tracks(
        "cam", 1, 3, 30, t_ns, Status.TRACKED, track_ids=np.array([2, -1, 0, 9], "<i4"),
        track_scores=np.array([0.5, 0.1, np.nan, 0.9], "<f4"),
        boxes=np.array([[0, 0, 2, 4], [0, 0, 1, 1], [10, 10, 20, 30], [0, 0, 1, 1]], "<f4"), **lists,
    )  # fmt: skip


def test_a_sample_has_the_channels_of_each_id_and_nan_for_those_that_are_absent():
    values = sample(frame(0), 3)
    assert values[:2] == [15.0, 20.0]
    assert values[6:] == [1.0, 2.0, 0.5]
    assert all(math.isnan(value) for value in values[2:6])


def test_positions_and_events_have_the_capture_time_by_the_clock_of_lsl():
    pylsl = Pylsl()
    outlets = LslOutlets(pylsl, 3)
    outlets.tracks(frame(time.time_ns() - 250_000_000, new_tracks=(2,)))
    ((_, stamp),) = pylsl.pushed["trackd-cam"]
    assert 990 < stamp <= 999.75  # generous to a machine that pauses this test
    ((row, event_stamp),) = pylsl.pushed["trackd-cam-events"]
    assert (json.loads(row[0])["event"], json.loads(row[0])["track"], event_stamp) == ("new", 2, stamp)
    outlets.event(Event("cam", EventName.HEARTBEAT, 1, 3))
    outlets.event(Event("cam", EventName.CLOSED, 1, 3))
    assert [json.loads(x[0])["event"] for x, _ in pylsl.pushed["trackd-cam-events"]] == ["new", "closed"]


def test_the_channels_have_labels_and_units():
    pylsl = Pylsl()
    LslOutlets(pylsl, 2).tracks(frame(0))
    info = pylsl.infos["trackd-cam"]
    assert (info.type, info.count, info.format) == ("Position", 6, "float32")
    labels = [channel.values[0] for channel in info.desc().children[0].children]
    assert labels[:3] == [("label", "track 0 x"), ("label", "track 0 y"), ("label", "track 0 score")]
    assert pylsl.infos.get("trackd-cam-events") is None


def test_without_pylsl_one_line_names_the_extra():
    code = "import sys; sys.modules['pylsl'] = None; sys.argv = ['trackd-client', 'lsl']; "
    code += "from trackd_client.apps.cli import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert (
        ended.stderr
        == "trackd-client: pylsl is not installed; the extra lsl has it: pip install 'trackd-client[lsl]'\n"
    )
