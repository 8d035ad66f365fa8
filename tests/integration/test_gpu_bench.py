"""The command for a machine with a GPU, rehearsed on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import gpu_bundle  # noqa: E402


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks/gpu.py"), *words]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | environment
    return subprocess.run(command, capture_output=True, text=True, timeout=170, check=False, env=env, cwd="/")


def test_every_part_runs_on_the_cpu_and_is_written(tmp_path, shared):
    out = tmp_path / "results.json"
    done = run("--device", "cpu", "--quick", "--out", str(out), TRACKD_SHARED=str(shared))
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(out.read_text())
    assert (result["device"], result["quick"], result["left_out"]) == ("cpu", True, [])
    rows = {row["what"]: row for row in result["rows"]}
    assert rows["tests that failed"]["value"] == 0
    assert rows["tests that passed"]["value"] >= 2
    parts = rows["encoder of 10 crops, alone"]["value"] + rows["transformer of 10 instances, alone"]["value"]
    assert 0 < parts < 5 * rows["step, 1 stream, 10 instances, p50"]["value"]
    assert rows["step, 1 stream, 10 instances, p50"]["met"] is None  # a target of the GPU
    same = [row for name, row in rows.items() if "other ids than the CPU's" in name]
    assert [(row["value"], row["met"]) for row in same] == [(0, True)] * 2


def test_a_part_for_which_no_time_is_left_is_named(tmp_path):
    out = tmp_path / "results.json"
    done = run("--device", "cpu", "--quick", "--minutes", "0", "--out", str(out))
    assert done.returncode == 1
    assert "left out: one stream: no time was left" in done.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_machine_without_cuda_is_told_so():
    done = run()
    assert done.returncode == 2
    assert "finds no CUDA device; --device cpu is the rehearsal" in done.stderr


def test_the_bundle_has_the_code_and_the_tests_that_run_there():
    if not (ROOT / ".git").exists():
        pytest.skip("the list of files comes from git")
    names = {str(name) for name in gpu_bundle.code()}
    for wanted in (
        "benchmarks/gpu.py", "benchmarks/device_streams.py", "daemon/trackd/engine/step.py", "tests/conftest.py",
        "clients/python/trackd_client/client.py", "tests/parity/parity_device.py",
        "tests/integration/checkpoint_files.py",
    ):  # fmt: skip
        assert wanted in names
    assert not [name for name in names if name.startswith(("docs/", "deploy/"))]
