"""The example of the README runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from daemon_process import DaemonProcess

README = Path(__file__).parents[2] / "README.md"


def test_the_ten_lines_run_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    # As printed, on the default ports.
    ports = {"ingest": 5570, "tracks": 5571, "control": 5572}
    overrides = [f"daemon.endpoints.{name}=tcp://127.0.0.1:{port}" for name, port in ports.items()]
    with DaemonProcess(*overrides):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 5
    assert all("[0 1]" in line for line in lines)
