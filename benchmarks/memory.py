"""The daemon's resident memory while tracks begin and end: the mean of each tenth of the run.

    python benchmarks/memory.py [FRAMES] [--journal]

A real daemon with `STREAMS` streams at full rate, from one thread. In every frame some instances are missing and some
disappear for good, so that tracks begin, are lost, are found and end throughout. Two bounds must be reached within the
first tenth, otherwise memory grows until they are: each stream's `history`, and its lost tracks, which end here only at
`limits.active_tracks`. So this limit is lower than by default, and a run that is shorter than the target's has a
shorter history. Such a run shows mostly the warm-up of the process, so it gives no verdict.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Iterator

import numpy as np
from rich.progress import track

from processes import watched
from targets import Target
from trackd.commands.daemon_process import running_daemon
from trackd.config import Config
from trackd_client import Client, Detections, Tracks

STREAMS = 4
INSTANCES = 12
LIFETIME = 60  # frames, mean
MISSED = 0.05
ACTIVE_TRACKS = 512  # `limits.active_tracks`: reached after about 2,500 frames of a stream
EVERY = 20  # frames of each stream between two samples
SHORT_HISTORY = 64  # frames
LONG = 200_000  # frames of the target
GROWTH = 1.02


def changing_instances(seed: int) -> Iterator[Detections]:
    """Yield detections of instances that wander, are missed at random, and are replaced elsewhere after a lifetime."""
    rng = np.random.default_rng(seed)
    size = np.array([1280.0, 720.0])
    places = rng.uniform(0, 1, (INSTANCES, 2)) * size
    while True:
        places += rng.normal(0, 2, places.shape)
        ended = rng.random(INSTANCES) < 1 / LIFETIME
        places[ended] = rng.uniform(0, 1, (int(ended.sum()), 2)) * size
        visible = places[rng.random(INSTANCES) >= MISSED]
        yield Detections(boxes=np.concatenate([visible - 20, visible + 20], axis=1).astype(np.float32))


def run(frames: int, journal: bool) -> tuple[np.ndarray, int, int]:
    """Return resident memory in MiB of each tenth (10,), and the number of ids and frames of one stream."""
    depth = Config().stream.history_frames
    if frames < LONG:
        depth = SHORT_HISTORY
    overrides = ["daemon.http=null", f"stream.history_frames={depth}", f"limits.active_tracks={ACTIVE_TRACKS}"]
    each = frames // STREAMS
    samples = []
    identities: set[int] = set()
    seen = 0

    def follow(updates: Iterator[Tracks]) -> None:
        nonlocal seen
        for tracks in updates:
            seen += 1
            identities.update(tracks.new_tracks)

    with (
        tempfile.TemporaryDirectory() as folder,
        watched(running_daemon([*overrides, *([f"daemon.state_dir={folder}"] if journal else [])])) as (at, daemon),
        Client(at["ingest"], at["tracks"], at["control"], timeout_s=60) as client,
    ):
        streams = [client.open_stream(f"memory-{number}") for number in range(STREAMS)]
        sources = [changing_instances(number) for number in range(STREAMS)]
        updates = client.tracks(streams[0].name, until_closed=True)
        follower = threading.Thread(target=follow, args=(updates,), daemon=True)
        follower.start()
        for number in track(range(each), f"{frames} frames", transient=True):
            for stream, source in zip(streams, sources, strict=True):
                stream.send(None, next(source))
            if number % EVERY == 0:
                samples.append(daemon.memory_info().rss / 2**20)
        for stream in streams:
            stream.close()
        follower.join(60)
    tenths = np.array([part.mean() for part in np.array_split(np.array(samples), 10)])
    return tenths, len(identities), seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", nargs="?", type=int, default=20_000, help="of all streams together")
    parser.add_argument("--journal", action="store_true", help="with a state_dir")
    options = parser.parse_args()
    if options.frames < 10 * STREAMS * EVERY:
        parser.error(f"a tenth needs a sample of each stream: at least {10 * STREAMS * EVERY} frames")
    tenths, identities, seen = run(options.frames, options.journal)
    growth = float(tenths[9] / tenths[1])
    print(f"{options.frames} frames of {STREAMS} streams; one of them had {identities} identities in {seen} frames")
    print("tenth  " + "".join(f"{number:8d}" for number in range(1, 11)))
    print("MiB    " + "".join(f"{mib:8.1f}" for mib in tenths))
    print()
    what = "resident memory over 200,000 frames" + (" with the journal" if options.journal else "")
    complete = seen == options.frames // STREAMS and identities > INSTANCES
    long = options.frames >= LONG
    measured = f"{growth:.3f}×" + ("" if long else f", but over {options.frames}: `memory.py {LONG}` takes minutes")
    print(
        Target(what, f"last tenth ≤ {GROWTH} × the second", measured, (growth <= GROWTH and complete) if long else None)
    )


if __name__ == "__main__":
    main()
