"""`trackd demo`: makes a recording, replays it as a live camera into a daemon, draws the tracks and scores them."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.live import Live
from rich.progress import track as progress

from trackd.commands.daemon_process import running_daemon
from trackd.commands.demo.loop import play_live
from trackd.commands.demo.recording import N_ANIMALS, DemoRecording, make_recording
from trackd.engine.outcome import output_record
from trackd.evaluation import IdentityScore, IdentityScoring
from trackd.outputs.render import RenderedVideo
from trackd_client import Client
from trackd_client.apps.replay import Progressed, ReplayOptions, parse_speed, replay_recording
from trackd_client.apps.watch import LiveTable
from trackd_client.protocol import Status, Tracks
from trackd_client.recordings.config import DataloaderConfig, TestDataset
from trackd_client.recordings.discovery import open_recordings
from trackd_client.recordings.recording import Recording

STREAM = "demo"
# A lab knows the number of animals in its tank, and a person can tell them apart.
SETTINGS = {"tracker": {"max_tracks": N_ANIMALS, "learn_identities": True}}
CONFIGURATION = f"""\
tracker:
  max_tracks: {N_ANIMALS}
  learn_identities: true
dataset:
  test_dataset:
    slp_files: demo.slp
    video_files: demo.mp4
"""  # for `trackd track`, `trackd eval` and `trackd-client replay`
_REFRESH_S = 0.1
_FOLLOW_S = 10.0


def run_demo(out: Path, seed: int, speed: str, *, live: bool | None = None) -> IdentityScore:
    """Run the whole demo, and return the score of its tracks.

    Args:
        out: the folder for all files, made if absent.
        seed: of the recording.
        speed: "1.0" is the recorded speed, "max" as fast as the daemon can track.
        live: play the recording at the end, until Ctrl-C; None: if this is a terminal.
    """
    console = Console()
    shutil.rmtree(out / "tracked", ignore_errors=True)  # of the last demo; a daemon would rename its files
    console.print("[bold]1[/] Drawing a recording: five fish that cross, touch and hide under a stone …")
    files = make_recording(out, seed=seed)
    (out / "demo.yaml").write_text(CONFIGURATION, encoding="utf-8")
    (recording,) = open_recordings(
        TestDataset(slp_files=[str(files.slp)], video_files=[str(files.video)]), DataloaderConfig(), out
    )
    console.print(f"[bold]2[/] Starting a daemon, and replaying {files.slp} into it as a live camera …")
    daemon = running_daemon([f"out_dir={out / 'tracked'}", "stream.outputs=[slp, mot]"])
    with daemon as addresses, Client(addresses["ingest"], addresses["tracks"], addresses["control"]) as client:
        updates = _replay_and_watch(client, recording, parse_speed(speed), console)
    console.print("[bold]3[/] Drawing the tracks that the daemon published …")
    video = _draw(recording, updates, out / "demo_tracked.mp4", console)
    score = _score(recording, updates)
    _report(console, files, video, out, updates, score)
    if sys.stdout.isatty() if live is None else live:
        play_live(recording, SETTINGS, console)
    else:
        console.print(f"\nsee it live in a browser: trackd demo --live --out {out}", highlight=False, soft_wrap=True)
    return score


def _replay_and_watch(client: Client, recording: Recording, speed: float, console: Console) -> list[Tracks]:
    """Send the recording from this thread, receive its tracks on another, and show them in a live table."""
    updates: list[Tracks] = []
    table = LiveTable(STREAM)

    def follow() -> None:
        for tracks in client.tracks(STREAM, from_seq=0, until_closed=True):
            updates.append(tracks)
            table.update(tracks)

    follower = threading.Thread(target=follow, name="follow", daemon=True)
    shown_at = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def show(now: Progressed) -> None:
            nonlocal shown_at
            if follower.ident is None:  # the first call: the stream is open
                follower.start()
            if time.monotonic() - shown_at > _REFRESH_S:
                shown_at = time.monotonic()
                live.update(table.render(), refresh=True)

        replay_recording(client, recording, STREAM, SETTINGS, ReplayOptions(speed=speed), show)
        follower.join(_FOLLOW_S)
    console.print(table.render())
    return updates


def _draw(recording: Recording, updates: list[Tracks], path: Path, console: Console) -> Path:
    """Write the video with ids and trails."""
    by_frame = {tracks.frame_index: tracks for tracks in updates}
    with RenderedVideo(path, recording.fps, recording.skeleton) as video:
        for frame in progress(recording.frames(), "  drawing", len(recording), console=console, transient=True):
            tracks = by_frame.get(frame.frame_index)
            record = None if tracks is None else output_record(tracks, frame.detections)
            if frame.image is not None and record is not None:
                video.write(frame.image, record)
    return path


def _score(recording: Recording, updates: list[Tracks]) -> IdentityScore:
    """Score the daemon's ids against the recording's true identities."""
    by_frame = {tracks.frame_index: tracks for tracks in updates}
    scoring = IdentityScoring()
    for frame in recording.frames():
        gt_ids = frame.detections.gt_ids
        tracks = by_frame.get(frame.frame_index)
        if gt_ids is not None and len(gt_ids):
            ids = tracks.track_ids if tracks is not None else None
            scoring.add_detections(gt_ids, np.full(len(gt_ids), -1) if ids is None else ids)
    return scoring.score()


def _report(
    console: Console, files: DemoRecording, video: Path, out: Path, updates: list[Tracks], score: IdentityScore
) -> None:
    counts = Counter(tracks.status for tracks in updates)
    corrections = sum(len(tracks.corrections) for tracks in updates)
    latency_ms = np.array([tracks.timing.total for tracks in updates]) / 1e3
    console.print(
        f"\n[bold]{score.n_gt} fish, {score.n_tracks} tracks: {score.id_switches} id switches, "
        f"IDF1 {score.idf1:.3f}[/] over {score.n_frames} frames",
        highlight=False,
    )
    console.print(f"{corrections} corrections of exchanged ids, by what the fish look like", highlight=False)
    console.print(
        f"{counts[Status.TRACKED]} frames tracked, {counts[Status.DROPPED]} dropped, "
        f"{counts[Status.REJECTED]} rejected",
        highlight=False,
    )
    console.print(
        f"from receipt to publish: median {np.median(latency_ms):.2f} ms, 99th percentile "
        f"{np.percentile(latency_ms, 99):.2f} ms",
        highlight=False,
    )
    for what, path in (
        ("the recording", files.video),
        ("the detections", files.slp),
        ("the configuration", out / "demo.yaml"),
        ("tracked, with ids and trails", video),
        ("tracked, for SLEAP", out / "tracked" / f"{STREAM}.slp"),
        ("tracked, as MOTChallenge text", out / "tracked" / f"{STREAM}.txt"),
    ):
        console.print(f"  {what:32} {path}", highlight=False)
