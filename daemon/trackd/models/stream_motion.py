"""What the motion scorer keeps of one stream: the state of its tracks by slot, and what the stream has taught.

Letters: m tracks, S slots.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trackd.models import kinematics, learnt
from trackd.models.forecast import AREA, LAST, LOG_H, LOG_W, N_STATE, REACH_X, REACH_Y, reach_and_area
from trackd.models.kinematics import N_ROWS, FloatArray
from trackd.tracking.window import Slots, State


class StreamMotion:
    """Arrays that are written in place and grow by doubling."""

    def __init__(self) -> None:
        self.learnt = learnt.first_guesses()
        self.states = np.zeros((N_STATE, 0))  # (N_STATE, S)
        self.last_frame: int | None = None
        self._stride = 0  # the usual difference between two frame indices, 0 before the second frame

    def step_before(self, frame_index: int) -> int:
        """How many frame indices a step of time is, asked before `frame_index` is counted."""
        return self._stride or (max(frame_index - self.last_frame, 1) if self.last_frame is not None else 1)

    def count(self, frame_index: int) -> None:
        """Take note of a frame."""
        if self.last_frame is not None and frame_index > self.last_frame:
            difference = frame_index - self.last_frame
            self._stride = min(self._stride, difference) if self._stride else difference
        self.last_frame = frame_index

    def count_strangers(self, n_born: int, n_seen: int) -> None:
        """Take note of how many instances began a track although others were there to be."""
        count = n_born + n_seen
        if count:
            weight = min(float(self.learnt[learnt.SHARES_WEIGHT]) + count, learnt.SHARES_MEMORY)
            strangers = float(self.learnt[learnt.STRANGERS])
            self.learnt[learnt.STRANGERS] = strangers + count / weight * (n_born / count - strangers)

    def begin(self, slots: Slots, observed: NDArray[np.float32], frame_index: int) -> None:
        """Tracks begin in these slots.

        Args:
            slots: (m,).
            observed: (4, m) x y, log width and height.
            frame_index: of the frame.
        """
        top = int(slots.max()) + 1
        if top > self.states.shape[1]:
            grown = np.zeros((N_STATE, max(16, 2 * self.states.shape[1], top)))
            grown[:, : self.states.shape[1]] = self.states
            self.states = grown
        centres, size = observed[:2].astype(np.float64), observed[2:].astype(np.float64)
        known = self.learnt
        if np.isnan(known[learnt.SIZE_MEAN]).any():
            known[learnt.SIZE_MEAN] = size.mean(axis=1)
        velocity_variance: FloatArray = 2.0 * known[learnt.SPEED] / known[learnt.NOISE].reshape(2, -1).sum(axis=0)
        state = np.ones((N_STATE, len(slots)))  # seen once, as restless as any
        state[:N_ROWS] = kinematics.begin(centres, velocity_variance)
        state[LOG_W : LOG_H + 1] = size
        reach_and_area(size, state[REACH_X : REACH_Y + 1], state[AREA])
        state[LAST] = frame_index
        self.states[:, slots] = state

    def snapshot(self, slots: Slots) -> State:
        """All of it, for the tracks in these slots."""
        return {
            "learnt": self.learnt.copy(),
            "states": self.states[:, slots],
            "stride": self._stride,
            "last_frame": self.last_frame,
        }

    def restore(self, state: State, slots: Slots) -> None:
        """Become what `snapshot` saw."""
        self.learnt = np.array(state["learnt"])
        self.states = np.zeros((N_STATE, int(slots.max(initial=-1)) + 1))
        self.states[:, slots] = state["states"]
        self._stride = int(state["stride"])
        self.last_frame = None if state["last_frame"] is None else int(state["last_frame"])
