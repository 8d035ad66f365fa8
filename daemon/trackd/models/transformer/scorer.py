"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.device_faults import within_memory
from trackd.models.encoder.upload import to_device
from trackd.models.errors import DeviceLostError, DeviceMemoryError
from trackd.models.transformer.boxes import normalise_boxes
from trackd.models.transformer.buckets import Bucket, bucket_of, grouped
from trackd.models.transformer.features import FeatureStore
from trackd.models.transformer.frame_encoder import FrameEncoder, valid_rows
from trackd.models.transformer.padded import PaddedSteps
from trackd.models.transformer.reuse import Encoded
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import BatchScorer, Matches, Query, Scores
from trackd.tracking.window import Slots, State
from trackd_client.detections import Image
from trackd_client.protocol import EncodedImage

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.transformer.loaded_model import LoadedModel

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Context:
    """What one query is compared with, on the host."""

    scorer: TransformerScorer
    query: Query
    rows: NDArray[np.intp]  # (q,) the valid instances; others must be left out, since self-attention would mix them in
    slots: Slots  # (R,) the track of each reference, ascending by frame
    positions: NDArray[np.int64]  # (R,) its ring position
    ranks: NDArray[np.int64]  # (R,) the rank of its frame
    n_frames: int  # T
    bucket: Bucket


