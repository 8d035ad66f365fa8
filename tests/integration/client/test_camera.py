"""The camera program and a real daemon: a looping file, an address that goes and returns, signals, `trackd live`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import sleap_io
from daemon_process import DaemonProcess, fixed_ports, wait_until

from trackd_client import Client
from trackd_client.apps.camera.camera import Camera
from trackd_client.apps.camera.grabber import Playing
from trackd_client.apps.camera.options import CameraOptions
from trackd_client.apps.camera.run import CameraCommand, open_camera, run_camera

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from arena import arena, write_video

N_FRAMES, ANIMALS = 90, 3
SLOW_S = 60.0  # a bound for conditions on a machine that is busy


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A video of an arena, and the true centres (F, A, 2)."""
    images, centres, _ = arena(N_FRAMES, ANIMALS, (320, 240), seed=5)
    return write_video(tmp_path_factory.mktemp("arena") / "my_arena.mp4", images), centres


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    with DaemonProcess(f"out_dir={tmp_path_factory.mktemp('out')}") as made:
        yield made


@pytest.fixture
def client(daemon):
    with Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=30) as made:
        yield made


def program(*words: str, of: str = "trackd_client.apps.cli") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", of, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "400"},
    )


def at(daemon: DaemonProcess) -> list[str]:
    return ["--ingest", daemon.ingest, "--tracks", daemon.tracks, "--control", daemon.control, "--timeout-s", "30"]


def n_images(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    n = 0
    while capture.grab():
        n += 1
    return n


def settled(client: Client, stream: str):
    found, seq = [], 0
    while page := client.history(stream, from_seq=seq):
        found += page
        seq = page[-1].seq + 1
    return found


def test_a_looping_file_has_stable_ids_true_indices_and_rising_stamps(scene, client):
    path, centres = scene
    playing = Playing(speed=2.0, loop=True, lossless=True)
    opened = open_camera(
        CameraCommand(str(path), animals=ANIMALS, playing=playing, options=CameraOptions(stream="loop"))
    )
    camera = opened.camera(client)
    began_ns = time.time_ns()
    threading.Timer(SLOW_S, camera.stop).start()
    done = camera.run(lambda now: camera.stop() if now.sent > N_FRAMES + 20 else None)
    assert done.sent > N_FRAMES + 20
    assert (done.lost, done.rejected, len(done.ids)) == (0, 0, ANIMALS)
    assert done.p99_ms is not None
    assert done.p99_ms >= done.p50_ms > 0
    tracks = settled(client, "loop")
    assert [each.frame_index for each in tracks] == list(range(done.sent))
    times = [each.t_ns for each in tracks]
    assert times == sorted(set(times))
    assert began_ns < times[0]
    assert times[-1] < time.time_ns()
    owners: dict[int, set[int]] = {}
    for each in tracks[:N_FRAMES]:
        middles = (each.boxes[:, :2] + each.boxes[:, 2:]) / 2
        distances = np.linalg.norm(middles[:, None] - centres[each.frame_index], axis=2)
        for row, animal in enumerate(distances.argmin(axis=1)):
            if distances[row].min() < 8:
                owners.setdefault(int(each.track_ids[row]), set()).add(int(animal))
    assert sorted(map(len, owners.values())) == [1] * ANIMALS, "each id is one animal"
    assert len(set.union(*owners.values())) == ANIMALS


def test_a_slow_detector_loses_frames_and_their_numbers_are_gaps(scene, client):
    opened = open_camera(CameraCommand(str(scene[0]), playing=Playing(speed=1.0), options=CameraOptions(stream="slow")))
    inner = opened.detector

    class Slow(type(inner)):
        def __call__(self, image):
            time.sleep(0.15)
            return inner(image)

    slow = object.__new__(Slow)
    slow.skeleton, slow.prepare = inner.skeleton, inner.prepare
    done = Camera(client, opened.grabber, slow, opened.options).run()
    tracks = settled(client, "slow")
    indices = [each.frame_index for each in tracks]
    assert done.grabbed == N_FRAMES
    assert 0 < done.sent < N_FRAMES
    assert done.lost == indices[-1] + 1 - done.sent > 0
    assert indices == sorted(set(indices))


class MjpegServer:
    """A camera at an address: JPEGs over HTTP, 20 a second, until `stop`."""

    def __init__(self, port: int = 0) -> None:
        ended = self._ended = threading.Event()
        _, jpeg = cv2.imencode(".jpg", np.full((120, 160, 3), 180, np.uint8))

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                while not ended.is_set():
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                    try:
                        self.wfile.write(head.encode() + jpeg.tobytes() + b"\r\n")
                    except OSError:
                        return
                    time.sleep(0.05)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()


def test_an_address_that_goes_and_returns_is_one_stream(client):
    server = MjpegServer()
    opened = open_camera(
        CameraCommand(
            f"http://127.0.0.1:{server.port}/a.mjpg",
            options=CameraOptions(stream="address"),
            detector_options=["warm_up=5"],
        )
    )
    camera = opened.camera(client)
    results = []
    runner = threading.Thread(target=lambda: results.append(camera.run()), daemon=True)
    runner.start()
    wait_until(lambda: camera.progress().sent >= 5, SLOW_S, "frames of the first server")
    server.stop()
    before = camera.progress().sent
    server = MjpegServer(server.port)
    try:
        wait_until(lambda: camera.progress().reconnects == 1, SLOW_S, "the reconnect")
        wait_until(lambda: camera.progress().sent >= before + 10, SLOW_S, "frames of the second server")
    finally:
        camera.stop()
        runner.join(SLOW_S)
        server.stop()
    (done,) = results
    tracks = settled(client, "address")
    assert len(tracks) == done.sent
    assert all(first.frame_index < second.frame_index for first, second in pairwise(tracks))
    assert max(second.t_ns - first.t_ns for first, second in pairwise(tracks)) > 0.3e9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_program_with_code_0_and_a_finished_video(scene, daemon, client, tmp_path, number):
    name = f"signal{int(number)}"
    words = ["camera", str(scene[0]), "--loop", "--stream", name, "--record", str(tmp_path), "--jpeg-quality", "80"]
    camera = program(*words, *at(daemon))
    try:
        wait_until(lambda: name in [row.stream for row in client.status().streams], SLOW_S, "the stream")
        wait_until(lambda: client.live_position(name)[1] >= 20, SLOW_S, "20 frames")
        camera.send_signal(number)
        stdout, stderr = camera.communicate(timeout=SLOW_S)
    finally:
        camera.kill()
    assert camera.returncode == 0, stderr
    last = settled(client, name)[-1].frame_index
    assert n_images(tmp_path / f"{name}.mp4") == last + 1
    assert f"wrote {tmp_path}/{name}.mp4" in stdout
    assert name not in [row.stream for row in client.status().streams], "its stream is closed"


def test_a_detector_that_fails_ends_the_camera_with_one_line(scene, daemon, tmp_path):
    (tmp_path / "broken.py").write_text("def nothing(image): return None\ndef raises(image): return {}['mask']\n")
    for name, text in (
        ("nothing", "the detector must return trackd_client.Detections; got None"),
        ("raises", "the detector failed at frame 0: KeyError: 'mask'"),
    ):
        words = [sys.executable, "-m", "trackd_client.apps.cli", "camera", str(scene[0]), "--stream", name, *at(daemon)]
        result = subprocess.run(
            [*words, "--detector", f"broken:{name}"], cwd=tmp_path, capture_output=True, text=True, timeout=SLOW_S
        )
        assert (result.returncode, result.stderr) == (2, f"trackd-client: {text}\n")


def test_a_camera_that_finds_nothing_says_so_and_why(scene, client, capsys):
    words = CameraCommand(
        str(scene[0]),
        detector_options=["min_area=5000"],
        playing=Playing(lossless=True),
        options=CameraOptions(stream="none"),
    )
    run_camera(open_camera(words).camera(client))
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(
        rf"none: no detections in {N_FRAMES} frames: the largest region had \d+ pixels, and min_area is 5000", said
    )


def test_a_camera_that_was_killed_is_continued_with_its_ids_and_numbers(scene, daemon, client):
    words = ["camera", str(scene[0]), "--loop", "--stream", "killed", "--animals", str(ANIMALS), "--takeover"]
    cameras = []
    try:
        for seq in (20, 60):
            cameras.append(program(*words, *at(daemon)))
            wait_until(lambda: "killed" in [row.stream for row in client.status().streams], SLOW_S, "the stream")
            wait_until(lambda seq=seq: client.live_position("killed")[1] >= seq, SLOW_S, f"{seq} frames")
            cameras[-1].send_signal(signal.SIGKILL if seq == 20 else signal.SIGINT)
            _, stderr = cameras[-1].communicate(timeout=SLOW_S)
    finally:
        for camera in cameras:
            camera.kill()
    assert [camera.returncode for camera in cameras] == [-signal.SIGKILL, 0], stderr
    tracks = settled(client, "killed")
    assert len({each.epoch for each in tracks}) == 1
    assert [each.seq for each in tracks] == list(range(len(tracks)))
    assert all(first.frame_index < second.frame_index for first, second in pairwise(tracks))
    assert set(np.concatenate([each.track_ids for each in tracks])) <= set(range(ANIMALS))


def test_live_is_one_command_from_a_video_to_tracked_files(scene, tmp_path):
    ports = dict(word.removeprefix("daemon.endpoints.").split("=") for word in fixed_ports())
    words = [f"--{name}={address}" for name, address in ports.items()]
    http = fixed_ports()[0].rpartition(":")[2]
    record = tmp_path / "record"
    live = program(
        "live", str(scene[0]), "--animals", str(ANIMALS), "--record", str(record), "--lossless",
        f"--http=http://127.0.0.1:{http}", *words, of="trackd.cli",
    )  # fmt: skip
    try:
        assert live.stdout is not None
        line = live.stdout.readline()
        assert line.startswith(f"watch it at http://127.0.0.1:{http}/")
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/healthz", timeout=30) as answer:
            assert answer.status == 200
        stdout, stderr = live.communicate(timeout=2 * SLOW_S)
    finally:
        live.terminate()
    assert live.returncode == 0, stderr
    assert f"my_arena: {N_FRAMES} frames" in stdout
    labels = sleap_io.load_slp(str(record / "my_arena.slp"), open_videos=False)
    (video,) = labels.videos
    assert Path(video.filename) == record / "my_arena.mp4"
    assert video.shape[0] == N_FRAMES == n_images(record / "my_arena.mp4")
    assert len(labels.tracks) == ANIMALS
    assert len((record / "my_arena.csv").read_text().splitlines()) == N_FRAMES * ANIMALS + 1
    assert (record / "messages").is_dir(), "where recordings that the page starts are written to"
    assert all(name in stdout for name in ("my_arena.mp4", "my_arena.slp", "my_arena.csv"))


def test_live_uses_a_daemon_that_runs(scene, daemon, client):
    words = [f"--{name}={getattr(daemon, name)}" for name in ("ingest", "tracks", "control", "http")]
    live = program("live", str(scene[0]), "--speed", "max", "--stream", "shared", *words, of="trackd.cli")
    stdout, stderr = live.communicate(timeout=2 * SLOW_S)
    assert live.returncode == 0, stderr
    assert f"watch it at {daemon.http}/" in stdout
    assert len(settled(client, "shared")) == N_FRAMES


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["no/such.mp4"], "no/such.mp4: no such file, and not a camera's number"),
        (["0", "--detector", "backround"], "--detector is one of background"),
        (["{scene}", "--control", "tcp://192.0.2.1:5572"], "no daemon answers at tcp://192.0.2.1:5572, and none can"),
        (["videotestsrc ! appsink"], "this OpenCV is built without GStreamer"),
    ],
)
def test_what_cannot_be_opened_is_one_line_before_any_daemon_is_started(scene, words, text):
    made = program("live", *(word.format(scene=scene[0]) for word in words), of="trackd.cli")
    stdout, stderr = made.communicate(timeout=SLOW_S)
    assert made.returncode in (1, 2)
    assert (stdout, stderr.count("\n")) == ("", 1)
    assert text in stderr
