"""Runs `trackd track`, and its steps alone, for beside_dreem.py, as dreem_peer.py runs DREEM.

    python benchmarks/trackd_peer.py CORES < questions

A question is `{"config"}`, an inference file. The answer: `job_s`, from the file to the tracked .slp without the load
of the model; `load_s`; `loop_s`, the steps of the same frames alone, images decoded; `encode_s`, the part of `loop_s`
from the image to the features; `written`, the .slp.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

from answers import answer_all, use_cores

clock, job_clock = use_cores(int(sys.argv[1]))

from rich.console import Console  # noqa: E402

from trackd.commands.track import track  # noqa: E402
from trackd.config import Config, StreamSettings, load_config  # noqa: E402
from trackd.engine.queue import QueuedFrame, StreamQueue  # noqa: E402
from trackd.engine.step import FrameStep, assign, encode, prepare, score  # noqa: E402
from trackd.engine.stream_state import StreamState  # noqa: E402
from trackd.identity.gallery import Galleries  # noqa: E402
from trackd.models.registry import ModelRegistry  # noqa: E402
from trackd_client.protocol import Frame  # noqa: E402
from trackd_client.recordings.discovery import open_recordings  # noqa: E402


def answer(config: str) -> dict[str, Any]:
    loads: list[float] = []
    read = ModelRegistry.read

    def timed(*args: Any, **kwargs: Any) -> Any:
        started = job_clock()
        try:
            return read(*args, **kwargs)
        finally:
            loads.append(job_clock() - started)

    checked = load_config(config)
    ModelRegistry.read = timed  # type: ignore[method-assign]
    try:
        started = job_clock()
        track(checked, Path(config).parent, Console(file=io.StringIO()))
        job_s = job_clock() - started - sum(loads)
    finally:
        ModelRegistry.read = read  # type: ignore[method-assign]
    loop_s, encode_s = loop(checked)
    return {
        "job_s": job_s,
        "load_s": sum(loads),
        "loop_s": loop_s,
        "encode_s": encode_s,
        "written": str(Path(checked.out_dir) / "arena.slp"),
    }


def loop(config: Config) -> tuple[float, float]:
    """Return the seconds of all steps, and of their part up to the features."""
    (recording,) = open_recordings(config.dataset.test_dataset, config.dataloader, Path(), config.limits)
    registry, settings = ModelRegistry(config), StreamSettings.of(config)
    limits = config.limits.model_copy(update={"step_ms": None})
    state = StreamState(
        "loop", 1, 0, settings, recording.skeleton, recording.frame_shape,
        registry.scorer_factory(registry.default), limits, galleries=Galleries(config.galleries),
    )  # fmt: skip
    queue, loop_s, encode_s = StreamQueue("loop", 1), 0.0, 0.0
    for seq, recorded in enumerate(recording.frames()):
        frame = Frame("loop", seq, recorded.frame_index, recorded.t_ns, recorded.detections, recorded.image)
        step = FrameStep(queue, QueuedFrame(frame, 0, 0), state)
        started = clock()
        prepare([step])
        encode([step])
        encoded = clock()
        score([step])
        assign([step])
        loop_s += clock() - started
        encode_s += encoded - started
        if step.error is not None:
            raise step.error
    return loop_s, encode_s


if __name__ == "__main__":
    answer_all(answer)
