"""The four examples of docs/contributing.md run: each is its file as printed and its line in the table."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from trackd.config import Config, TrackerConfig, check_config
from trackd.daemon import wire_limits
from trackd.engine.inbox import Inbox
from trackd.engine.outbox import Outbox
from trackd.models.motion.scorer import MotionScorer
from trackd.models.registry import ModelRegistry
from trackd.observe.metrics import Metrics
from trackd.output_formats import WRITERS, OutputFormat
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import open_writer
from trackd.server.access.grants import UNRESTRICTED
from trackd.server.control.call import DaemonParts
from trackd.server.control.control import Control
from trackd.server.session import Sessions
from trackd.server.unavailable import UnavailableStreams
from trackd.tracking.instances import Instances
from trackd.tracking.rules import rules
from trackd.tracking.tracker import Tracker
from trackd_client.apps.replay import read_replay
from trackd_client.detections import Detections
from trackd_client.protocol import Request, encode
from trackd_client.recordings.config import LiveDataset
from trackd_client.recordings.labels import label_files

PAGE = (Path(__file__).parents[2] / "docs" / "contributing.md").read_text()


def section(title: str) -> str:
    """The text under one heading."""
    _, _, text = PAGE.partition(f"\n## {title}\n")
    assert text, f"docs/contributing.md has no section {title!r}"
    return text.partition("\n## ")[0]


def example(title: str) -> tuple[ModuleType, str]:
    """The module that a section prints, and the path that it names for it."""
    text = section(title)
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    path = re.search(r"`((?:daemon|clients/python)/\S+\.py)`:", text)
    assert code is not None
    assert path is not None
    name = path[1].removeprefix("daemon/").removeprefix("clients/python/").removesuffix(".py").replace("/", ".")
    module = ModuleType(name)
    exec(compile(code[1], path[1], "exec"), module.__dict__)
    return module, path[1]


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:daemon|clients|tests)/[\w/.]+\.py)`", PAGE))))
def test_the_named_files_exist_and_those_of_the_examples_do_not(path: str) -> None:
    new = {
        example(title)[1] for title in ("A tracking rule", "An output format", "A control method", "A recording format")
    }
    assert (Path(__file__).parents[2] / path).exists() == (path not in new)


def test_the_rule_refuses_small_instances(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = example("A tracking rule")

    class Settings(TrackerConfig):
        min_area: float = 0.0

    monkeypatch.setattr(rules, "RULES", [*rules.RULES, module.RULE])
    boxes = np.array([[0, 0, 20, 20], [100, 0, 105, 5]], np.float32)
    for min_area, ids in ((0.0, [0, 1]), (100.0, [0, 2])):
        tracker = Tracker(Settings(min_area=min_area), MotionScorer(use_vis_feats=False))
        for index in range(2):
            found = tracker.step(index, index, Instances.of(Detections(boxes=boxes), LiveDataset()))
        assert found.track_ids.tolist() == ids


def test_the_output_format_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module, _ = example("An output format")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    line = re.search(r'`("count": OutputFormat\(.*?\))`', section("An output format"))
    assert line is not None
    entry = eval(f"{{{line[1]}}}", {"OutputFormat": OutputFormat})
    monkeypatch.setitem(WRITERS, "count", entry["count"])
    assert check_config({"stream": {"outputs": ["count"]}}).stream.outputs == ["count"]
    with open_writer("count", tmp_path, StreamInfo("cells", None, None, None, None)) as writer:
        writer.write(OutputRecord(3, 0, np.array([4, -1], np.int32), np.ones(2), np.zeros((2, 4))))
    assert writer.path.read_text() == "3 1\n"


def test_the_control_method_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _ = example("A control method")
    assert '`"stream.epoch": epochs.epoch`' in section("A control method")
    replies: list[Any] = []
    monkeypatch.setattr("trackd.server.control.control.try_send", lambda socket, parts: replies.append(parts) or True)

    class Session:
        name, epoch, closing = "cam", 7, False

    sessions = Sessions(lambda: 0.0)
    monkeypatch.setattr(sessions, "get", lambda name: Session() if name == "cam" else None)
    streams = SimpleNamespace(unavailable=UnavailableStreams(None, None, None), fleet=None)  # type: ignore[arg-type]
    parts = DaemonParts(sessions, streams, Inbox(1), Outbox(), ModelRegistry(Config()), None, lambda: None, 0.0, None)  # type: ignore[arg-type]
    control = Control(None, parts, Metrics(Inbox(1)), wire_limits(Config().limits), {"stream.epoch": module.epoch})  # type: ignore[arg-type]
    for stream in ("cam", "none"):
        control.handle([b"id"], encode(Request(1, "stream.epoch", {"stream": stream})), UNRESTRICTED)
    assert b"epoch\x07" in replies[0][1]
    assert b"unknown_stream" in replies[1][1]


def test_the_recording_format_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module, _ = example("A recording format")
    monkeypatch.setattr(label_files, "LABEL_FORMATS", (*label_files.LABEL_FORMATS, module.POINTS))
    (tmp_path / "cells.points").write_text("0 7 1.5 2\n1 7 2.5 2\n1 8 9 9\n")
    path = tmp_path / "replay.yaml"
    path.write_text(yaml.safe_dump({"dataset": {"test_dataset": {"tracks": "cells.points"}}}))
    (recording,) = read_replay(path, []).recordings
    assert [frame.detections.gt_ids.tolist() for frame in recording.frames()] == [[7], [7, 8]]
