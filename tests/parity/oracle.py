"""Reads DREEM's own results, as recorded under `$TRACKD_SHARED/oracle` (its README describes the files).

Letters: F frames, S instances of a recording in frame order; a uid is an index into S. A anchors, K pose nodes.
Within a case, q queries, n tokens (context, then queries), T columns of score matrices.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def shared_root() -> Path:
    """The folder of shared recordings and oracles; it may not exist."""
    return Path(os.environ.get("TRACKD_SHARED") or Path(__file__).parents[2] / "../shared").resolve()


def oracle_root() -> Path:
    return shared_root() / "oracle"


def case_paths() -> list[Path]:
    """Every recorded tracker run."""
    return [path for path in sorted((oracle_root() / "cases").glob("*.npz")) if not path.stem.startswith("debug_")]


def activation_paths() -> list[Path]:
    """Every recorded forward pass with its intermediate activations."""
    return sorted((oracle_root() / "cases").glob("debug_*.npz"))


def checkpoint_paths() -> list[Path]:
    return sorted(oracle_root().glob("ckpt*/*.ckpt"))


def checkpoint_path(name: str) -> Path:
    """The checkpoint that cases call `name`."""
    return next(path for path in checkpoint_paths() if path.stem == name)


@dataclass(frozen=True)
class Recording:
    """DREEM's input, frame by frame."""

    name: str
    frame_id: Array  # (F,) int
    n_instances: Array  # (F,) int
    image_shape: Array  # (F, 3) C H W
    boxes_px: Array  # (S, A, 4) float32 x1 y1 x2 y2 (recorded as y1 x1 y2 x2)
    crop_u8: Array  # (S, c, h, w) uint8
    crop_scale: float
    channel_repeat: int
    gt_id: Array  # (S,) int, -1: none
    pose_names: tuple[str, ...]  # empty: DREEM had centroids only
    pose_xy: Array | None  # (S, K, 2) float64, NaN: invisible

    @cached_property
    def first_uid(self) -> Array:
        """(F + 1,) where each frame's instances start."""
        return np.concatenate(([0], np.cumsum(self.n_instances)))

    @cached_property
    def frame_of(self) -> Array:
        """(S,) frame position of each instance."""
        return np.repeat(np.arange(len(self.frame_id)), self.n_instances)

    def uids(self, frame: int) -> Array:
        """The instances of the frame at position `frame`."""
        return np.arange(self.first_uid[frame], self.first_uid[frame + 1])

    def crops(self, uids: Array) -> Tensor:
        """(n, C, h, w) float32, bit for bit the input of DREEM's encoder."""
        crops = self.crop_u8[uids].astype(np.float32)
        if self.crop_scale != 1:
            crops /= np.float32(self.crop_scale)
        return torch.from_numpy(crops.repeat(self.channel_repeat, axis=1))


@dataclass(frozen=True)
class QueryFrame:
    """One call of the model, and the following results of DREEM's tracker."""

    frame: int  # position in the recording
    ref_uid: Array  # (n,) tokens in DREEM's order
    ref_frame_id: Array  # (n,)
    logits: Array  # (q, n)
    feature_uid: Array  # (m,) instances whose feature is new or was overwritten
    feature: Array  # (m, f)
    unique_ids: Array  # (T,) track ids of the columns below
    traj_score: Array  # (q, T)
    scaled: Array  # (q, T) log-softmax over tracks
    final: Array  # (q, T)
    match: Array  # (2, m) rows and columns of the assignment
    weight_iou: Array | None  # (q, T), if `iou` is set
    max_center_dist: Array | None  # (q, T)
    angle_diff_weight: Array | None  # (q, T)

    @property
    def n_query(self) -> int:
        return len(self.logits)

    @property
    def ranks(self) -> Array:
        """(n,) rank of each token's frame among the frames of the window."""
        return np.unique(self.ref_frame_id, return_inverse=True)[1]


@dataclass(frozen=True)
class Case:
    """One run of DREEM's tracker over a recording."""

    name: str
    recording: Recording
    checkpoint: Path
    tracker: dict[str, Any]
    model_cfg: dict[str, Any]
    assigned_id: Array  # (S,) -1: untracked
    track_score: Array  # (S,) -1.0: never set
    low_confidence: Array  # (F,) bool
    live: list[list[tuple[int, int, int]]]  # after each frame: track id, observations, gap, in queue order
    query_frames: tuple[QueryFrame, ...]


@lru_cache(maxsize=2)
def read_recording(name: str) -> Recording:
    with np.load(oracle_root() / "data" / f"{name}.npz", allow_pickle=False) as data:
        return Recording(
            name=name,
            frame_id=data["frame_id"],
            n_instances=data["n_inst"],
            image_shape=data["img_shape"],
            boxes_px=data["bbox"][..., [1, 0, 3, 2]],
            crop_u8=data["crop_u8"],
            crop_scale=float(data["crop_scale"]),
            channel_repeat=int(data["crop_channel_repeat"]),
            gt_id=data["gt_id"],
            pose_names=tuple(str(name) for name in data["pose_names"]) if "pose_names" in data else (),
            pose_xy=data.get("pose_xy"),
        )


def read_case(path: Path) -> Case:
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
        return Case(
            name=path.stem,
            recording=read_recording(meta["data"]),
            checkpoint=checkpoint_path(meta["ckpt"]),
            tracker=meta["tracker"],
            model_cfg=meta["model_cfg"],
            assigned_id=data["pred_id"],
            track_score=data["track_score"],
            low_confidence=data["low_conf"].astype(bool),
            live=[[(t[0], t[1], t[2]) for t in frame] for frame in json.loads(str(data["live"]))],
            query_frames=tuple(_query_frame(data, int(k)) for k in data["query_frames"]),
        )


@dataclass(frozen=True)
class Activations:
    """Outputs of the submodules in one forward pass; `*_0` the tokens' call, `*_1` the queries'."""

    checkpoint: Path
    recording: Recording
    uids: Array  # (n,) the tokens
    n_query: int
    ranks: Array  # (n,)
    arrays: dict[str, Array]


def read_activations(path: Path) -> Activations:
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
        recording = read_recording(meta["data"])
        uids = [recording.uids(frame)[:count] for frame, count in enumerate(data["n_inst"])]
        return Activations(
            checkpoint=checkpoint_path(meta["ckpt"]),
            recording=recording,
            uids=np.concatenate(uids),
            n_query=len(data["query_t"]),
            ranks=data["ref_t"],
            arrays={key: data[key] for key in data.files if key != "meta"},
        )


def _query_frame(data: Any, frame: int) -> QueryFrame:
    def array(key: str) -> Array:
        found: Array = data[f"f{frame:03d}_{key}"]
        return found

    def optional(key: str) -> Array | None:
        return array(key) if f"f{frame:03d}_{key}" in data else None

    return QueryFrame(
        frame=frame,
        ref_uid=array("ref_uid"),
        ref_frame_id=array("ref_frame_id"),
        logits=array("logits"),
        feature_uid=array("feat_uid"),
        feature=array("feat"),
        unique_ids=array("unique_ids"),
        traj_score=array("traj_score"),
        scaled=array("scaled"),
        final=array("final"),
        match=array("match"),
        weight_iou=optional("weight_iou"),
        max_center_dist=optional("max_center_dist"),
        angle_diff_weight=optional("angle_diff_weight"),
    )
