"""What was learnt of animals' looks, over a restart: ids that are exchanged soon after it are corrected."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from daemon_process import DaemonProcess, fixed_ports, wait_until
from meeting_animals import BACK, END, GONE, LEARNS, PATTERNS, SHAPE, send_moments

from trackd.identity.looks import MAX_BYTES
from trackd_client import Client

LONG = [0] * 120 + [*range(GONE - 2)]  # 6.3 s: looks are written every 5 s
SHORT = range(GONE - 2)  # 2.3 s
MEETING = range(GONE - 2, END)  # too few frames before the contact to learn anything from them
STATED_S = 2.0  # an exchange is corrected so long after the contact at the latest (docs/identities.md)


def client_of(daemon: DaemonProcess) -> Client:
    at = daemon.addresses
    return Client(at["ingest"], at["tracks"], at["control"], timeout_s=60)


def looks_of(state_dir: Path) -> Path:
    return state_dir / "looks" / "arena.looks"


class Restart:
    """A stream whose daemon is ended before two animals meet, and continued by the next one."""

    def __init__(
        self, state_dir: Path, walk=LONG, number: int = signal.SIGKILL, between=lambda: None, later=MEETING,
        missing: int = 0, patterns=PATTERNS,
    ) -> None:  # fmt: skip
        """Run it.

        Args:
            state_dir: of both daemons.
            walk: the moments before the end of the first daemon.
            number: the signal that ends it.
            between: called between the daemons.
            later: the moments after that.
            missing: so many frames are never sent in between: the camera runs on while no daemon does.
            patterns: of the animals at their places after that.
        """
        settings = (*LEARNS, *fixed_ports(), f"daemon.state_dir={state_dir}")
        with DaemonProcess(*settings) as daemon, client_of(daemon) as client:
            stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
            found = send_moments(stream, walk, 0)
            self.before = found[-1][0]
            if number == signal.SIGKILL:
                wait_until(looks_of(state_dir).exists, 30, "the looks are written")
            daemon.stop(number)
            between()
            with DaemonProcess(*settings) as after:
                self.later = send_moments(stream, later, len(walk) + missing, patterns)
                stream.close()
                wait_until(lambda: not looks_of(state_dir).exists(), 30, "the looks of a closed stream are deleted")
                self.log = after.stop()[1]

    def corrected_after(self, moment: int) -> float | None:
        """How long after a frame the first correction is published, in s; None: there is none."""
        rows = [row for row, (_, tracks) in enumerate(self.later) if tracks.corrections]
        return (rows[0] - moment) / 30 if rows else None


AGAIN = BACK - MEETING[0]  # the frame in which the animals are seen again


def is_exchanged(run: Restart) -> bool:
    """Whether the tracker has taken the first two animals for each other when they were seen again."""
    ids = run.later[AGAIN + 2][0]
    return (ids[0], ids[1]) == (run.before[1], run.before[0])


@pytest.mark.parametrize(("walk", "number"), [(LONG, signal.SIGKILL), (SHORT, signal.SIGTERM)], ids=["kill", "drain"])
def test_an_exchange_soon_after_a_restart_is_corrected(tmp_path, walk, number):
    run = Restart(tmp_path, walk, number)
    assert is_exchanged(run)
    assert run.later[-1][0] == run.before
    assert 0 < run.corrected_after(AGAIN) <= STATED_S
    assert "learnt anew" not in run.log


def test_animals_that_have_changed_places_while_no_daemon_ran_get_their_ids(tmp_path):
    run = Restart(tmp_path, [0] * 190, later=[0] * 80, missing=30, patterns=PATTERNS[[1, 0, 2]])
    assert run.later[0][0] == run.before, "the tracker follows the places"
    assert run.later[-1][0] == {0: run.before[1], 1: run.before[0], 2: run.before[2]}
    assert 0 < run.corrected_after(0) <= STATED_S


def test_without_the_file_the_exchange_stays(tmp_path):
    run = Restart(tmp_path, between=lambda: shutil.rmtree(tmp_path / "looks"))
    assert is_exchanged(run)
    assert run.corrected_after(AGAIN) is None
    assert run.later[-1][0] != run.before
    assert "learnt anew" not in run.log


def test_a_damaged_file_is_reported_in_one_line_and_the_looks_are_learnt_anew(tmp_path):
    def damage() -> None:
        data = bytearray(looks_of(tmp_path).read_bytes())
        data[len(data) // 2] ^= 1
        looks_of(tmp_path).write_bytes(data)

    run = Restart(tmp_path, between=damage)
    assert run.corrected_after(AGAIN) is None
    (line,) = [line for line in run.log.splitlines() if "learnt anew" in line]
    assert "stream=arena" in line
    assert str(looks_of(tmp_path)) in line
    assert "its checksum does not match" in line


def test_a_reset_deletes_the_file_and_a_start_deletes_those_of_other_streams(tmp_path):
    settings = (*LEARNS, *fixed_ports(), f"daemon.state_dir={tmp_path}")
    with DaemonProcess(*settings) as daemon, client_of(daemon) as client:
        stream = client.open_stream("arena", reply="tracks", frame_shape=SHAPE)
        send_moments(stream, SHORT, 0)
        assert not looks_of(tmp_path).exists()
        daemon.stop()
        assert 0 < looks_of(tmp_path).stat().st_size <= MAX_BYTES
        others = [tmp_path / "looks" / name for name in ("other.looks", "arena.looks.part", "notes.txt")]
        for path in others:
            path.write_bytes(b"")
        with DaemonProcess(*settings) as after:
            assert looks_of(tmp_path).exists()
            assert [path.exists() for path in others] == [False, False, True]
            client.reset("arena")
            wait_until(lambda: not looks_of(tmp_path).exists(), 30, "the looks of the epoch before are deleted")
            after.stop()
