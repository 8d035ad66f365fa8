"""Steps of several streams in one forward pass, on buffers that are reused.

Letters: B streams, R references and Q queries of a bucket, N = R + Q tokens, A anchors, F feature width.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.device_points import ARMED, device_point
from trackd.models.replay import Replay
from trackd.models.transformer.buckets import Bucket
from trackd.models.transformer.gtr import GlobalTrackingTransformer

_KEPT_BYTES = 1 << 28  # limit for all buffers together; the least recently used are freed first


class PaddedSteps:
    """Buffers for up to B steps of one bucket, and the forward pass over them.

    Inputs are copied to the device from two pinned buffers, asynchronously; the logits return in one copy, which is
    the only work of a step that is waited for.
    """

    @torch.inference_mode()
    def __init__(
        self, model: GlobalTrackingTransformer, capacity: int, bucket: Bucket, device: torch.device, staged: bool
    ) -> None:
        """Allocate the buffers; on CUDA also capture a graph.

        Args:
            model: on the device.
            capacity: B.
            bucket: the shape of every step.
            device: where the model is.
            staged: as on CUDA: inputs are copied to other buffers, and every pass covers all B, as a graph must.
                Otherwise a pass covers the given steps, and on a CPU it reads the buffers that the caller wrote.
        """
        self._model = model
        self._bucket = bucket
        self._apart = staged or device.type != "cpu"
        self._device = device
        B, R, N, A = capacity, bucket.references, bucket.tokens, bucket.anchors
        pinned = device.type == "cuda"
        host_numbers = torch.zeros((B, N, 4 * A + 2), pin_memory=pinned)
        host_places = torch.zeros((B, R), dtype=torch.int64, pin_memory=pinned)
        self._host = (host_numbers, host_places)
        self._uploaded = tuple(self._on_device(buffer) for buffer in self._host)
        numbers = host_numbers.numpy()
        self.boxes = numbers[..., : 4 * A].reshape(B, N, A, 4)  # a view, written by the caller like the next three
        self.ranks = numbers[..., 4 * A]  # (B, N) rank of each token's frame
        self.valid = numbers[..., 4 * A + 1]  # (B, N) 1, or 0 for padding
        self.places = host_places.numpy()  # (B, R) index of each reference's feature
        self.features = torch.zeros((B, N, model.architecture.feature_dim), device=device)
        self._logits = torch.zeros((B, bucket.queries, R), device=device)
        self._host_logits = torch.zeros(self._logits.shape, pin_memory=pinned) if self._apart else self._logits
        # Complete when the logits are on the host.
        self._returned = torch.cuda.Event() if pinned else None  # type: ignore[no-untyped-call]
        self.replay = Replay(lambda: self._forward(B), device, "the transformer's step") if staged else None

    @property
    def n_bytes(self) -> int:
        """The size of the buffers, on the host and on the device."""
        tensors = {*self._host, *self._uploaded, self.features, self._logits, self._host_logits}
        return sum(tensor.nbytes for tensor in tensors)

    @torch.inference_mode()
    def upload(self, n: int) -> Tensor:
        """Start the copy of n steps' inputs to the device; return `places` there, (B, R)."""
        self.valid[n:] = 0  # a graph covers all B
        for buffer, source in zip(self._uploaded, self._host, strict=True):
            if buffer is not source:
                buffer.copy_(source, non_blocking=True)
        return self._uploaded[1]

    @torch.inference_mode()
    def start(self, n: int) -> None:
        """Start the forward pass over the first n steps, and the copy of its logits to the host."""
        if ARMED:
            device_point("score")
        if self.replay is None:
            self._forward(n)
        else:
            self.replay()
        if self._host_logits is not self._logits:
            self._host_logits[:n].copy_(self._logits[:n], non_blocking=self._returned is not None)
        if self._returned is not None:
            self._returned.record(torch.cuda.current_stream(self._device))

    def logits(self, n: int) -> NDArray[np.float32]:
        """Wait for the logits (n, Q, R) of the pass; valid until the next one. Padding has no meaning."""
        if self._returned is not None:
            self._returned.synchronize()
        logits: NDArray[np.float32] = self._host_logits[:n].numpy()
        return logits

    def run(self, n: int) -> NDArray[np.float32]:
        """`start` and `logits`."""
        self.start(n)
        return self.logits(n)

    def _forward(self, n: int) -> None:
        R, Q, A = self._bucket.references, self._bucket.queries, self._bucket.anchors
        numbers = self._uploaded[0][:n]
        self._logits[:n] = self._model.associate_batch(
            self.features[:n],
            numbers[..., : 4 * A].reshape(n, -1, A, 4),
            numbers[..., 4 * A],
            numbers[..., 4 * A + 1] > 0,
            Q,
        )[..., :R]

    def _on_device(self, buffer: Tensor) -> Tensor:
        return torch.zeros_like(buffer, device=self._device) if self._apart else buffer


class StepPool:
    """A model's padded steps by shape: created at first use, kept within a memory limit.

    Several threads may run steps at once: each has its own buffers, and a limit of its own.
    """

    def __init__(self, model: GlobalTrackingTransformer, staged: bool = False) -> None:
        """Begin without steps.

        Args:
            model: runs the steps.
            staged: on every device use the code path of CUDA, without capturing a graph.
        """
        self._model = model
        self._staged = staged
        self._of_thread = threading.local()

    @property
    def _kept(self) -> OrderedDict[tuple[int, Bucket, torch.device], PaddedSteps]:
        if not hasattr(self._of_thread, "kept"):
            self._of_thread.kept = OrderedDict()
        kept: OrderedDict[tuple[int, Bucket, torch.device], PaddedSteps] = self._of_thread.kept
        return kept

    def steps(self, n: int, bucket: Bucket, device: torch.device) -> PaddedSteps:
        """Padded steps with room for n steps of a bucket.

        Args:
            n: at least 1, and at most `most`.
            bucket: the shape of every step.
            device: where the model is.
        """
        staged = self._is_staged(device)
        key = (bucket.fixed_streams if staged else 1 << (n - 1).bit_length(), bucket, device)
        kept = self._kept
        steps = kept.get(key)
        if steps is None:
            steps = kept[key] = PaddedSteps(self._model, key[0], bucket, device, staged)
            while len(kept) > 1 and sum(each.n_bytes for each in kept.values()) > _KEPT_BYTES:
                kept.popitem(last=False)
        kept.move_to_end(key)
        return steps

    def most(self, bucket: Bucket, device: torch.device) -> int:
        """The most steps of a bucket in one pass.

        On CUDA every pass of a bucket has the same size, whether it is full or not. The libraries there choose their
        kernels by sizes, and the last bits differ between kernels: a stream's logits would depend on the other streams.
        """
        return bucket.fixed_streams if self._is_staged(device) else bucket.most_streams

    @property
    def replays(self) -> list[Replay]:
        """The forward passes of the calling thread's steps that are repeated on the same buffers."""
        return [steps.replay for steps in self._kept.values() if steps.replay is not None]

    def clear(self) -> None:
        """Free the calling thread's buffers and graphs."""
        self._kept.clear()

    def __len__(self) -> int:
        return len(self._kept)

    def _is_staged(self, device: torch.device) -> bool:
        return self._staged or device.type == "cuda"
