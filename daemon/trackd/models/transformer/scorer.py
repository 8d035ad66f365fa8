"""The scorer of a checkpoint: DREEM's global tracking transformer over the rolling window.

Letters: n instances of the query frame, of which q are valid; R references (the window's observations of the live
tracks), M live tracks, W observations kept per track, T distinct frames with the query, A anchors, F feature width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trackd.device_points import ARMED, device_point
from trackd.models.device_faults import within_memory
from trackd.models.encoder.device_jpeg import decoded_shape
from trackd.models.encoder.upload import to_device
from trackd.models.errors import DeviceLostError, DeviceMemoryError, FrameError
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
from trackd_client.protocol import EncodedImage

if TYPE_CHECKING:
    from trackd.config import StreamSettings
    from trackd.models.transformer.loaded_model import LoadedModel

Result = TypeVar("Result")

_FEWER = 8  # times fewer crops are in memory at once in each further attempt to encode a frame
_MOST_PARTS = _FEWER**6  # then every piece has the fewest crops


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
    Every query is padded to the shape of its `Bucket`, alone or in a batch: the logits are the same to the last bit,
    and so are the ids.

    If the device's memory is full, buffers are freed and the work is done once more, a single frame's crops then in
    smaller and smaller pieces. `reserve` allocates all that `update` needs, so the window changes completely or not.
    """

    boxes_from = "crop"
    can_undo = True

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
        self._decode = loaded.decode_jpeg
        self.decodes_jpeg = loaded.decode_jpeg is not None
        self._copies: torch.cuda.Stream | None = None  # of features to the host, beside the steps
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

    def encode(self, image: Image | EncodedImage | None, instances: Instances) -> Tensor | Encoded:
        """Compute features (n, F) on the device: zeros for rows that are not valid, or if crops are not used.

        With `encode_every` they are in an `Encoded`, and may be those of the last frame that `update` was given.

        Raises:
            FrameError: an image is needed and missing or has the wrong channels, or the frame's size is unknown.
            DecodeError: the device cannot decode the image.
        """
        return self.encode_batch([self], [image], [instances])[0]

    @classmethod
    def encode_batch(
        cls,
        scorers: Sequence[TransformerScorer],
        images: Sequence[Image | EncodedImage | None],
        instances: Sequence[Instances],
    ) -> list[Tensor | Encoded]:
        """As `BatchScorer.encode_batch`: one pass of the encoder over the crops of all frames; (n, F) for each.

        Raises:
            DeviceMemoryError: the device's memory does not suffice; for one frame: not even for a few crops at once.
            DeviceLostError: the device does not answer any more.
        """
        # A thread uses the process's number of torch threads only after its first call of `get_num_threads`. Without
        # this call, matrix products and convolutions on this thread would use every core.
        torch.get_num_threads()
        for scorer, image, one in zip(scorers, images, instances, strict=True):
            scorer._check(image, one)
        if not scorers:
            return []
        first, part = scorers[0], 1
        while True:
            try:
                return first._within_memory(partial(cls._encode, scorers, images, instances, part))
            except DeviceMemoryError:
                if len(scorers) > 1 or part >= _MOST_PARTS:
                    raise
            part *= _FEWER

    @staticmethod
    @torch.inference_mode()
    def _encode(
        scorers: Sequence[TransformerScorer],
        images: Sequence[Image | EncodedImage | None],
        instances: Sequence[Instances],
        part: int,
    ) -> list[Tensor | Encoded]:
        """Encode the crops of some frames, of which a `part`-th of the usual number is in memory at once."""
        batch = CropBatch(scorers[0]._model, part)
        features: list[Tensor | Encoded] = []
        for scorer, image, one in zip(scorers, scorers[0]._decoded(images), instances, strict=True):
            rows = _valid_rows(one)
            whole = torch.zeros((len(one), scorer._store.width), device=scorer._device)
            if scorer._reuse is not None:
                features.append(scorer._encode_changed(scorer._reuse, batch, image, one, rows, whole))
                continue
            features.append(whole)
            if scorer.needs_image and len(rows):
                at = None if one.all_valid else to_device(rows, scorer._device)
                assert image is not None, "`_check` refuses a missing image"
                for first, crops in scorer._crops.cut(image, one, rows, batch):
                    last = first + len(crops)
                    batch.add(crops, whole, slice(first, last) if at is None else at[first:last])
        batch.flush()
        return features

    def _encode_changed(
        self,
        reuse: FeatureReuse,
        batch: CropBatch,
        image: Image | Tensor | None,
        instances: Instances,
        rows: NDArray[np.intp],
        whole: Tensor,
    ) -> Encoded:
        """Queue the crops of one frame whose features are not those of the last frame; `whole` is (n, F)."""
        encoded = Encoded.empty(whole, self._requirements.crops)
        if len(rows):
            candidates = reuse.candidates(instances)
            assert image is not None, "`_check` refuses a missing image"
            for first, crops in self._crops.cut(image, instances, rows, batch):
                own = rows[first : first + len(crops)]
                changed = np.flatnonzero(reuse.reuse(encoded, candidates, own, crops))
                if len(changed):
                    queued = crops if len(changed) == len(own) else crops[to_device(changed, self._device)]
                    batch.add(queued, whole, to_device(own[changed], self._device))
        return encoded

    def _decoded(self, images: Sequence[Image | EncodedImage | None]) -> list[Image | Tensor | None]:
        """Return the images, with the pixels on the device of those that are files."""
        files = [image for image in images if isinstance(image, EncodedImage)]
        if not files:
            return [image for image in images if not isinstance(image, EncodedImage)]
        assert self._decode is not None, "`decodes_jpeg` says whether files are given"
        pixels = iter(self._decode(files))
        return [next(pixels) if isinstance(image, EncodedImage) else image for image in images]

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        return within_memory(self._device, work, self._release)

    def _release(self) -> None:
        """Free the buffers of the model's passes that this thread uses; they are made again when they are needed."""
        self._padded.clear()
        self._model.passes.clear()

    def _check(self, image: Image | EncodedImage | None, instances: Instances) -> None:
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
            shape = decoded_shape(image) if isinstance(image, EncodedImage) else image.shape
            self._requirements.check_image(shape)

    def pack(self, features: Any) -> Callable[[], State | None]:
        if features is None:
            return lambda: None
        tensors, others = {"features": features}, {}
        if isinstance(features, Encoded):
            tensors, others = {"features": features.features, "looks": features.looks}, {"ages": features.ages}
        if self._device.type != "cuda":
            return lambda: self._within_memory(lambda: _packed({n: t.cpu() for n, t in tensors.items()}, others))
        return self._within_memory(lambda: self._copy_back(tensors, others))

    def _copy_back(self, tensors: Mapping[str, Tensor], others: State) -> Callable[[], State]:
        """Start to copy features to the host, beside the pass of the transformer; return a function that ends it."""
        if self._copies is None:
            self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        hosts = {name: torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for name, each in tensors.items()}
        self._copies.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copies):
            for name, each in tensors.items():
                hosts[name].copy_(each, non_blocking=True)
            copied.record(self._copies)
        for each in tensors.values():
            each.record_stream(self._copies)  # their memory is not used again before the copy is complete

        def end() -> State:
            self._within_memory(copied.synchronize)
            return _packed({name: host.clone() for name, host in hosts.items()}, others)

        return end

    def unpack(self, packed: State | None) -> Tensor | Encoded | None:
        if packed is None:
            return None
        if "ages" in packed:
            return self._within_memory(lambda: Encoded.unpack(packed, self._device))
        return self._within_memory(lambda: torch.from_numpy(packed["features"]).to(self._device))

    # --- logits ---

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
        if self._reuse is not None and isinstance(features, Encoded):
            self._reuse.remember(query.instances, features)

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
        if self._reuse is not None and (last := self._reuse.snapshot()) is not None:
            state["last_frame"] = last
        return state

    def restore(self, state: State, slots: Slots) -> None:
        rings = np.asarray(state["features"], np.float32)
        self._within_memory(lambda: self._store.restore(rings, slots))
        reuse = self._reuse
        if reuse is not None:
            self._within_memory(lambda: reuse.restore(state.get("last_frame")))


def _tensor(features: Tensor | Encoded) -> Tensor:
    return features.features if isinstance(features, Encoded) else features


def _packed(tensors: Mapping[str, Tensor], others: State) -> State:
    if ARMED:
        device_point("copy")
    return {**{name: each.numpy() for name, each in tensors.items()}, **others}


def _valid_rows(instances: Instances) -> NDArray[np.intp]:
    return np.arange(len(instances)) if instances.all_valid else np.flatnonzero(instances.valid)
