"""Fuzzing by coverage: what reads foreign bytes ends with its documented error, in little time and memory.

The short form runs some seconds for each target with a fixed seed, the long form ten minutes with a random one. An
input that fails is kept: its path is in the failure. Copy it to `findings/<target>/` when it is mended.
"""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import fuzz_harness
import pytest
from fault_tools import SOAK, progress, rounds, within

HARNESS = Path(fuzz_harness.__file__)
SECONDS = rounds(4, 600)
LEAST_RUNS = rounds(20, 2_000)

has_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="needs atheris of the extra dev, which exists for Linux on x86-64",
)


@pytest.mark.parametrize("name", fuzz_harness.TARGETS)
def test_the_seeds_and_the_earlier_findings_are_read_or_refused(name):
    target = fuzz_harness.load(name)
    seeds = list(target.seeds())
    assert seeds
    fuzz_harness.warm(target)
    for data in seeds:
        fuzz_harness.checked(target, data)
    for case in fuzz_harness.cases(name):
        try:
            fuzz_harness.checked(target, case.read_bytes())
        except Exception as error:
            pytest.fail(f"{case}: {type(error).__name__}: {error}")


@has_atheris
@within(120, 900)
@pytest.mark.parametrize("name", fuzz_harness.TARGETS)
def test_mutated_inputs_are_read_or_refused(name, tmp_path):
    seed = random.SystemRandom().randrange(1, 2**31) if SOAK else 1
    progress(f"{name}: {SECONDS} s, seed {seed}")
    command = [sys.executable, str(HARNESS), name, str(SECONDS), str(tmp_path), str(seed)]
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = sorted(path for path in tmp_path.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-")))
    log = "\n".join((result.stdout + result.stderr).splitlines()[-60:])
    assert not found, f"{found[0]}: python {HARNESS} {name} replay {found[0]}\n{log}"
    assert result.returncode == 0, f"seed {seed}: exit code {result.returncode}\n{log}"
    runs = int(re.findall(r"Done (\d+) runs", result.stdout + result.stderr)[-1])
    progress(f"{name}: {runs} runs, {len(list((tmp_path / 'corpus').iterdir()))} inputs in the corpus")
    assert runs > LEAST_RUNS


def test_a_finding_stops_the_harness_and_is_kept(tmp_path):
    """The harness itself can fail: with a bound of no time at all, the first input is a finding."""
    target = fuzz_harness.load("protocol")
    data = next(iter(target.seeds()))
    fuzz_harness.checked(target, data)
    strict = type("Strict", (), {"run": staticmethod(target.run), "MOST_MS": -1, "MOST_MB": 64})
    with pytest.raises(fuzz_harness.Finding, match=r"took \d+ ms; at most -1 ms are allowed"):
        fuzz_harness.checked(strict, data)  # type: ignore[arg-type]
    greedy = type(
        "Greedy", (), {"run": staticmethod(lambda _: bytearray(b"x") * (100 << 20)), "MOST_MS": 60_000, "MOST_MB": 64}
    )
    with pytest.raises(fuzz_harness.Finding, match=r"took \d+ MB; at most 64 MB are allowed"):
        fuzz_harness.checked(greedy, data)  # type: ignore[arg-type]
