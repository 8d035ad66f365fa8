"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.encoder.crops import crop_shape, cut_crops, keep_near, stretched
from trackd.models.encoder.upload import FrameUpload
from trackd.models.errors import FrameError
from trackd.models.transformer.boxes import normalise_boxes
from trackd.models.transformer.buckets import Bucket, bucket_of, grouped
from trackd.models.transformer.crop_batch import CropBatch
from trackd.models.transformer.features import FeatureStore
from trackd.models.transformer.padded import PaddedSteps
from trackd.models.transformer.requirements import Requirements
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import BatchScorer, Matches, Query, Scores
from trackd.tracking.window import Slots, State
from trackd_client.detections import Image

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.transformer.loaded_model import LoadedModel


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
    Every query is padded to the shape of its `Bucket`, alone or in a batch: on a CPU the logits are the same to the
    last bit, and so are the ids.
    """

    boxes_from = "crop"

    def __init__(self, loaded: LoadedModel, settings: StreamSettings) -> None:
        """Start with an empty window.

        Args:
            loaded: the checkpoint, on the device that runs it; shared with other streams.
            settings: of the stream.
        """
        self._model = loaded.model
        self._padded = loaded.padded
        self._requirements = Requirements.of(loaded.architecture)
        self._device = next(loaded.model.parameters()).device
        self.batch_key = (loaded.model, self._device, next(loaded.model.parameters()).dtype)
        self._upload = FrameUpload(self._device)
        self._store = FeatureStore(settings.tracker.window_size, loaded.architecture.feature_dim, self._device)
        self.configure(settings)

    def configure(self, settings: StreamSettings) -> None:
        """Use other crop settings from the next frame on."""
        dataset = settings.dataset
        self.needs_image = settings.tracker.use_vis_feats
        self._crop_shape = crop_shape(dataset.crop_width_height, dataset.padding)
        self._unit_range = dataset.pixel_range == "unit"
        self._radius_px = dataset.dilation_radius_px

    # --- crops and their features ---

    def encode(self, image: Image | None, instances: Instances) -> Tensor:
        """Compute features (n, F) on the device: zeros for rows that are not valid, or if crops are not used.

        Raises:
            FrameError: an image is needed and missing or has the wrong channels, or the frame's size is unknown.
        """
        features: Tensor = self.encode_batch([self], [image], [instances])[0]
        return features

    @classmethod
    @torch.inference_mode()
    def encode_batch(
        cls, scorers: Sequence[TransformerScorer], images: Sequence[Image | None], instances: Sequence[Instances]
    ) -> list[Tensor]:
        """As `BatchScorer.encode_batch`: one pass of the encoder over the crops of all frames; (n, F) for each."""
        # A thread uses the process's number of torch threads only after its first call of `get_num_threads`. Without
        # this call, matrix products and convolutions on this thread would use every core.
        torch.get_num_threads()
        for scorer, image, one in zip(scorers, images, instances, strict=True):
            scorer._check(image, one)
        batch = CropBatch(scorers[0]._model) if scorers else None
        features = []
        for scorer, image, one in zip(scorers, images, instances, strict=True):
            assert batch is not None
            rows = _valid_rows(one)
            whole = torch.zeros((len(one), scorer._store.width), device=scorer._device)
            features.append(whole)
            if scorer.needs_image and len(rows):
                at = None if one.all_valid else torch.from_numpy(rows).to(scorer._device)
                for first, crops in scorer._crops(image, one, rows, batch.limit):
                    last = first + len(crops)
                    batch.add(crops, whole, slice(first, last) if at is None else at[first:last])
        if batch is not None:
            batch.flush()
        return features

    def _check(self, image: Image | None, instances: Instances) -> None:
        if not instances.valid.any():
            return
        if self.needs_image and image is None:
            raise FrameError(
                "the model uses crops and the frame is without an image; "
                "send images, or set tracker.use_vis_feats to false"
            )
        if instances.frame_shape is None:
            raise FrameError(
                "the model needs the frame's size; send images with the frames, or frame_shape with open "
                "(a recording that is tracked needs its video)"
            )
        if self.needs_image and image is not None:
            self._requirements.check_image(image.shape)

    def _crops(
        self, image: Image | None, instances: Instances, rows: NDArray[np.intp], limit: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the crops of one frame in pieces of about `limit` numbers, each with its first position in `rows`."""
        assert image is not None, "`_check` refuses a missing image"
        needs = self._requirements
        frame = self._upload(image)
        if frame.dtype is torch.uint16 and not self._unit_range:
            frame = stretched(frame)
        boxes = instances.boxes[rows, : needs.crops]
        at_once = max(1, limit // (boxes.shape[1] * needs.channels * int(np.prod(self._crop_shape))))
        keypoints = None if instances.keypoints is None or not self._radius_px else instances.keypoints[rows]
        for first in range(0, len(rows), at_once):
            piece = boxes[first : first + at_once]
            crops = cut_crops(frame, piece, self._crop_shape, needs.channels, unit_range=self._unit_range)
            if keypoints is not None:
                crops = keep_near(crops, piece, keypoints[first : first + at_once], self._radius_px)
            yield first, crops

    def pack(self, features: Any) -> State | None:
        return None if features is None else {"features": features.cpu().numpy()}

    def unpack(self, packed: State | None) -> Tensor | None:
        return None if packed is None else torch.from_numpy(packed["features"]).to(self._device)

    # --- logits ---

    def score(self, query: Query) -> Scores:
        return self.score_batch([self], [query])[0]

    @classmethod
    @torch.inference_mode()
    def score_batch(cls, scorers: Sequence[TransformerScorer], queries: Sequence[Query]) -> list[Scores]:
        """As `BatchScorer.score_batch`: queries of one bucket go through the transformer together."""
        contexts = [scorer._context(query) for scorer, query in zip(scorers, queries, strict=True)]
        scores: dict[int, Scores] = {}
        for bucket, group in grouped(contexts, lambda context: context.bucket):
            first = group[0].scorer
            steps = first._padded.steps(len(group), bucket, first._device)
            for place, context in enumerate(group):
                context.scorer._write(context, steps, place)
            places = steps.upload(len(group))
            for place, context in enumerate(group):
                context.scorer._gather(context, places[place], steps.features[place], bucket)
            for context, logits in zip(group, steps.run(len(group)), strict=True):
                scores[id(context)] = context.scorer._scores(context, logits)
        return [scores[id(context)] for context in contexts]

    def _context(self, query: Query) -> _Context:
        window, live = query.window, query.live_slots
        held = window.frame_index[live]  # (M, W)
        tracks, positions = np.nonzero(held >= 0)
        frames, ranks = np.unique(held[tracks, positions], return_inverse=True)
        order = np.argsort(ranks, kind="stable")
        rows = _valid_rows(query.instances)
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
        own = context.query.features
        if not context.query.instances.all_valid:
            own = own[torch.from_numpy(context.rows).to(self._device)]
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

    def update(self, query: Query, matches: Matches) -> None:
        if len(matches.slots):
            assert matches.positions is not None
            rows = torch.from_numpy(matches.rows.astype(np.int64)).to(self._device)
            with torch.inference_mode():
                observed = query.features.index_select(0, rows)
            self._store.write(matches.slots, matches.positions, observed)

    def end(self, slots: Slots) -> None:
        """Do nothing: the window refers to no place in these slots until they are written again."""

    def clear(self) -> None:
        """Do nothing, as `end`."""

    def resize(self, source: NDArray[np.int64]) -> None:
        self._store.resize(source)

    def snapshot(self, slots: Slots) -> State:
        return {"features": self._store.snapshot(slots)}

    def restore(self, state: State, slots: Slots) -> None:
        self._store.restore(np.asarray(state["features"], np.float32), slots)


def _valid_rows(instances: Instances) -> NDArray[np.intp]:
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)
