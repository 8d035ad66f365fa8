"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
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
from trackd.tracking.scorer import EncodeRequest, Scorer, ScoreRequest, Scores
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.checkpoint.load import LoadedModel


@dataclass(slots=True, eq=False)
class _Context:
    """What one step is scored against, on the host."""

    scorer: TransformerScorer
    request: ScoreRequest
    rows: NDArray[np.intp]  # (q,) the valid instances: they attend to each other, so others must not even be there
    slots: Slots  # (R,) the track of each reference, ascending by frame
    positions: NDArray[np.int64]  # (R,) its ring position
    ranks: NDArray[np.int64]  # (R,) the rank of its frame
    n_frames: int  # T
    bucket: Bucket


class TransformerScorer(Scorer):
    """Logits of every instance against every observation in the window.

    An observation's feature is computed once, when it is made, and stays on the device until it leaves the window.
    Every step is padded to the shape of its `Bucket`, alone or beside others: on a CPU the logits are the same to
    the last bit, and so are the ids.
    """

    boxes_from = "crop"

    def __init__(self, loaded: LoadedModel, settings: StreamSettings) -> None:
        """Begin with an empty window.

        Args:
            loaded: the checkpoint, on the device that is to be used; shared with other streams.
            settings: of the stream.
        """
        # Torch takes the process's number of threads up in a thread only when it is first asked for there; until
        # then matrix products and convolutions on the engine's thread would use every core.
        torch.get_num_threads()
        self._model = loaded.model
        self._padded = loaded.padded
        self._requirements = Requirements.of(loaded.architecture)
        self._device = next(loaded.model.parameters()).device
        self._batch_key = (loaded.model, self._device, next(loaded.model.parameters()).dtype)
        self._upload = FrameUpload(self._device)
        self._store = FeatureStore(settings.tracker.window_size, loaded.architecture.feature_dim, self._device)
        self.configure(settings)

    @property
    def batch_key(self) -> Hashable:
        """The model, and where and how it runs."""
        return self._batch_key

    def configure(self, settings: StreamSettings) -> None:
        """Take up what says how crops are made from the next frame on."""
        dataset = settings.dataset
        self.needs_image = settings.tracker.use_vis_feats
        self._crop_shape = crop_shape(dataset.crop_width_height, dataset.padding)
        self._unit_range = dataset.pixel_range == "unit"
        self._radius_px = dataset.dilation_radius_px

    # --- crops and their features ---

    def encode(self, image: Image | None, instances: Instances) -> Tensor:
        """Features (n, F) on the device: zeros where the row is not valid, or crops are not used.

        Raises:
            FrameError: no image where one is needed, one of the wrong channels, or a frame of unknown size.
        """
        features: Tensor = self.encode_batch([EncodeRequest(self, image, instances)])[0]
        return features

    @classmethod
    @torch.inference_mode()
    def encode_batch(cls, requests: Sequence[EncodeRequest]) -> list[Any]:
        """As `Scorer.encode_batch`: the crops of all frames go through the encoder together, (n, F) for each."""
        scorers = [_own(request.scorer) for request in requests]
        for scorer, request in zip(scorers, requests, strict=True):
            scorer._check(request)
        batch = CropBatch(scorers[0]._model) if scorers else None
        features = []
        for scorer, request in zip(scorers, requests, strict=True):
            assert batch is not None
            rows = _valid_rows(request.instances)
            whole = torch.zeros((len(request.instances), scorer._store.width), device=scorer._device)
            features.append(whole)
            if scorer.needs_image and len(rows):
                at = None if request.instances.all_valid else torch.from_numpy(rows).to(scorer._device)
                for first, crops in scorer._crops(request, rows, batch.limit):
                    last = first + len(crops)
                    batch.add(crops, whole, slice(first, last) if at is None else at[first:last])
        if batch is not None:
            batch.flush()
        return features

    def _check(self, request: EncodeRequest) -> None:
        instances = request.instances
        if not instances.valid.any():
            return
        if self.needs_image and request.image is None:
            raise FrameError(
                "the model looks at crops and the frame came without an image; send images, or set "
                "tracker.use_vis_feats to false"
            )
        if instances.frame_shape is None:
            raise FrameError("the model needs the frame's size; send images with the frames, or frame_shape with open")
        if self.needs_image and request.image is not None:
            self._requirements.check_image(request.image.shape)

    def _crops(self, request: EncodeRequest, rows: NDArray[np.intp], limit: int) -> Iterator[tuple[int, Tensor]]:
        """The crops of one frame, in pieces of about `limit` numbers, each with the place of its first in `rows`."""
        assert request.image is not None  # `_check` has seen to it
        instances, needs = request.instances, self._requirements
        frame = self._upload(request.image)
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

    def score(
        self,
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        window: RollingWindow,
        live_slots: Slots,
        complete: bool,
    ) -> Scores:
        request = ScoreRequest(self, instances, features, frame_index, t_ns, window, live_slots, complete)
        return self.score_batch([request])[0]

    @classmethod
    @torch.inference_mode()
    def score_batch(cls, requests: Sequence[ScoreRequest]) -> list[Scores]:
        """As `Scorer.score_batch`: steps of one bucket go through the transformer together."""
        contexts = [_own(request.scorer)._context(request) for request in requests]
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

    def _context(self, request: ScoreRequest) -> _Context:
        window, live = request.window, request.live_slots
        held = window.frame_index[live]  # (M, W)
        tracks, positions = np.nonzero(held >= 0)
        frames, ranks = np.unique(held[tracks, positions], return_inverse=True)
        order = np.argsort(ranks, kind="stable")
        rows = _valid_rows(request.instances)
        return _Context(
            scorer=self,
            request=request,
            rows=rows,
            slots=live[tracks[order]],
            positions=positions[order],
            ranks=ranks[order].astype(np.int64),
            n_frames=len(frames) + 1,
            bucket=bucket_of(len(order), len(rows), window.n_anchors, finely=self._device.type == "cpu"),
        )

    def _write(self, context: _Context, steps: PaddedSteps, place: int) -> None:
        """Boxes, times and places of one step, on the host."""
        window, instances = context.request.window, context.request.instances
        R, used, query = context.bucket.references, len(context.slots), len(context.rows)
        assert instances.frame_shape is not None  # `encode` has seen to it
        height, width = instances.frame_shape
        boxes, ranks, valid = steps.boxes[place], steps.ranks[place], steps.valid[place]
        boxes[:used] = normalise_boxes(window.boxes[context.slots, context.positions], width, height)
        boxes[R : R + query] = normalise_boxes(instances.boxes[context.rows], width, height)
        ranks[:used] = context.ranks
        ranks[R:] = context.n_frames - 1
        valid[:] = 0
        valid[:used] = 1
        valid[R : R + query] = 1
        steps.places[place, :used] = self._store.places(context.slots, context.positions)

    def _gather(self, context: _Context, places: Tensor, features: Tensor, bucket: Bucket) -> None:
        """The features of one step's tokens, on the device."""
        request, used, R = context.request, len(context.slots), bucket.references
        query = request.features
        if not request.instances.all_valid:
            query = query[torch.from_numpy(context.rows).to(self._device)]
        self._store.gather(places[:used], features[:used])
        features[R : R + len(context.rows)] = query

    def _scores(self, context: _Context, logits: NDArray[np.float32]) -> Scores:
        n, used, query = len(context.request.instances), len(context.slots), len(context.rows)
        found = np.zeros((n, used), np.float32)
        found[context.rows] = logits[:query, :used]
        return Scores(found, context.slots, context.ranks, context.n_frames)

    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        n_new: int,
    ) -> None:
        if len(slots):
            with torch.inference_mode():
                seen = features.index_select(0, torch.from_numpy(rows.astype(np.int64)).to(self._device))
            self._store.write(slots, positions, seen)

    def end(self, slots: Slots) -> None:
        """Nothing: the window names no place in these slots until they are written again."""

    def clear(self) -> None:
        """Nothing, as `end`."""

    def resize(self, source: NDArray[np.int64]) -> None:
        self._store.resize(source)

    def snapshot(self, slots: Slots) -> State:
        return {"features": self._store.snapshot(slots)}

    def restore(self, state: State, slots: Slots) -> None:
        self._store.restore(np.asarray(state["features"], np.float32), slots)


def _own(scorer: Scorer) -> TransformerScorer:
    assert isinstance(scorer, TransformerScorer), "a batch is of scorers of one batch_key"
    return scorer


def _valid_rows(instances: Instances) -> NDArray[np.intp]:
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)
