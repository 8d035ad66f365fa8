"""What a command could not do is an exit code other than 0, one line for each cause, and a count in its summary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import yaml
from checkpoint_files import DESCRIPTOR, write_checkpoint
from daemon_process import DaemonProcess
from raw_client import RawClient, walking_boxes

from trackd.commands.demo.recording import make_recording

N_FRAMES, N_IMAGES = 40, 25
NO_IMAGE = "the model uses crops and the frame is without an image"


def run(module: str, *arguments: object, columns: int = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    env = {**os.environ, "COLUMNS": str(columns)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=env)


def replay(daemon: DaemonProcess, *arguments: object) -> subprocess.CompletedProcess[str]:
    endpoints = [word for name in ("ingest", "tracks", "control") for word in (f"--{name}", daemon.addresses[name])]
    return run("trackd_client.apps.cli", "replay", *arguments, "--speed", "max", *endpoints)


def cut_video(source: Path, n_images: int, to: Path) -> None:
    reader, writer = cv2.VideoCapture(str(source)), None
    for _ in range(n_images):
        _, image = reader.read()
        size = (image.shape[1], image.shape[0])
        writer = writer or cv2.VideoWriter(str(to), cv2.VideoWriter.fourcc(*"mp4v"), 30, size)
        writer.write(image)
    writer.release()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A recording of 40 frames whose video `short.mp4` has 25, and `short.yaml` that names them."""
    folder = tmp_path_factory.mktemp("short")
    files = make_recording(folder, seed=1, n_frames=N_FRAMES, n_animals=3, size=(320, 240))
    cut_video(files.video, N_IMAGES, folder / "short.mp4")
    write_checkpoint(folder / "tiny.ckpt", DESCRIPTOR)
    for name, video in (("whole", files.video), ("short", folder / "short.mp4")):
        dataset = {"slp_files": [str(files.slp)], "video_files": [str(video)], "crop_size": 32}
        tree = {"dataset": {"test_dataset": dataset}, "out_dir": str(folder / "out")}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    return folder


@pytest.fixture(scope="module")
def daemon(folder):
    """A daemon whose streams use the checkpoint."""
    with DaemonProcess(f"ckpt_path={folder / 'tiny.ckpt'}") as daemon:
        yield daemon


def lines_with(text: str, part: str) -> list[str]:
    return [line for line in text.splitlines() if part in line]


def cells(table: str, name: str) -> list[str]:
    """The cells of a row of a printed table."""
    (row,) = [line for line in table.splitlines() if name in line and "│" in line]
    return [cell.strip() for cell in row.split("│")[1:-1]]


def test_track_counts_rejected_frames_and_exits_with_1(folder, tmp_path):
    model = ["--set", f"ckpt_path={folder / 'tiny.ckpt'}", "--set", f"out_dir={tmp_path}"]
    result = run("trackd.cli", "track", folder / "short.yaml", *model)
    assert result.returncode == 1
    assert cells(result.stdout, "demo")[1:4] == [str(N_FRAMES), "15", "0"]
    assert result.stderr.splitlines()[-1] == (
        "trackd: 15 of 40 frames were rejected and have no ids; --allow-rejected makes this exit code 0"
    )
    (cause,) = lines_with(result.stderr, NO_IMAGE)
    assert "15 frames (25 to 39)" in cause
    (missing,) = lines_with(result.stderr, "no image source=")
    assert "15 frames (25 to 39) have no image" in missing
    allowed = run("trackd.cli", "track", folder / "short.yaml", *model, "--allow-rejected")
    assert allowed.returncode == 0, allowed.stderr
    assert len(allowed.stderr.splitlines()) == 2


def test_with_workers_a_video_that_ends_early_is_one_line_too(folder, tmp_path):
    settings = ["--set", f"out_dir={tmp_path}", "--set", "dataloader.test_dataloader.num_workers=2"]
    result = run("trackd.cli", "track", folder / "short.yaml", *settings)
    assert result.returncode == 0
    (missing,) = lines_with(result.stderr, "no image")
    assert "15 frames (25 to 39) have no image" in missing


def test_replay_counts_rejected_frames_and_exits_with_1(folder, daemon):
    result = replay(daemon, folder / "short.yaml")
    assert result.returncode == 1
    assert result.stdout.strip().endswith("0 late, 0 dropped, 15 rejected")
    assert result.stderr.splitlines()[-1] == (
        "trackd-client: 15 of 40 frames were rejected and have no ids; --allow-rejected makes this exit code 0"
    )
    (cause,) = lines_with(result.stderr, NO_IMAGE)
    assert "15 frames (25 to 39)" in cause
    assert replay(daemon, folder / "short.yaml", "--allow-rejected").returncode == 0


def test_replay_shows_the_frames_that_a_policy_drops(folder):
    with DaemonProcess("stream.deadline_ms=0.000001") as daemon:
        result = replay(daemon, folder / "whole.yaml")
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip().endswith("0 late, 40 dropped, 0 rejected")


@pytest.mark.parametrize(
    ("anchors", "text"),
    [
        ("nosuch", "anchors must name nodes of the skeleton (head, thorax, tail); got 'nosuch'"),
        ("50", "anchors must be at most the skeleton's 3 nodes; got 50"),
        ("[head, tail]", "model 'tiny': anchors must be 1 for this model, in the order of its training; got ['head', "),
    ],
)
def test_wrong_anchors_are_the_same_line_in_track_and_in_replay(folder, daemon, tmp_path, anchors, text):
    anchors = ["--set", f"dataset.test_dataset.anchors={anchors}"]
    model = [f"ckpt_path={folder / 'tiny.ckpt'}"] if "model" in text else []  # else torch need not be imported
    settings = [word for setting in (f"out_dir={tmp_path}", *model) for word in ("--set", setting)]
    tracked = run("trackd.cli", "track", folder / "whole.yaml", *anchors, *settings)
    replayed = replay(daemon, folder / "whole.yaml", *anchors)
    for program, result in (("trackd", tracked), ("trackd-client", replayed)):
        assert result.returncode == 2, result.stderr
        (line,) = lines_with(result.stderr, program)
        assert line.startswith(f"{program}: bad_config: {text}")
        assert "Traceback" not in result.stderr


def block(out_dir: Path, name: str = "demo") -> None:
    """Put a folder where the .slp file is written before it gets its name."""
    (out_dir / f".{name}.partial.slp").mkdir(parents=True)


def test_an_output_of_track_that_cannot_be_finished_is_exit_code_1(folder, tmp_path):
    block(tmp_path)
    result = run("trackd.cli", "track", folder / "whole.yaml", "--set", f"out_dir={tmp_path}")
    assert result.returncode == 1
    assert f"wrote {tmp_path / 'demo.txt'}" in result.stdout
    assert "demo.slp" not in result.stdout
    assert result.stderr.splitlines()[-1] == (
        f"trackd: 1 records or files could not be written to {tmp_path}; the log names each"
    )
    (tmp_path / ".demo.partial.slp").rmdir()
    recovered = run("trackd.cli", "outputs", "recover", tmp_path)
    assert (recovered.returncode, recovered.stdout) == (0, f"wrote {tmp_path / 'demo.slp'}\n")


def test_an_output_that_serve_cannot_finish_is_exit_code_1_and_so_is_a_part_that_cannot_be_recovered(tmp_path):
    block(tmp_path, "left")
    with DaemonProcess(f"out_dir={tmp_path}", "stream.outputs=[slp]") as daemon, RawClient(daemon.addresses) as client:
        for name in ("left", "right"):
            client.open(name)
            client.frame(name, 0, walking_boxes(0))
            client.recv_kind("ack")
        code, stderr = daemon.stop()
    assert code == 1
    assert stderr.splitlines()[-1] == f"trackd: {tmp_path / 'left.slp'} could not be finished; the log names the reason"
    assert (tmp_path / "right.slp").exists()
    (tmp_path / "right.slp").unlink()
    (tmp_path / "right.slp.part").write_bytes((tmp_path / "left.slp.part").read_bytes())
    recovered = run("trackd.cli", "outputs", "recover", tmp_path)
    assert (recovered.returncode, recovered.stdout) == (1, f"wrote {tmp_path / 'right.slp'}\n")
    assert recovered.stderr.splitlines()[-1] == f"trackd: could not be finished: {tmp_path / 'left.slp.part'}"


def test_a_rendered_video_that_cannot_be_written_is_exit_code_1(folder, tmp_path):
    (tmp_path / ".demo.partial.mp4").mkdir()
    result = run("trackd.cli", "track", folder / "whole.yaml", "--render", "--set", f"out_dir={tmp_path}")
    assert result.returncode == 1
    assert {path.name for path in tmp_path.iterdir()} == {".demo.partial.mp4", "demo.slp", "demo.txt"}
    assert "Traceback" not in result.stderr
