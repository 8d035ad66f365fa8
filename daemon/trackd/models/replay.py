"""Work on fixed buffers that a device repeats."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from trackd.models.device_faults import is_full, raise_if_lost

logger = logging.getLogger(__name__)

_WARM_UPS = 3  # runs before a capture: libraries choose their kernels and allocate in them


class Replay:
    """A function on fixed buffers: on CUDA captured once as a graph and replayed, elsewhere called.

    If the capture fails, a warning is logged once and the function is called instead.
    """

    def __init__(self, work: Callable[[], None], device: torch.device, what: str = "work") -> None:
        """Capture the function.

        Args:
            work: reads and writes tensors that stay where they are.
            device: of the tensors.
            what: names the function in the warning.

        Raises:
            RuntimeError: the device's memory is full.
            DeviceLostError: the device is lost.
        """
        self._run = work
        self.is_captured = False
        if device.type != "cuda":
            return
        try:
            self._run = _captured(work, device)
            self.is_captured = True
        except RuntimeError as error:
            if is_full(error) or is_full(error.__context__):  # a later capture may succeed
                raise
            text = str(error).split("\n")[0]
            if torch.cuda.is_available():
                raise_if_lost(device, text)
            logger.warning("%s runs without a CUDA graph: %s", what, text)

    def __call__(self) -> None:
        """Run once on the buffers' current contents."""
        self._run()


def _captured(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Capture the work as a CUDA graph."""
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            work()
    torch.cuda.current_stream(device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Another thread may load a checkpoint during the capture; its allocations must not be part of the graph.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay
