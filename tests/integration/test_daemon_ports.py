"""The fixed ports of tests: no two processes get the same one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import daemon_process
from daemon_process import fixed_ports


def test_a_port_that_another_test_process_has_is_not_chosen_until_that_process_has_ended():
    child = subprocess.Popen(
        [sys.executable, "-c", "from daemon_process import *; print(*fixed_ports(), flush=True); input()"],
        cwd=Path(daemon_process.__file__).parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    ports = [int(text.rsplit(":", 1)[1]) for text in child.stdout.readline().split()]
    assert len(set(ports)) == 3
    assert not [port for port in ports if daemon_process._reserve(port)]
    child.communicate("\n", timeout=30)
    assert daemon_process._reserve(ports[0])


def test_a_process_gets_each_port_once():
    ports = [text for _ in range(50) for text in fixed_ports()]
    assert len({text.rsplit(":", 1)[1] for text in ports}) == 150
