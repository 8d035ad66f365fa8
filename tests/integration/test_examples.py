"""The examples in `examples/` run as processes beside a real daemon; their ids are compared with what is known."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import numpy as np
import pytest
import zmq
from daemon_process import DaemonProcess, fixed_ports

from trackd.commands.demo.recording import DemoRecording, make_recording
from trackd_client import Client, Detections

EXAMPLES = Path(__file__).parents[2] / "examples"
LONG_S = 90.0
N_FRAMES = 90
N_ANIMALS = 3
NEAR_PX = 12.0  # of an animal's true place: the recording's poses are jittered
# Parts of examples, each with one that uses it.
PARTS = {"program.py": "closed_loop.py", "recorded.py": "closed_loop.py", "node_zeromq.mjs": "node_client.mjs"}
NODES = {  # of Bonsai's own packages, in its public workflows
    "Combinator", "MemberSelector", "Parse", "cv:CameraCapture", "cv:EncodeImage", "dsp:ConvertToArray", "zmq:Push",
    "zmq:Subscriber", "zmq:ConvertToString",
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[DaemonProcess]:
    with DaemonProcess() as made:
        yield made


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> DemoRecording:
    return make_recording(tmp_path_factory.mktemp("demo"), seed=1, n_frames=N_FRAMES, n_animals=N_ANIMALS)


@contextmanager
def started(*words: str, env: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=LONG_S)


def python(name: str, *options: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *options]


def addresses(daemon: DaemonProcess, *names: str) -> list[str]:
    return [word for name in names for word in (f"--{name}", daemon.addresses[name])]


def output_of(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=LONG_S)
    assert (process.returncode, err) == (0, "")
    return out.splitlines()


def run(daemon: DaemonProcess, name: str, *options: str) -> list[str]:
    """Run an example with all addresses; return what it printed."""
    with started(*python(name, *addresses(daemon, "ingest", "tracks", "control"), *options)) as process:
        return output_of(process)


def program(daemon: DaemonProcess, *words: str) -> list[str]:
    """The command line of `trackd-client`."""
    return [sys.executable, "-m", "trackd_client.apps.cli", *words, *addresses(daemon, "tracks", "control")]


def animal_at(recording: DemoRecording, frame_index: int, points: np.ndarray) -> int:
    """The animal of a pose (3, 2)."""
    distances = np.abs(np.load(recording.truth)["keypoints"][frame_index] - points).max(axis=(1, 2))
    assert distances.min() < NEAR_PX
    return int(distances.argmin())


def assert_lasting(seen: list[tuple[int, int]]) -> dict[int, int]:
    """Check pairs of a track and its animal: each track is one animal and each animal one track; return the pairs."""
    pairs = dict(seen)
    assert set(seen) == set(pairs.items())
    assert len(set(pairs.values())) == len(pairs)
    return pairs


def test_a_closed_loop_decides_by_the_place_of_the_animal_with_an_id(daemon, recording):
    words = ["--recording", str(recording.slp), "--animals", str(N_ANIMALS), "--zone-x", "320"]
    *lines, last = run(daemon, "closed_loop.py", *words)
    assert re.fullmatch(rf"{N_FRAMES} frames; from capture to decision: p50 [\d.]+ ms, p99 [\d.]+ ms", last)
    with Client(daemon.ingest, daemon.tracks, daemon.control) as client:
        rows = client.history("closed-loop", from_seq=0, limit=256)
    assert [row.frame_index for row in rows] == list(range(N_FRAMES))
    seen = [
        (track, animal_at(recording, row.frame_index, pose))
        for row in rows
        for track, pose in zip(row.track_ids.tolist(), row.keypoints, strict=True)
    ]
    animal = assert_lasting(seen)[0]
    keypoints = np.load(recording.truth)["keypoints"][:, animal, :, 0]
    x = (keypoints.min(axis=1) + keypoints.max(axis=1)) / 2
    found = [re.fullmatch(r"frame (\d+): track 0 at x=(\d+): light (on|off)", line) for line in lines]
    switches = {int(each[1]): each[3] == "on" for each in found if each}
    assert len(switches) == len(lines) > 1
    is_on = False
    for frame_index in range(N_FRAMES):
        is_on = switches.get(frame_index, is_on)
        assert is_on == (x[frame_index] < 320) or abs(x[frame_index] - 320) < NEAR_PX


def test_two_cameras_are_merged_by_capture_time(daemon):
    *lines, last = run(daemon, "two_cameras.py", "--seconds", "1")
    assert last == "merged 30 frames of left, 20 frames of right"
    found = [re.fullmatch(r"([\d.]+) s (left|right) (\d+): ids \[0 1\]", line) for line in lines]
    assert all(found)
    times = [float(each[1]) for each in found]
    assert times == sorted(times)
    for name, count in (("left", 30), ("right", 20)):
        assert [int(each[3]) for each in found if each[2] == name] == list(range(count))
    cameras = [each[2] for each in found]
    assert cameras.index("right") < len(cameras) - 1 - cameras[::-1].index("left"), "one camera after the other"


def test_poses_of_sleap_have_lasting_ids_and_the_names_of_their_nodes(daemon, recording):
    words = ["--recording", str(recording.slp), "--frames", "45", "--every", "11"]
    lines = run(daemon, "sleap_loop.py", *words)
    number = r"(-?\d+),(-?\d+)"
    pattern = re.compile(rf"frame (\d+) track (\d+): head {number} thorax {number} tail {number}")
    found = [pattern.fullmatch(line) for line in lines]
    assert all(found)
    rows = [tuple(map(int, each.groups())) for each in found]
    assert {row[0] for row in rows} == {0, 11, 22, 33, 44}
    pairs = assert_lasting([(row[1], animal_at(recording, row[0], np.reshape(row[2:], (3, 2)))) for row in rows])
    assert sorted(pairs) == list(range(N_ANIMALS))


def test_boxes_of_yolo_have_lasting_ids_and_the_names_of_their_classes(daemon, recording):
    words = ["--recording", str(recording.slp), "--frames", "45", "--every", "11"]
    lines = run(daemon, "yolo_loop.py", *words)
    found = [re.fullmatch(r"frame (\d+) track (\d+): fish (-?\d+) (-?\d+) (-?\d+) (-?\d+)", line) for line in lines]
    assert all(found)
    keypoints = np.load(recording.truth)["keypoints"]
    seen = []
    for frame_index, track, *box in (map(int, each.groups()) for each in found):
        poses = keypoints[frame_index]
        true = np.concatenate([poses.min(axis=1) - 8, poses.max(axis=1) + 8], axis=1)
        assert np.abs(true - box).max(axis=1).min() < NEAR_PX
        seen.append((track, int(np.abs(true - box).max(axis=1).argmin())))
    assert sorted(assert_lasting(seen)) == list(range(N_ANIMALS))


def test_the_messages_of_bonsais_nodes_go_through_the_relay(daemon):
    images, ids = (word.partition("=")[2] for word in fixed_ports()[:2])
    between = ["--images", images, "--ids", ids]
    relay_words = [*addresses(daemon, "ingest", "tracks", "control"), *between, "--detector", "colour", "--idle-s", "5"]
    with started(*python("bonsai_relay.py", *relay_words)) as relay:
        assert relay.stdout is not None
        assert relay.stdout.readline() == "ready\n"
        words = [*addresses(daemon, "tracks", "control"), *between, "--frames", "20"]
        with started(*python("bonsai_nodes.py", *words)) as nodes:
            first, *lines = output_of(nodes)
        (last,) = output_of(relay)
    assert first == "the daemon is ready: True"
    of_relay = [line.split()[1:] for line in lines if line.startswith("cam/0/ ")]
    frames = [int(frame) for frame, _, _ in of_relay]
    assert len(frames) >= 20
    assert frames == sorted(set(frames))
    assert last == f"{int(last.split()[0])} images"
    seen = []
    for frame, x, y in ((int(frame), float(x), float(y)) for frame, x, y in of_relay):
        angles = frame / 15 + np.arange(3)
        discs = np.stack([60 + 100 * np.arange(3) + 25 * np.cos(angles), 120 + 25 * np.sin(angles)], axis=1)
        distances = np.abs(discs - (x, y)).max(axis=1)
        assert distances.min() < 4
        seen.append((0, int(distances.argmin())))
    assert_lasting(seen)
    of_daemon = [line.removeprefix("tracks/cam/ ids ") for line in lines if line.startswith("tracks/cam/ ids ")]
    assert of_daemon
    assert {" ".join(sorted(line.split())) for line in of_daemon} == {"0 1 2"}


def test_the_workflow_of_bonsai_has_known_nodes_and_the_addresses_of_the_relay():
    tree = xml.etree.ElementTree.parse(EXAMPLES / "bonsai_workflow.bonsai")
    kinds = {value for each in tree.iter() for name, value in each.attrib.items() if name.endswith("}type")}
    assert kinds == NODES
    texts = {each.tag.rpartition("}")[2]: [] for each in tree.iter()}
    for each in tree.iter():
        texts[each.tag.rpartition("}")[2]].append(each.text)
    relay = (EXAMPLES / "bonsai_relay.py").read_text()
    assert [f'"{text.removeprefix(">")}"' in relay for text in texts["ConnectionString"]] == [True, True]
    assert texts["Topic"] == ["cam/0/"]
    edges = [(int(each.get("From")), int(each.get("To"))) for each in tree.iter() if each.tag.endswith("}Edge")]
    assert edges == [(0, 1), (1, 2), (2, 3), (4, 5), (5, 6), (6, 7)]
    assert len(texts["Expression"]) == 8


def test_a_dealer_node_of_bonsai_is_refused_by_ingest_as_the_readme_says(daemon):
    """Its first part is empty, and it drops the first part of each answer."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger, dealer.rcvtimeo = 0, round(1000 * LONG_S)
        dealer.connect(daemon.ingest)
        dealer.send_multipart([b"", msgpack.packb({"v": 1, "kind": "open", "stream": "dealer"})])
        answer = dealer.recv_multipart()
    assert msgpack.unpackb(answer[0])["code"] == "bad_message"
    assert "an empty part" in (EXAMPLES / "README.md").read_text()


