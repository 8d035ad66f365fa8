"""A journal that is damaged on the disk: nothing that was acked is ever missing without a line and a new epoch."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, fixed_ports, wait_until
from fault_tools import SOAK, FaultDaemon, rounds, sdk, within
from journal_files import FILES, JOURNAL, LOG, acked_contents, content, killed_files, open_database
from raw_client import RawClient, walking_boxes
from test_fault_recovery import assert_refuses

from trackd.store.repair import repair
from trackd_client import Detections
from trackd_client.configuration import ConfigError

N_FRAMES = 60


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    return killed_files(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def acked(killed, tmp_path_factory) -> dict[str, tuple[object, ...]]:
    return acked_contents(killed, tmp_path_factory.mktemp("whole") / "state")


def outcome(folder: Path, acked: dict[str, tuple[object, ...]], caplog) -> str:
    """Open a damaged journal; return what became of it, and fail if it is short and nothing states it."""
    caplog.clear()
    report: list[str] = []
    try:
        database = open_database(folder)
    except ConfigError as error:
        line = str(error)
    else:
        line = None
    if line is not None:
        assert "\n" not in line
        assert str(folder) in line
        assert "trackd journal repair" in line or "is a journal of version" in line, line
        repaired = repair(folder)
        if repaired.kept is None:  # only the number of its version is damaged
            return "refused"
        report = list(repaired.lines())
        caplog.clear()
        database = open_database(folder)
        result = "repaired"
    else:
        result = "started"
    try:
        stored = {each.opened.stream: each for each in database.streams()}
        said = "\n".join([*(record.getMessage() for record in caplog.records), *report])
        missing = False
        for stream, expected in acked.items():
            if stream not in stored:
                assert f"'{stream}'" in said, (stream, said)
                missing = True
            elif stored[stream].hole is not None:
                missing = True
            elif result == "repaired":  # the oldest history may be gone; the rest is as it was acked
                found = content(stored[stream])
                assert (found[0], found[3]) == (expected[0], expected[3])
                rows = len(found[2])
                assert found[2] == expected[2][len(expected[2]) - rows :]
                if found[1] != expected[1]:
                    assert found[1] is None  # all frames of the epoch are there to be tracked again
                    first_seq = expected[0].first_seq
                    assert [row[0] for row in found[2] if row[0] >= first_seq] == list(
                        range(first_seq, expected[3] + 1)
                    )
            else:
                assert content(stored[stream]) == expected, stream
        assert database.highest_epoch >= 3 or missing or said
        return f"{result}, {'incomplete' if missing else 'complete'}"
    finally:
        database.close()


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data))])


@within(180, 1800)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip, cut], ids=["flip", "cut"])
def test_no_damage_at_any_place_is_silent(killed, acked, tmp_path, caplog, name, damage):
    rng = random.Random(f"{name} {damage.__name__}")
    results: dict[str, int] = {}
    for trial in range(rounds(15, 100)):
        folder = tmp_path / str(trial)
        shutil.copytree(killed, folder)
        damage(folder / name, rng)
        with caplog.at_level(logging.ERROR):
            result = outcome(folder, acked, caplog)
        results[result] = results.get(result, 0) + 1
        shutil.rmtree(folder)
    if SOAK:
        print(f"    {name} {damage.__name__}: {results}")
    if name == LOG:
        assert results.get("started, incomplete", 0) > 0.9 * sum(results.values())
    if name == JOURNAL and damage is cut:
        assert results.get("started, complete", 0) < 0.3 * sum(results.values())  # where the log has what was cut


# --- with real daemons ---


def trackd(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trackd.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def send(client: RawClient, first: int, last: int) -> None:
    for seq in range(first, last):
        client.frame("cam", seq, walking_boxes(seq))
        while client.recv_kind("ack")["seq"] < seq:
            pass


@pytest.fixture
def killed_daemon(tmp_path) -> tuple[list[str], int]:
    """The settings of a daemon that was killed after `N_FRAMES` acked frames, and the epoch of its stream."""
    settings = [*fixed_ports(), f"daemon.state_dir={tmp_path}", "daemon.http=null"]
    daemon = DaemonProcess(*settings)
    with RawClient(daemon.addresses) as client:
        epoch = client.open("cam")["epoch"]
        send(client, 0, N_FRAMES)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.communicate(timeout=10)
    return settings, epoch


def error_lines(daemon: FaultDaemon, n: int) -> list[str]:
    """Return the daemon's lines of level ERROR, once there are `n` of them."""
    wait_until(lambda: sum("ERROR" in line for line in list(daemon.log)) >= n, 5, f"{n} lines of level ERROR")
    return [line for line in daemon.log if "ERROR" in line]


