"""A recorder of the Lab Streaming Layer that reads what `trackd-client lsl` publishes of a stream."""

from __future__ import annotations

import argparse
import sys

import numpy as np

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--stream", default="closed-loop", help="the name of the stream of trackd")
options.add_argument("--samples", type=int, default=60, help="end after so many frames")
options.add_argument("--timeout-s", type=float, default=30.0, help="how long to wait for the stream, and for a sample")


def main(given: argparse.Namespace) -> None:
    import pylsl

    found = pylsl.resolve_byprop("name", f"trackd-{given.stream}", timeout=given.timeout_s)
    if not found:
        raise TimeoutError(f"no LSL stream trackd-{given.stream} within {given.timeout_s:g} s")
    inlet = pylsl.StreamInlet(found[0])
    for _ in range(given.samples):
        sample, stamp = inlet.pull_sample(timeout=given.timeout_s)
        if sample is None:
            raise TimeoutError(f"no sample within {given.timeout_s:g} s")
        # x, y and score of each track; the time is that of the capture, by the clock of LSL.
        rows = np.array(sample).reshape(-1, 3)
        shown = (f"{track}: {x:.1f},{y:.1f}" for track, (x, y, _) in enumerate(rows) if np.isfinite(x))
        print(f"{stamp:.4f} s", "  ".join(shown))
    inlet.close_stream()


if __name__ == "__main__":
    try:
        main(options.parse_args())
    except (ImportError, RuntimeError, TimeoutError) as error:  # RuntimeError: pylsl without the library liblsl
        sys.exit(f"{options.prog}: {error}")