class TransformerScorer(BatchScorer):
    """Logits of every instance against every observation in the window.

    An observation's feature is computed once, with its frame, and stays on the device until it leaves the window.
    Every query is padded to the shape of its `Bucket`, alone or in a batch: the logits are the same to the last bit,
    and so are the ids.

    If the device's memory is full, buffers are freed and the work is done once more. `reserve` allocates all that
    `update` needs, so the window changes completely or not.
    """

    boxes_from = "crop"
    can_undo = True

    def __init__(self, loaded: LoadedModel, settings: StreamSettings) -> None:
        """Start with an empty window.

        Args:
            loaded: the checkpoint, on the device that runs it; shared with other streams.
            settings: of the stream.
        """
        self._padded = loaded.padded
        self._release = loaded.release
        self._device = next(loaded.model.parameters()).device
        self.batch_key = (loaded.model, self._device, next(loaded.model.parameters()).dtype)
        self._encoder = FrameEncoder(loaded, settings)
        self.needs_image = self._encoder.needs_image
        self.decodes_jpeg = loaded.decode_jpeg is not None
        self._store = FeatureStore(settings.tracker.window_size, loaded.architecture.feature_dim, self._device)

    def configure(self, settings: StreamSettings) -> None:
        """Use other crop settings from the next frame on."""
        self._encoder.configure(settings)
        self.needs_image = self._encoder.needs_image

    def encode(self, image: Image | EncodedImage | None, instances: Instances) -> Tensor | Encoded:
        """As `FrameEncoder.encode`, for one frame."""
        return self.encode_batch([self], [image], [instances])[0]

    @classmethod
    def encode_batch(
        cls,
        scorers: Sequence[TransformerScorer],
        images: Sequence[Image | EncodedImage | None],
        instances: Sequence[Instances],
    ) -> list[Tensor | Encoded]:
        """As `FrameEncoder.encode`: one pass of the encoder over the crops of all frames."""
        return FrameEncoder.encode([scorer._encoder for scorer in scorers], images, instances)

    def pack(self, features: Tensor | Encoded | None) -> Callable[[], State | None]:
        return self._encoder.pack(features)

    def unpack(self, packed: State | None) -> Tensor | Encoded | None:
        return self._encoder.unpack(packed)

    def score(self, query: Query) -> Scores:
        return self.score_batch([self], [query])[0]

    @classmethod
    def score_batch(cls, scorers: Sequence[TransformerScorer], queries: Sequence[Query]) -> list[Scores]:
        """As `BatchScorer.score_batch`: queries of one bucket go through the transformer together.

        Raises:
            DeviceMemoryError: the device's memory does not suffice.
            DeviceLostError: the device does not answer any more.
        """
        if not scorers:
            return []
        contexts = [scorer._context(query) for scorer, query in zip(scorers, queries, strict=True)]
        return scorers[0]._within_memory(lambda: cls._score(contexts))

    @staticmethod
    @torch.inference_mode()
    def _score(contexts: Sequence[_Context]) -> list[Scores]:
        """Start the passes of all buckets; then wait for them."""
        pool, device = contexts[0].scorer._padded, contexts[0].scorer._device
        scores: dict[int, Scores] = {}
        started: dict[int, tuple[PaddedSteps, list[_Context]]] = {}

        def end(steps: PaddedSteps, group: list[_Context]) -> None:
            for context, logits in zip(group, steps.logits(len(group)), strict=True):
                scores[id(context)] = context.scorer._scores(context, logits)

        for bucket, group in grouped(
            contexts, lambda context: context.bucket, lambda bucket: pool.most(bucket, device)
        ):
            steps = pool.steps(len(group), bucket, device)
            if id(steps) in started:  # its buffers are in use
                end(*started.pop(id(steps)))
            for place, context in enumerate(group):
                context.scorer._write(context, steps, place)
            places = steps.upload(len(group))
            for place, context in enumerate(group):
                context.scorer._gather(context, places[place], steps.features[place], bucket)
            steps.start(len(group))
            started[id(steps)] = steps, group
        for steps, group in started.values():
            end(steps, group)
        return [scores[id(context)] for context in contexts]

    def _context(self, query: Query) -> _Context:
        window, live = query.window, query.live_slots
        held = window.frame_index[live]  # (M, W)
        tracks, positions = np.nonzero(held >= 0)
        frames, ranks = np.unique(held[tracks, positions], return_inverse=True)
        order = np.argsort(ranks, kind="stable")
        rows = valid_rows(query.instances)
        return _Context(
            scorer=self,
            query=query,
            rows=rows,
            slots=live[tracks[order]],
            positions=positions[order],
            ranks=ranks[order].astype(np.int64),
            n_frames=len(frames) + 1,
            bucket=bucket_of(len(order), len(rows), window.n_anchors, finely=self._device.type == "cpu"),
        )

    def _write(self, context: _Context, steps: PaddedSteps, place: int) -> None:
        """Write boxes, times and places of one query, on the host."""
        window, instances = context.query.window, context.query.instances
        R, used, n_query = context.bucket.references, len(context.slots), len(context.rows)
        assert instances.frame_shape is not None, "`encode` refuses a frame of unknown size"
        height, width = instances.frame_shape
        boxes, ranks, valid = steps.boxes[place], steps.ranks[place], steps.valid[place]
        boxes[:used] = normalise_boxes(window.boxes[context.slots, context.positions], width, height)
        boxes[R : R + n_query] = normalise_boxes(instances.boxes[context.rows], width, height)
        ranks[:used] = context.ranks
        ranks[R:] = context.n_frames - 1
        valid[:] = 0
        valid[:used] = 1
        valid[R : R + n_query] = 1
        steps.places[place, :used] = self._store.places(context.slots, context.positions)

    def _gather(self, context: _Context, places: Tensor, features: Tensor, bucket: Bucket) -> None:
        """Gather the features of one query's tokens, on the device."""
        used, R = len(context.slots), bucket.references
        own = _tensor(context.query.features)
        if not context.query.instances.all_valid:
            own = own[to_device(context.rows, self._device)]
        self._store.gather(places[:used], features[:used])
        features[R : R + len(context.rows)] = own

    def _scores(self, context: _Context, logits: NDArray[np.float32]) -> Scores:
        n, used, n_query = len(context.query.instances), len(context.slots), len(context.rows)
        if n_query == n:
            found = logits[:n_query, :used].copy()  # lets other threads run, unlike an assignment to chosen rows
        else:
            found = np.zeros((n, used), np.float32)
            found[context.rows] = logits[:n_query, :used]
        return Scores(found, context.slots, context.ranks, context.n_frames)

    def reserve(self, tracks: int, observations: int) -> None:
        self._within_memory(lambda: self._store.reserve(tracks, observations))

    def update(self, query: Query, matches: Matches) -> None:
        positions, features = matches.positions, query.features
        if len(matches.slots):
            assert positions is not None
            try:
                self._within_memory(
                    lambda: self._store.write(matches.slots, positions, _tensor(features), matches.rows)
                )
            except DeviceMemoryError as error:  # `reserve` excludes it; the tracks have changed: only a restart helps
                raise DeviceLostError(f"features could not be kept: {error}") from None
        self._encoder.remember(query.instances, features)

    def end(self, slots: Slots) -> None:
        """Do nothing: the window refers to no place in these slots until they are written again."""

    def clear(self) -> None:
        """Do nothing, as `end`."""

    def resize(self, source: NDArray[np.int64]) -> None:
        self._within_memory(lambda: self._store.resize(source))

    def snapshot(self, slots: Slots) -> State:
        return self._within_memory(lambda: self._snapshot(slots))

    def _snapshot(self, slots: Slots) -> State:
        state: State = {"features": self._store.snapshot(slots)}
        if (last := self._encoder.snapshot()) is not None:
            state["last_frame"] = last
        return state

    def restore(self, state: State, slots: Slots) -> None:
        rings = np.asarray(state["features"], np.float32)
        self._within_memory(lambda: self._store.restore(rings, slots))
        self._encoder.restore(state.get("last_frame"))

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        return within_memory(self._device, work, self._release)


def _tensor(features: Tensor | Encoded) -> Tensor:
    return features.features if isinstance(features, Encoded) else features