def continue_after_hole(settings: list[str], epoch: int, *words: str) -> None:
    """Start a daemon on a journal that lacks acked frames: one line, a new epoch, an event, and no seq used twice."""
    with FaultDaemon(*settings) as daemon, RawClient(daemon.addresses, subscribe="cam") as client:
        (line,) = error_lines(daemon, 1)
        for word in words:
            assert word in line
        opened = client.open("cam")
        assert opened["epoch"] > epoch
        send(client, opened["next_seq"], opened["next_seq"] + 5)
        with sdk(daemon) as reader:
            assert all(row.epoch > epoch or row.seq < N_FRAMES for row in reader.history("cam", limit=1000))


def test_a_log_that_is_missing_is_noticed_and_its_seqs_are_not_used_again(tmp_path, killed_daemon):
    settings, epoch = killed_daemon
    (tmp_path / LOG).unlink()
    check = trackd("journal", "check", tmp_path)
    assert check.returncode == 1, check.stderr
    assert "stream 'cam'" in check.stdout
    continue_after_hole(settings, epoch, "cam")


def test_the_event_of_a_hole_names_what_is_missing(tmp_path, killed_daemon):
    settings, epoch = killed_daemon
    with DaemonProcess(*settings) as daemon:  # folds the log into the file
        assert daemon.stop()[0] == 0
    daemon = DaemonProcess(*settings)
    with RawClient(daemon.addresses) as client:
        assert client.open("cam")["next_seq"] == N_FRAMES
        send(client, N_FRAMES, N_FRAMES + 5)
    os.kill(daemon.process.pid, signal.SIGKILL)
    daemon.process.communicate(timeout=10)
    (tmp_path / LOG).write_bytes((tmp_path / LOG).read_bytes()[:100])
    with FaultDaemon(*settings) as daemon, sdk(daemon) as client:
        (line,) = error_lines(daemon, 1)
        missing = f"seq {N_FRAMES} to {N_FRAMES + 4} were settled and are missing"
        assert missing in line
        with contextlib.closing(client.events("cam", timeout_s=10)) as events:
            stream = client.open_stream("cam")
            assert stream.next_seq == N_FRAMES + 5
            assert stream.epoch > epoch
            stream.send(None, Detections(boxes=walking_boxes(0)))
            stream.flush()
            reset = next(event for event in events if event.event == "reset")
            assert missing in reset.detail["reason"]


def test_a_damaged_row_ends_the_start_with_one_line_and_repair_saves_the_rest(tmp_path, killed_daemon):
    settings, epoch = killed_daemon
    daemon = DaemonProcess(*settings)
    assert daemon.stop()[0] == 0
    data = (tmp_path / JOURNAL).read_bytes()
    place = data.rindex(walking_boxes(N_FRAMES - 10).tobytes())  # inside a frame's body
    (tmp_path / JOURNAL).write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    assert_refuses(tmp_path, f"stream 'cam' seq {N_FRAMES - 10}", f"trackd journal repair {tmp_path}")
    assert trackd("journal", "check", tmp_path).returncode == 1
    result = trackd("journal", "repair", tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"damaged: stream 'cam' seq {N_FRAMES - 10}" in result.stdout
    assert "journal.damaged.1" in result.stdout
    with (
        FaultDaemon(*settings) as daemon,
        RawClient(daemon.addresses) as client,
    ):  # a snapshot after it holds the tracks
        opened = client.open("cam")
        assert (opened["epoch"], opened["next_seq"]) == (epoch, N_FRAMES)
        send(client, N_FRAMES, N_FRAMES + 5)
    assert trackd("journal", "check", tmp_path).stdout.splitlines()[-1].startswith("whole")


def test_a_journal_that_is_missing_beside_its_log_is_noticed(tmp_path, killed_daemon):
    settings, epoch = killed_daemon
    (tmp_path / JOURNAL).unlink()
    with FaultDaemon(*settings) as daemon, RawClient(daemon.addresses) as client:
        lines = error_lines(daemon, 2)
        assert len(lines) == 2, lines
        assert f"{LOG}.1" in lines[0]
        assert f"'cam' (epoch {epoch}, seq up to {N_FRAMES - 1})" in lines[1]
        assert client.open("cam")["epoch"] > epoch


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("state", [True, False], ids=["journal", "memory"])
def test_no_epoch_is_used_twice(tmp_path, state, end):
    """Resets, a close and a restart within a second; with a journal also with the clock set back by a day."""
    settings = [*fixed_ports(), "daemon.http=null", *([f"daemon.state_dir={tmp_path}"] if state else [])]
    epochs: list[int] = []
    for start in range(3):
        env = {"TRACKD_CLOCK_SHIFT_S": str(-86400 * start)} if state else {}
        daemon = DaemonProcess(*settings, env=env)
        with RawClient(daemon.addresses) as client:
            epochs.append(client.open("cam")["epoch"])
            epochs += [client.request("stream.reset", stream="cam")["result"]["epoch"] for _ in range(9)]
            client.request("stream.close", stream="cam")
            epochs.append(client.open("cam")["epoch"])
            client.request("stream.close", stream="cam")
        daemon.process.send_signal(end)
        daemon.process.communicate(timeout=20)
    assert len(set(epochs)) == len(epochs)
    assert epochs == sorted(epochs)
