"""The scores of the peers on the detections that trackd gets, each peer with its defaults and without images.

A peer's scores are kept in .venv-peers/identity, by the content of the sequences and of the programs that run and score
them: a second run, or one that continues after the time limit, only runs what is new. `make bench-peers` empties the
folder when it installs other versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from identity_sequence import SHARED, Figures, Sequence, save
from peer_process import PACKAGES, PEERS_VENV, PeerProcess

KEPT = PEERS_VENV / "identity"
BUDGET_S = 60.0  # of one peer for one sequence
LONGEST_FIRST = sorted(PACKAGES, key=lambda package: -len(PACKAGES[package]))


class IdentityPeers:
    """Runs all peers on sets of sequences, until a time limit."""

    def __init__(self, stack: ExitStack, seconds: float) -> None:
        self.faults: Counter[tuple[str, str]] = Counter()  # sets by peer and reason
        self.left_out = 0  # sets that the time limit left without peers
        self._until = time.monotonic() + seconds
        self._stack = stack
        self._processes: dict[str, PeerProcess] = {}
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._pool = stack.enter_context(ThreadPoolExecutor(os.cpu_count()))
        programs = (SHARED / "peers" / "bench_peers.py", SHARED / "peers" / "score.py")
        self._programs = hashlib.sha256(b"".join(path.read_bytes() for path in programs)).hexdigest()
        KEPT.mkdir(exist_ok=True)

    def figures(self, sequences: list[Sequence]) -> dict[str, Figures]:
        """Return the figures by peer, without those that fail; nothing if time is up before all have run."""
        file = self._folder / "sequences.npz"
        digest = save(sequences, file)
        # All packages have ended before the next set takes the file's place.
        each = list(self._pool.map(lambda package: self._of_package(package, file, digest), LONGEST_FIRST))
        if None in each:
            self.left_out += 1
            return {}
        return {peer: found for package in each if package is not None for peer, found in package.items()}

    def _of_package(self, package: str, file: Path, digest: str) -> dict[str, Figures] | None:
        """Return the figures of a package's peers, or None if time is up."""
        found = {}
        for peer in PACKAGES[package]:
            key = hashlib.sha256(f"{peer} {digest} {self._programs}".encode()).hexdigest()
            kept = KEPT / f"{key[:32]}.json"
            if not kept.exists():
                if time.monotonic() > self._until:
                    return None
                if package not in self._processes:
                    self._processes[package] = PeerProcess(package, self._stack)
                try:
                    answer = self._processes[package].ask(10 * BUDGET_S, peer=peer, file=str(file), budget_s=BUDGET_S)
                except RuntimeError as error:
                    self.faults[peer, str(error)] += 1
                    continue
                kept.with_suffix(".part").write_text(json.dumps(answer["figures"]))
                kept.with_suffix(".part").replace(kept)
            found[peer] = Figures(**json.loads(kept.read_text()))
        return found


def best(found: dict[str, Figures], column: str, but: Collection[str] = ()) -> tuple[str, float] | None:
    """Return the name and the figure of the peer that is best in a column; None without peers."""
    figures = {peer: float(getattr(each, column)) for peer, each in found.items() if peer not in but}
    return max(figures.items(), key=lambda item: item[1]) if figures else None
