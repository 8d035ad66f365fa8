"""A run of four cameras through faults, and the same run uninterrupted."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from cameras import STREAMS, Cameras, send_next
from daemon_process import DaemonProcess, fixed_ports
from follower import Follower, content
from tcp_proxy import TcpProxy, proxies

from trackd_client import Client, Status, TrackdError, Tracks

logger = logging.getLogger(__name__)

DEATH_S = 120.0
# Short, so that snapshots have old rows to trim; longer than the gap that a subscriber has after a reconnect.
HISTORY_FRAMES = 400


class Uninterrupted:
    """The results of the cameras' streams without a fault, from a daemon without a journal."""

    def __init__(self) -> None:
        with ExitStack() as closing:  # closes the parts that exist if a later one fails
            at = closing.enter_context(DaemonProcess("daemon.http=null")).addresses
            self._follower = Follower(at)
            closing.callback(self._follower.close)
            client = closing.enter_context(Client(at["ingest"], at["tracks"], at["control"], timeout_s=60))
            self._streams = [client.open_stream(name) for name in STREAMS]
            self._closing = closing.pop_all()

    def __enter__(self) -> Uninterrupted:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def rows(self, counts: list[int]) -> dict[str, list[Tracks]]:
        """Return the first `counts` settlements of each stream."""
        while any(stream.next_seq < count for stream, count in zip(self._streams, counts, strict=True)):
            for camera, (stream, count) in enumerate(zip(self._streams, counts, strict=True)):
                if stream.next_seq < count:
                    send_next(stream, camera)
        self._follower.wait_for(counts)
        return {name: self._follower.rows[name][:count] for name, count in zip(STREAMS, counts, strict=True)}


class FaultedRun:
    """The cameras, their follower and a daemon that is killed and started again on the same ports.

    Args:
        state_dir: the folder of the daemons' journal.
        cut: connect through proxies that can be cut.
        crash_at: the label and count at which the first daemon dies.
    """

    def __init__(self, state_dir: Path, *, cut: bool = False, crash_at: str = "") -> None:
        self._overrides = [
            *fixed_ports(),
            f"daemon.state_dir={state_dir}",
            "daemon.http=null",
            f"stream.history_frames={HISTORY_FRAMES}",
        ]
        self.proxies: dict[str, TcpProxy] = {}
        self.sent: list[int] = []
        with ExitStack() as closing:  # closes the parts that exist if a later one fails
            self.daemon = DaemonProcess(*self._overrides, env={"TRACKD_CRASH_AT": crash_at})
            closing.callback(self.kill_daemon)
            self.at = self.daemon.addresses
            if cut:
                self.proxies = closing.enter_context(proxies(self.at))
                self.at = {name: proxy.address for name, proxy in self.proxies.items()}
            self.follower = Follower(self.at)
            closing.callback(self.follower.close)
            self.cameras = Cameras(self.at)
            closing.callback(lambda: self.cameras.kill())  # a test may have replaced them
            self._closing = closing.pop_all()

    def __enter__(self) -> FaultedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def start_daemon(self, crash_at: str = "") -> None:
        """Start the next daemon on the same ports and journal; with `label:count` it kills itself there.

        The clients reconnect and resend before the daemon prints its ready line. So one with a label may die before
        that line, and that is a death like any other.
        """
        env = {"TRACKD_CRASH_AT": crash_at}
        self.daemon = DaemonProcess(*self._overrides, env=env, may_be_killed=bool(crash_at))

    def kill_daemon(self) -> None:
        """Send SIGKILL, unless the process has ended."""
        if self.daemon.process.poll() is None:
            self.daemon.process.kill()
            self.daemon.process.communicate(timeout=10)

    def restart_daemon(self) -> None:
        """Kill the running daemon and start another one."""
        assert self.daemon.process.poll() is None, self.daemon.process.communicate(timeout=10)[1]
        self.kill_daemon()
        self.start_daemon()

    def wait_for_load(self) -> None:
        """Wait until each stream has 5 more settlements, or until the daemon has died at its label."""
        wanted = [count + 5 for count in self.follower.counts()]
        self.follower.wait_for(wanted, unless=lambda: self.daemon.process.poll() is not None)

    def wait_for_death(self, each_round: Callable[[], None] = lambda: None) -> tuple[int, str]:
        """Wait until the daemon has killed itself; return its exit code and its stderr."""
        deadline = time.monotonic() + DEATH_S
        while self.daemon.process.poll() is None:
            assert self.cameras.process.poll() is None, self.cameras.stderr()
            assert time.monotonic() < deadline, f"the daemon did not die within {DEATH_S} s"
            each_round()
            time.sleep(0.01)
        return self.daemon.process.returncode, self.daemon.process.communicate(timeout=10)[1]

    def store_snapshots(self) -> None:
        """Store a snapshot of each stream's tracker under load, as the daemon does every 500 frames."""
        with (
            suppress(TrackdError),  # the daemon may die of it; then no later request gets an answer either
            Client(self.at["ingest"], self.at["tracks"], self.at["control"], timeout_s=5) as client,
        ):
            for name in STREAMS:
                client.configure(name, {})

    def finish(self) -> None:
        """End the load after some more frames, and wait until everything is settled and read."""
        self.wait_for_load()
        self.sent = self.cameras.stop()
        self.follower.wait_for(self.sent)

    def history(self) -> dict[str, list[Tracks]]:
        """Return the daemon's history of each stream."""
        with Client(self.at["ingest"], self.at["tracks"], self.at["control"]) as client:
            return {name: client.history(name) for name in STREAMS}

    def check(self, uninterrupted: Uninterrupted) -> None:
        """Check that each stream is complete, in order and equal to the uninterrupted run, as published too."""
        expected = uninterrupted.rows(self.sent)
        for name in STREAMS:
            rows = self.follower.rows[name]
            assert [row.seq for row in rows] == list(range(len(expected[name])))
            assert len({row.epoch for row in rows}) == 1
            assert {row.status for row in rows} == {Status.TRACKED}
            for row, same in zip(rows, expected[name], strict=True):
                assert content(row) == content(same), f"{name}, seq {row.seq}"
        self._check_published()

    def _check_published(self) -> None:
        assert self.follower.unreadable == 0
        published = list(self.follower.published)
        once = len({(tracks.stream, tracks.epoch, tracks.seq) for tracks in published})
        cuts = sum(proxy.cuts for proxy in self.proxies.values())
        again = len(published) - once
        logger.info("frames=%d published=%d again=%d cuts=%d", sum(self.sent), once, again, cuts)
        for tracks in published:
            row = self.follower.rows[tracks.stream][tracks.seq]
            assert tracks.epoch == row.epoch
            assert content(tracks) == content(row), f"{tracks.stream}, seq {tracks.seq}: published with other content"
