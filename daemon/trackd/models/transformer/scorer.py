"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.models.errors import FrameError
from trackd.models.transformer.boxes import normalise_boxes
from trackd.models.transformer.buckets import Bucket, bucket_of, grouped
from trackd.models.transformer.crop_batch import CropBatch
from trackd.models.transformer.features import FeatureStore
from trackd.models.transformer.frame_crops import FrameCrops
from trackd.models.transformer.padded import PaddedSteps
from trackd.models.transformer.requirements import Requirements
from trackd.models.transformer.reuse import Encoded, FeatureReuse
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

    An observation's feature is computed once, with its frame, and stays on the device until it leaves the window. With
    `encode_every` it may be that of the same instance in the frame before.
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
        self._crops = FrameCrops(self._requirements, settings.dataset, self._device)
        self._store = FeatureStore(settings.tracker.window_size, loaded.architecture.feature_dim, self._device)
        self._dataset = settings.dataset
        self._reuse: FeatureReuse | None = None  # None: every crop is encoded
        self.configure(settings)

    def configure(self, settings: StreamSettings) -> None:
        """Use other crop settings from the next frame on."""
        self.needs_image = settings.tracker.use_vis_feats
        self._crops.configure(settings.dataset)
        self._configure_reuse(settings)

    def _configure_reuse(self, settings: StreamSettings) -> None:
        tracker = settings.tracker
        if tracker.encode_every == 1 or not self.needs_image:
            self._reuse = None
        elif self._reuse is None or settings.dataset != self._dataset:  # other crops have other features
            self._reuse = FeatureReuse(tracker.encode_every, tracker.encode_change, self._device)
        else:
            self._reuse.every, self._reuse.change = tracker.encode_every, tracker.encode_change
        self._dataset = settings.dataset

    # --- crops and their features ---

    def encode(self, image: Image | None, instances: Instances) -> Tensor | Encoded:
        """Compute features (n, F) on the device: zeros for rows that are not valid, or if crops are not used.

        With `encode_every` they are in an `Encoded`, and may be those of the last frame that `update` was given.

        Raises:
            FrameError: an image is needed and missing or has the wrong channels, or the frame's size is unknown.
        """
        return self.encode_batch([self], [image], [instances])[0]

    @classmethod
    @torch.inference_mode()
    def encode_batch(
        cls, scorers: Sequence[TransformerScorer], images: Sequence[Image | None], instances: Sequence[Instances]
    ) -> list[Tensor | Encoded]:
        """As `BatchScorer.encode_batch`: one pass of the encoder over the crops of all frames; (n, F) for each."""
        # A thread uses the process's number of torch threads only after its first call of `get_num_threads`. Without
        # this call, matrix products and convolutions on this thread would use every core.
        torch.get_num_threads()
        for scorer, image, one in zip(scorers, images, instances, strict=True):
            scorer._check(image, one)
        batch = CropBatch(scorers[0]._model) if scorers else None
        features: list[Tensor | Encoded] = []
        for scorer, image, one in zip(scorers, images, instances, strict=True):
            assert batch is not None
            rows = _valid_rows(one)
            whole = torch.zeros((len(one), scorer._store.width), device=scorer._device)
            if scorer._reuse is not None:
                features.append(scorer._encode_changed(scorer._reuse, batch, image, one, rows, whole))
                continue
            features.append(whole)
            if scorer.needs_image and len(rows):
                at = None if one.all_valid else torch.from_numpy(rows).to(scorer._device)
                assert image is not None, "`_check` refuses a missing image"
                for first, crops in scorer._crops.cut(image, one, rows, batch.limit):
                    last = first + len(crops)
                    batch.add(crops, whole, slice(first, last) if at is None else at[first:last])
        if batch is not None:
            batch.flush()
        return features

    def _encode_changed(
        self,
        reuse: FeatureReuse,
        batch: CropBatch,
        image: Image | None,
        instances: Instances,
        rows: NDArray[np.intp],
        whole: Tensor,
    ) -> Encoded:
        """Queue the crops of one frame whose features are not those of the last frame; `whole` is (n, F)."""
        encoded = Encoded.empty(whole, self._requirements.crops)
        if len(rows):
            candidates = reuse.candidates(instances)
            assert image is not None, "`_check` refuses a missing image"
            for first, crops in self._crops.cut(image, instances, rows, batch.limit):
                own = rows[first : first + len(crops)]
                changed = np.flatnonzero(reuse.reuse(encoded, candidates, own, crops))
                if len(changed):
                    queued = crops if len(changed) == len(own) else crops[torch.from_numpy(changed).to(self._device)]
                    batch.add(queued, whole, torch.from_numpy(own[changed]).to(self._device))
        return encoded

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

    def pack(self, features: Any) -> State | None:
        if isinstance(features, Encoded):
            return features.pack()
        return None if features is None else {"features": features.cpu().numpy()}

    def unpack(self, packed: State | None) -> Tensor | Encoded | None:
        if packed is not None and "ages" in packed:
            return Encoded.unpack(packed, self._device)
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
        own = _tensor(context.query.features)
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
                observed = _tensor(query.features).index_select(0, rows)
            self._store.write(matches.slots, matches.positions, observed)
        if self._reuse is not None and isinstance(query.features, Encoded):
            self._reuse.remember(query.instances, query.features)

    def end(self, slots: Slots) -> None:
        """Do nothing: the window refers to no place in these slots until they are written again."""

    def clear(self) -> None:
        """Do nothing, as `end`."""

    def resize(self, source: NDArray[np.int64]) -> None:
        self._store.resize(source)

    def snapshot(self, slots: Slots) -> State:
        state: State = {"features": self._store.snapshot(slots)}
        if self._reuse is not None and (last := self._reuse.snapshot()) is not None:
            state["last_frame"] = last
        return state

    def restore(self, state: State, slots: Slots) -> None:
        self._store.restore(np.asarray(state["features"], np.float32), slots)
        if self._reuse is not None:
            self._reuse.restore(state.get("last_frame"))


def _valid_rows(instances: Instances) -> NDArray[np.intp]:
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)


def _tensor(features: Tensor | Encoded) -> Tensor:
    return features.features if isinstance(features, Encoded) else features
