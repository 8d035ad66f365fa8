"""A camera in a separate process, which shows what an attack does to the streams of others.

    python witness.py INGEST TRACKS CONTROL

opens the stream `witness`, sends 60 frames a second in a closed loop, and ends at the end of its stdin. Every frame
must settle as tracked, in order. Its own process keeps the interpreter lock of the attacking test out of the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

FPS = 60.0
_SETTLED_FRAMES = 60  # of the start, which are not counted: the first frames of a stream take longer


class Witness:
    """The process, for a test.

        with Witness(daemon.addresses) as witness:
            attack()
        assert witness.p99_ms <= most_p99_ms()

    Leaving the block fails if a frame was lost, not tracked or out of order.

    Attributes:
        frames: the number of frames, all of them tracked, once the block has ended.
        latencies_ms: from sending each frame to its tracks.
    """

    def __init__(self, addresses: dict[str, str], stream: str = "witness") -> None:
        self.stream = stream
        self.frames = 0
        self.latencies_ms = np.empty(0)
        command = [sys.executable, __file__, addresses["ingest"], addresses["tracks"], addresses["control"], stream]
        self._stderr = tempfile.TemporaryFile("w+")  # noqa: SIM115 (open as long as the process)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != "open\n":
            self._kill()
            raise AssertionError(f"the witness did not start: {self._errors()}")

    @property
    def p99_ms(self) -> float:
        """The 99th percentile of the latencies."""
        return float(np.percentile(self.latencies_ms, 99))

    @property
    def longest_ms(self) -> float:
        """The longest latency."""
        return float(self.latencies_ms.max())

    def stop(self) -> None:
        """End the process and read its figures; fail if it had a fault."""
        out, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, self._errors()
        figures = json.loads(out)
        assert figures["fault"] is None, figures["fault"]
        self.frames, self.latencies_ms = figures["frames"], np.asarray(figures["latencies_ms"])
        median = float(np.median(self.latencies_ms))
        print(
            f"{self.stream}: a 60 fps camera, {len(self.latencies_ms)} frames, none lost: "
            f"median {median:.1f} ms, p99 {self.p99_ms:.1f} ms, longest {self.longest_ms:.0f} ms"
        )

    def __enter__(self) -> Witness:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.stop()
        else:
            self._kill()

    def _kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate(timeout=10)

    def _errors(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()


def most_p99_ms() -> float:
    """The limit of `p99_ms`: 20 ms in the long form, on an idle machine; more in `make test`, beside other work."""
    from fault_tools import SOAK

    return 20.0 if SOAK else 250.0


def _main(ingest: str, tracks: str, control: str, stream: str) -> None:
    from fault_tools import GoodClient

    addresses = {"ingest": ingest, "tracks": tracks, "control": control}
    with GoodClient(addresses, stream, patience_s=60.0, fps=FPS) as client:
        while client.frames < _SETTLED_FRAMES and client.fault is None:
            time.sleep(0.01)
        print("open", flush=True)
        first = client.frames
        sys.stdin.read()
        while client.frames < first + 10 and client.fault is None:  # the figures are never empty
            time.sleep(0.01)
    latencies_ms = [1000 * latency for latency in client.latencies[first:]]
    print(json.dumps({"frames": client.frames, "fault": client.fault, "latencies_ms": latencies_ms}))


if __name__ == "__main__":
    sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "integration")]
    _main(*sys.argv[1:])
