"""The example of the README runs as printed, and its defaults are the daemon's."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from daemon_process import DaemonProcess

from trackd.config import EndpointsConfig
from trackd_client import Client

README = Path(__file__).parents[2] / "README.md"
# Gives `Client()` other default addresses, so that the test needs no fixed port. The printed code itself is unchanged.
RUN = """
import functools, sys, trackd_client
ingest, tracks, control, code = sys.argv[1:]
trackd_client.Client = functools.partial(trackd_client.Client, ingest, tracks, control)
exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})
"""


def test_the_ten_lines_run_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    with DaemonProcess() as daemon:
        words = [sys.executable, "-c", RUN, daemon.ingest, daemon.tracks, daemon.control, code]
        result = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert all("[0 1]" in line for line in lines)


@pytest.mark.parametrize("name", ["ingest", "tracks", "control"])
def test_a_client_without_arguments_connects_to_a_daemon_without_configuration(name):
    assert inspect.signature(Client).parameters[name].default == getattr(EndpointsConfig(), name)
