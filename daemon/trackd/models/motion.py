"""The checkpoint-free scorer: where a track should be by now, how large it is, and what it looks like.

Its logits are log-likelihood ratios, "the same track" against "something else": 0 is even odds. One reference per
live track, so the cost does not grow with the window.

Letters: n instances, M live tracks, m tracks seen, S slots, K pairs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.config import StreamSettings
from trackd.models.appearance import Appearance, Descriptors, describe
from trackd.models.forecast import GATE, TAIL, Forecast, against_rivals, combine, near_pairs, terms_of
from trackd.models.kinematics import N_ROWS, Kinematics
from trackd.models.sizes import Sizes, log_sizes
from trackd.tracking.instances import Instances
from trackd.tracking.scorer import Scorer, Scores
from trackd.tracking.window import RollingWindow, Slots, State
from trackd_client.detections import Image

FloatArray = NDArray[np.float64]

PRIOR = 2.0 - math.log(2 * math.pi)  # log odds of a sure sighting over a stranger at the same place
FIRST_STRANGERS = 0.02  # share of instances that begin a track, before anything is learnt
STRANGER_WEIGHT = 0.7  # how much of the log of that share counts
LOST = 0.5  # log odds that a track loses once the last frame missed it,
AGEING = 0.3  # per log of the steps since,
FLEETING = 2.0  # and per log of the steps over the times that it was seen
BURST = 0.4  # std, over the box's sides, of a movement that no filter expects
FIRST_BURSTS = 0.2  # share of such movements, which also forgive any change of size
RARE, OFTEN = 0.002, 0.3  # bounds on the shares that are learnt
RESTLESS_GAIN = 0.2  # of a track's running misfit
RESTLESS_MOST = 9.0
MEMORY = 1000.0  # instances that the shares remember
FEW_TRACKS = 24  # with more than these, the tracks that nothing can be are left out
DENSE_PAIRS = 4000  # with more pairs than this, far ones are left out
LOG_W, LOG_H, SIZE, LAST, HITS, RESTLESS = range(N_ROWS, N_ROWS + 6)
N_STATE = N_ROWS + 6


class MotionScorer(Scorer):
    """Predicted position, size and, with images, appearance of every track."""

    boxes_from = "detection"

    def __init__(self, use_vis_feats: bool = True) -> None:
        """Begin with nothing learnt.

        Args:
            use_vis_feats: with images, compare what instances look like.
        """
        self.needs_image = use_vis_feats
        self.appearance = Appearance()
        self.kinematics = Kinematics()
        self.sizes = Sizes()
        self._state = np.zeros((N_STATE, 0))  # by slot: the filters', then LOG_W to RESTLESS
        self._bursts = FIRST_BURSTS
        self._strangers = FIRST_STRANGERS
        self._shares_weight = 50.0  # observations behind the two shares
        self._stride = 0  # the usual difference between two frame indices, 0 before the second frame
        self._last_frame: int | None = None
        self._forecast: Forecast | None = None

    def configure(self, settings: StreamSettings) -> None:
        self.needs_image = settings.tracker.use_vis_feats

    def encode(self, image: Image | None, instances: Instances) -> Descriptors | None:
        if not self.needs_image or image is None:
            return None
        return describe(image, instances)

    def pack(self, features: Any) -> State | None:
        return None if features is None else {"values": features.values, "there": features.there}

    def unpack(self, packed: State | None) -> Descriptors | None:
        return None if packed is None else Descriptors(packed["values"], packed["there"])

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
        observed = _observe(instances)
        forecast = self._foresee(frame_index, live_slots, prune=not complete and len(live_slots) > FEW_TRACKS)
        self._forecast = forecast
        slots = forecast.slots
        sparse = not complete and len(instances) * len(slots) > DENSE_PAIRS
        frames = np.zeros(len(slots), np.int64)
        forgiven = np.float32(math.log(self.sizes.strange))
        if sparse:
            pairs = near_pairs(observed, forecast)
            rows, columns = pairs
            off = observed[:, rows] - forecast.expected[:, columns]
            terms = terms_of(off, forecast.precision[:, columns], forecast.constant[:, columns])
        else:
            pairs = None
            off = observed[:, :, None] - forecast.expected[:, None, :]
            terms = terms_of(off, forecast.precision[:, None, :], forecast.constant[:, None, :])
        logits = combine(terms, forgiven)
        if features is not None:
            logits += against_rivals(self.appearance.compare(features, slots, pairs), logits, pairs)
        return Scores(logits, slots, frames, 2, pairs)

    def update(
        self,
        slots: Slots,
        rows: NDArray[np.intp],
        positions: NDArray[np.int64],
        instances: Instances,
        features: Any,
        frame_index: int,
        t_ns: int,
        born: NDArray[np.bool_],
    ) -> None:
        if self._last_frame is not None and frame_index > self._last_frame:
            difference = frame_index - self._last_frame
            self._stride = min(self._stride, difference) if self._stride else difference
        n_seen = len(slots) - int(np.count_nonzero(born))
        if len(slots):
            observed = _observe(instances)[:, rows]
            if self._forecast is not None:
                weight = min(self._shares_weight + len(slots), MEMORY)
                share = (len(slots) - n_seen) / len(slots)
                self._strangers += len(slots) / weight * (share - self._strangers)
            if n_seen:
                self._correct(slots[:n_seen], observed[:, :n_seen], frame_index)
            if n_seen < len(slots):
                self._begin(slots[n_seen:], observed[:, n_seen:], frame_index)
            if features is not None:
                self.appearance.observe(slots, rows, features, born)
            elif n_seen < len(slots):
                self.appearance.forget(slots[n_seen:])
        self._last_frame = frame_index
        self._forecast = None

    def end(self, slots: Slots) -> None:
        """Nothing: a slot's state is written anew when a track begins in it."""

    def clear(self) -> None:
        """Nothing, as `end`."""

    def snapshot(self, slots: Slots) -> State:
        return {
            "kinematics": self.kinematics.snapshot(),
            "sizes": self.sizes.snapshot(),
            "appearance": self.appearance.snapshot(slots),
            "state": self._state[:, slots],
            "bursts": self._bursts,
            "strangers": self._strangers,
            "shares_weight": self._shares_weight,
            "stride": self._stride,
            "last_frame": self._last_frame,
        }

    def restore(self, state: State, slots: Slots) -> None:
        self.kinematics.restore(state["kinematics"])
        self.sizes.restore(state["sizes"])
        self.appearance.restore(state["appearance"], slots)
        self._state = np.zeros((N_STATE, int(slots.max(initial=-1)) + 1))
        self._state[:, slots] = state["state"]
        self._bursts, self._strangers = float(state["bursts"]), float(state["strangers"])
        self._shares_weight, self._stride = float(state["shares_weight"]), int(state["stride"])
        self._last_frame = None if state["last_frame"] is None else int(state["last_frame"])
        self._forecast = None

    def _foresee(self, frame_index: int, slots: Slots, prune: bool) -> Forecast:
        """What is expected of the tracks; with `prune`, only of those that an instance could still be."""
        step = self._stride or (max(frame_index - self._last_frame, 1) if self._last_frame is not None else 1)
        elapsed = (frame_index - self._state[LAST, slots]) / step
        np.maximum(elapsed, 1.0 / step, out=elapsed)
        base = PRIOR + STRANGER_WEIGHT * math.log(FIRST_STRANGERS / max(self._strangers, 1e-4))
        prior = LOST + np.log(elapsed) * (AGEING + FLEETING / self._state[HITS, slots])
        prior *= elapsed > 1.5
        np.subtract(base, prior, out=prior)
        if prune:
            best = self.kinematics.best_peak(elapsed) + self.sizes.peak()
            possible = np.flatnonzero(prior + np.maximum(best, 0.0) > GATE)
            slots, elapsed, prior = slots[possible], elapsed[possible], prior[possible]
        state = self._state[:, slots]
        predicted = np.empty_like(state)
        predicted[:N_ROWS] = self.kinematics.predict(state[:N_ROWS], elapsed)
        predicted[N_ROWS:] = state[N_ROWS:]
        size = state[LOG_W : LOG_H + 1]

        expected = np.empty((6, len(slots)))
        expected[0:2] = expected[4:6] = self.kinematics.expected(predicted)
        expected[2:4] = size
        variance = np.empty((6, len(slots)))  # of place and burst: over size squared
        variance[0:2] = self.kinematics.variance(predicted)
        variance[0:2] *= np.minimum(np.maximum(state[RESTLESS], 1.0), RESTLESS_MOST)
        variance[2:4] = self.sizes.variance(elapsed)
        longish = np.exp(size[0] - size[1])
        np.multiply(longish, BURST**2, out=variance[4])
        np.divide(BURST**2, longish, out=variance[5])
        variance[4:6] += variance[0:2]
        logs = np.log(variance)
        constant = logs[0::2] + logs[1::2]
        constant *= -0.5
        constant[0] += prior
        constant[1] += self.sizes.half_log_spread()
        constant[2] += prior + math.log(self._bursts)
        variance *= TAIL
        area = state[SIZE] * state[SIZE]
        variance[0:2] *= area
        variance[4:6] *= area
        return Forecast(
            slots,
            predicted,
            expected.astype(np.float32),
            (1.0 / variance).astype(np.float32),
            constant.astype(np.float32),
        )

    def _correct(self, slots: Slots, observed: NDArray[np.float32], frame_index: int) -> None:
        forecast = self._forecast
        assert forecast is not None, "tracks that were seen have been scored"
        columns = np.searchsorted(forecast.slots, slots)
        terms = terms_of(
            observed - forecast.expected[:, columns],
            forecast.precision[:, columns],
            forecast.constant[:, columns],
        )
        usual = np.maximum(terms[1], np.float32(math.log(self.sizes.strange))) + terms[0]
        bursts = float(np.add.reduce(1.0 / (1.0 + np.exp(np.minimum(usual - terms[2], 50.0)))))
        self._shares_weight = min(self._shares_weight + len(slots), MEMORY)
        self._bursts += (bursts - len(slots) * self._bursts) / self._shares_weight
        self._bursts = min(max(self._bursts, RARE), OFTEN)

        state = forecast.state[:, columns]
        seen = observed[:4].astype(np.float64)
        area = state[SIZE] * state[SIZE]
        state[:N_ROWS], misfit = self.kinematics.correct(state[:N_ROWS], seen[:2], area)
        state[RESTLESS] += RESTLESS_GAIN * (misfit - state[RESTLESS])
        state[HITS] += 1.0
        state[LAST] = frame_index
        size = self.sizes.correct(state[LOG_W : LOG_H + 1], seen[2:], state[HITS])
        state[LOG_W : LOG_H + 1] = size
        state[SIZE] = np.exp(0.5 * (size[0] + size[1]))
        self._state[:, slots] = state

    def _begin(self, slots: Slots, observed: NDArray[np.float32], frame_index: int) -> None:
        top = int(slots.max()) + 1
        if top > self._state.shape[1]:
            grown = np.zeros((N_STATE, max(16, 2 * self._state.shape[1], top)))
            grown[:, : self._state.shape[1]] = self._state
            self._state = grown
        state = np.ones((N_STATE, len(slots)))  # seen once, as restless as any
        state[:N_ROWS] = self.kinematics.begin(observed[:2].astype(np.float64))
        size = observed[2:4]
        state[LOG_W : LOG_H + 1] = size
        state[SIZE] = np.exp(0.5 * (size[0] + size[1]))
        state[LAST] = frame_index
        self._state[:, slots] = state


def _observe(instances: Instances) -> NDArray[np.float32]:
    """X y, log width and height, and x y once more, (6, n)."""
    observed = np.empty((6, len(instances)), np.float32)
    observed[0:2] = observed[4:6] = instances.centres.T
    observed[2:4] = log_sizes(instances.extents)
    return observed
