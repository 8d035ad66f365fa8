"""Runs `dreem track` for beside_dreem.py, in the Python of .venv-dreem, and times its parts.

    .venv-dreem/bin/python benchmarks/dreem_peer.py CORES < questions

A question is `{"config"}`, an inference file; the answer has seconds, as `trackd_peer.py` gives them.
"""

from __future__ import annotations

import sys
import warnings
from collections import defaultdict
from pathlib import Path
from typing import Any

from answers import answer_all, use_cores

clock, job_clock = use_cores(int(sys.argv[1]))

import torch  # noqa: E402

# PyPI's torchvision is built for CUDA. Beside a CPU build of torch its import fails at these two operators, which DREEM
# does not call; so they are declared, and torchvision's Python code, which DREEM uses, can be imported.
_VISION = torch.library.Library("torchvision", "FRAGMENT")
if not hasattr(torch.ops.torchvision, "nms"):
    for _name in ("nms", "qnms"):
        _VISION.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import dreem.cli  # noqa: E402
import yaml  # noqa: E402
from dreem.inference.tracker import Tracker  # noqa: E402
from dreem.models import GTRRunner  # noqa: E402
from dreem.models.visual_encoder import DescriptorVisualEncoder, VisualEncoder  # noqa: E402

SECONDS: dict[str, float] = defaultdict(float)


def timed(owner: Any, method: str, name: str) -> None:
    """Add the time of each call of a method to `SECONDS[name]`."""
    called = getattr(owner, method)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            return called(*args, **kwargs)
        finally:
            SECONDS[name] += clock() - started

    setattr(owner, method, wrapper)


timed(GTRRunner, "load_from_checkpoint", "load_s")
timed(Tracker, "track", "loop_s")
for _encoder in (VisualEncoder, DescriptorVisualEncoder):
    timed(_encoder, "forward", "encode_s")


def answer(config: str) -> dict[str, Any]:
    tree = yaml.safe_load(Path(config).read_text())
    dataset, out = tree["dataset"]["test_dataset"], Path(tree["outdir"]) / "dreem"
    SECONDS.clear()
    words = ["track", dataset["dir"]["path"], "--checkpoint", tree["ckpt_path"], "--output", str(out), "--no-gpu"]
    words += ["--crop-size", str(dataset["crop_size"]), "--config", config, "--quiet"]
    started = job_clock()
    dreem.cli.app(words, standalone_mode=False)
    job_s = job_clock() - started - SECONDS["load_s"]
    written = max(out.glob("*.slp"), key=lambda path: path.stat().st_mtime_ns)
    return {"job_s": job_s, **SECONDS, "written": str(written)}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    answer_all(answer)