def test_a_client_in_node_needs_no_package(daemon):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed; this test runs examples/node_client.mjs with it")
    command = [node, str(EXAMPLES / "node_client.mjs"), "--ingest", daemon.ingest]
    with started(*command, "--frames", "30") as process:
        assert output_of(process) == [f"frame {i}: ids 0 1" for i in range(30)]
    with started(*command, "--frame", "30") as process:
        _, err = process.communicate(timeout=LONG_S)
        assert (process.returncode, err) == (1, "node_client.mjs: Unknown option '--frame'\n")


def loopback_of_lsl(path: Path) -> dict[str, str]:
    """A configuration of LSL on loopback, with ports of its own; as an environment."""
    ports = [int(word.rpartition(":")[2]) for word in fixed_ports()]
    path.write_text(
        f"[ports]\nBasePort = {ports[0]}\nPortRange = 32\nMulticastPort = {ports[1]}\nIPv6 = disable\n"
        "[multicast]\nResolveScope = machine\nListenAddress = 127.0.0.1\n"
        f"[lab]\nKnownPeers = {{127.0.0.1}}\nSessionID = test{ports[2]}\n[log]\nlevel = -2\n"
    )
    return {"LSLAPICFG": str(path)}


def test_a_recorder_of_lsl_gets_the_places_of_the_tracks_at_their_capture_times(daemon, tmp_path):
    if importlib.util.find_spec("pylsl") is None:
        pytest.skip("pylsl is not installed; this test reads the outlets of trackd-client lsl with it")
    env = loopback_of_lsl(tmp_path / "lsl_api.cfg")
    captured: list[int] = []  # by frame index
    ended = threading.Event()

    def camera() -> None:
        with Client(daemon.ingest) as client, client.open_stream("lsl", frame_shape=(480, 640)) as stream:
            for index in range(3000):
                if ended.wait(1 / 30):
                    return
                captured.append(time.time_ns())
                boxes = np.array([[index, 40, index + 20, 60], [500, 300, 520, 320]], np.float32)
                stream.send(None, Detections(boxes=boxes), t_ns=captured[-1])

    with started(*program(daemon, "lsl", "lsl"), env=env) as lsl:
        assert lsl.stderr is not None
        lines = iter(lsl.stderr.readline, "")
        assert "ready\n" in lines, "it ended"
        thread = threading.Thread(target=camera)
        thread.start()
        try:
            words = python("lsl_recorder.py", "--stream", "lsl", "--samples", "30", "--timeout-s", "60")
            with started(*words, env=env) as recorder:
                out, err = recorder.communicate(timeout=LONG_S)
        finally:
            ended.set()
            thread.join(LONG_S)
    assert recorder.returncode == 0, err
    found = [re.fullmatch(r"([\d.]+) s 0: ([\d.]+),50\.0  1: 510\.0,310\.0", line) for line in out.splitlines()]
    assert len(found) == 30
    assert all(found)
    indices = [round(float(each[2])) - 10 for each in found]
    assert indices == list(range(indices[0], indices[0] + 30))
    stamps = np.array([float(each[1]) for each in found])
    times = np.array([captured[index] for index in indices])
    # The clocks of LSL and of Unix have different beginnings; a pause between the reading of the two delays one stamp.
    assert np.median(np.abs((stamps - stamps[0]) - (times - times[0]) / 1e9)) < 0.1


