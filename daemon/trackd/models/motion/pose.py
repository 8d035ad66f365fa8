"""The pose of each track, by slot, and what poses add to the logits of a frame.

Two animals in contact have nearly the same place and box, while their poses differ. Each node of a track is expected
where it was last, moved with the animal and turned on as its body turned.

What a pose is worth follows from the stream. Per node, the variance between the poses of all animals is compared with
that of an animal's pose about its expected one, which grows with the gap. From their ratio follows the correlation of a
pose with the last one. Where it is 0 all tracks are expected to have the stream's mean pose, and poses decide nothing.

Poses decide between the near tracks of an instance. They lower no logit so far that the pair could not match, so that a
wrong pose (head and tail exchanged, nodes of another animal) ends no track.

Letters: n instances, M tracks, m matched, S slots, k nodes, K pairs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.models.motion import pose_body, pose_model, pose_records
from trackd.models.motion.predict import GATE
from trackd.tracking.instances import Instances
from trackd.tracking.window import Slots, State

Indices = NDArray[np.intp]

MOST_NODES = 32  # of poses with more nodes so many are compared, at equal distances in their order
FIRST_BODIES = 50  # after so many poses the mean body is learnt from one instance of a frame
LARGE_TABLE = 65_536  # a table of so many pairs takes milliseconds: other threads run meanwhile


class Poses:
    """The last pose of each track, by slot, and the stream's statistics of poses."""

    def __init__(self) -> None:
        self._reset(0)

    def _reset(self, n_nodes: int) -> None:
        """Forget everything; the stream's poses have so many nodes from now on."""
        self.n_nodes = n_nodes  # k; 0 before the first frame with keypoints
        self._nodes = np.zeros((0, n_nodes, 2))  # (S, k, 2) pixels relative to the mean of the visible ones; else NaN
        self._tracks = np.zeros(0, pose_records.TRACK)  # (S,)
        self._learnt = pose_records.first_nodes(n_nodes)  # (k,)
        self._stream = pose_records.first_stream()  # (1,)
        self._expected = np.zeros((0, n_nodes), pose_records.EXPECTED)  # (≥ M, k) scratch of one frame

    def weigh(
        self,
        logits: NDArray[np.float32],
        pairs: Indices | None,
        instances: Instances,
        slots: Slots,
        frame_index: int,
        per_step: int,
    ) -> None:
        """Lower the logits of pairs whose poses fit worse than those of the instance's best near track.

        Args:
            logits: (n, M), or (K,) with pairs; written.
            pairs: (2, K) rows, ascending, and columns; None: all.
            instances: (n) with keypoints.
            slots: (M,) of the columns.
            frame_index: the frame's number.
            per_step: frame indices per time step.
        """
        points = _nodes_of(instances)
        if points.shape[1] != self.n_nodes or self.n_nodes < 2 or len(slots) < 2:
            return
        self._reserve(int(slots[-1]) + 1, len(slots))
        model = (
            points, self._nodes, self._tracks, slots, frame_index, per_step, self._learnt, self._stream, GATE,
            self._expected,
        )  # fmt: skip
        if pairs is not None:
            pose_model.weigh_pairs(*model, pairs, logits)
        elif logits.size < LARGE_TABLE:
            pose_model.weigh_table(*model, logits)
        else:
            pose_model.weigh_large_table(*model, logits)

    def placed(self, instances: Instances) -> Instances:
        """The instances, with centres that missing nodes do not move."""
        points = _nodes_of(instances)
        if points.shape[1] != self.n_nodes or self.n_nodes < 2:
            return instances
        middles = np.empty_like(instances.centres)
        if not pose_body.find_middles(points, self._learnt, instances.centres, middles):
            return instances
        return replace(instances, centres=middles)

    def update(
        self, slots: Slots, rows: Indices, n_new: int, instances: Instances, frame_index: int, per_step: int
    ) -> None:
        """Store the poses of the tracks in (m,) slots, of which the last `n_new` are new, and learn from them."""
        points = _nodes_of(instances)
        if points.shape[1] != self.n_nodes:
            self._reset(points.shape[1])
        if self.n_nodes < 2 or not len(slots):
            return
        self._reserve(int(slots.max()) + 1, 0)
        pose_model.learn(
            points, self._nodes, self._tracks, slots, rows, n_new, frame_index, per_step, self._learnt, self._stream
        )
        step = 1 if self._stream["poses"][0] < FIRST_BODIES else len(slots)
        pose_body.learn_body(points, rows, frame_index % step, step, self._learnt)

    def forget(self, slots: Slots) -> None:
        """Remove the poses of the tracks in these slots."""
        slots = slots[slots < len(self._tracks)]
        self._tracks[slots], self._nodes[slots] = 0, np.nan

    def _reserve(self, n_slots: int, n_columns: int) -> None:
        old = len(self._tracks)
        if n_slots > old:
            more = max(n_slots, 2 * old, 16) - old
            self._tracks = np.concatenate([self._tracks, np.zeros(more, pose_records.TRACK)])
            self._nodes = np.concatenate([self._nodes, np.full((more, self.n_nodes, 2), np.nan)])
        if n_columns > len(self._expected):
            capacity = max(n_columns, 2 * len(self._expected), 16)
            self._expected = np.zeros((capacity, self.n_nodes), pose_records.EXPECTED)

    def snapshot(self, slots: Slots) -> State:
        """The statistics, and the tracks in these slots. The names are part of the journal's format."""
        self._reserve(int(slots.max(initial=-1)) + 1, 0)
        return {
            "nodes": self._nodes[slots],
            "tracks": _numbers(self._tracks[slots]),
            "learnt": _numbers(self._learnt).copy(),
            "stream": _numbers(self._stream).copy(),
        }

    def restore(self, state: State | None, slots: Slots) -> None:
        """Replace the state by that of a snapshot; None: it has no poses."""
        self._reset(0 if state is None else len(state["learnt"]))
        if state is None:
            return
        self._reserve(int(slots.max(initial=-1)) + 1, 0)
        self._nodes[slots] = state["nodes"]
        _numbers(self._tracks)[slots] = state["tracks"]
        _numbers(self._learnt)[:] = state["learnt"]
        _numbers(self._stream)[:] = state["stream"]


def _nodes_of(instances: Instances) -> NDArray[np.float32]:
    """The nodes that are compared, (n, k, 2); not to be written to."""
    sent: Any = instances.keypoints
    if sent.shape[1] > MOST_NODES:
        sent = sent[:, np.linspace(0, sent.shape[1] - 1, MOST_NODES).astype(np.intp)]
    if sent.dtype == np.float32:
        return np.ascontiguousarray(sent)
    with np.errstate(over="ignore"):  # an instance beyond float32 is not valid
        return np.ascontiguousarray(sent, np.float32)


def _numbers(records: NDArray[np.void]) -> NDArray[Any]:
    """A view of records as rows of float64."""
    return records.view(np.float64).reshape(len(records), records.dtype.itemsize // 8)
