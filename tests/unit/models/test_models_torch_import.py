from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from checkpoint_files import write_checkpoint


def test_a_load_collects_garbage_again_afterwards_and_imports_no_algebra(tmp_path: Path):
    """sympy takes seconds and 100 MB; torch imports it for the initial values of an embedding on the meta device."""
    path = write_checkpoint(tmp_path / "a.ckpt")
    program = (
        "import gc, sys\n"
        "from trackd.config import check_config\n"
        "from trackd.models.registry import ModelRegistry\n"
        "registry = ModelRegistry(check_config({'daemon': {'device': 'cpu'}}))\n"
        "before = 'torch' in sys.modules\n"
        "registry.read('a', sys.argv[1])\n"
        "print(before, 'torch' in sys.modules, 'sympy' in sys.modules)\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "False True False\nTrue True\n"