def test_the_trigger_rules_fire_into_the_listening_socket(daemon, recording, tmp_path):
    rules = tmp_path / "trigger_rules.yaml"
    with started(*python("trigger_listener.py", "--port", "0", "--count", "2"), env={"PYTHONUNBUFFERED": "1"}) as heard:
        assert heard.stdout is not None
        port = heard.stdout.readline().removeprefix("listening on port ").strip()
        text = (EXAMPLES / "trigger_rules.yaml").read_text()
        assert text.count("127.0.0.1:9000") == 1
        rules.write_text(text.replace("127.0.0.1:9000", f"127.0.0.1:{port}"))
        with started(*program(daemon, "trigger", str(rules))) as trigger:
            assert trigger.stderr is not None
            assert trigger.stderr.readline() == "ready rules=2 actions=1\n"
            run(daemon, "closed_loop.py", "--recording", str(recording.slp), "--animals", str(N_ANIMALS))
            lines = output_of(heard)
            trigger.send_signal(signal.SIGTERM)
            _, err = trigger.communicate(timeout=LONG_S)
    assert trigger.returncode == 0, err
    # Only track 0 of this recording begins in the zone, and it leaves it; 10 px beyond the edge count as inside.
    found = [re.fullmatch(r"(enters|leaves) track 0 at ([\d.]+), [\d.]+", line) for line in lines]
    assert [each and each[1] for each in found] == ["enters", "leaves"], lines
    assert float(found[0][2]) < 320 < 330 < float(found[1][2]) < 330 + NEAR_PX


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (["closed_loop.py", "--recording", "none.slp"], 1, "closed_loop.py: none.slp: no such recording; .*"),
        (["two_cameras.py", "--seconds", "x"], 2, "two_cameras.py: argument --seconds: invalid float value: 'x'"),
        (["trigger_listener.py", "--port", "0", "--timeout-s", "0.1"], 1, "trigger_listener.py: timed out"),
    ],
)
def test_an_error_is_one_line(words, code, line):
    with started(*python(*words)) as process:
        _, err = process.communicate(timeout=LONG_S)
    assert process.returncode == code
    assert re.fullmatch(line + "\n", err)


def test_every_file_is_in_the_readme_and_run_by_a_test():
    names = {path.name for path in EXAMPLES.iterdir() if path.is_file()} - {"README.md"}
    assert len(names) > 10
    readme = (EXAMPLES / "README.md").read_text()
    assert [name for name in sorted(names) if f"]({name})" not in readme] == []
    assert [name for name in re.findall(r"\]\(([\w.]+)\)", readme) if name not in names] == []
    tests = Path(__file__).read_text()
    assert [name for name in sorted(names - set(PARTS)) if f'"{name}"' not in tests] == []
    for part, user in PARTS.items():
        assert part.removesuffix(".py") in (EXAMPLES / user).read_text()
