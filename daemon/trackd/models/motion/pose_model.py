"""The model of poses: how well an instance's nodes fit a track's, and what a stream's poses are like.

An instance is aligned with the track's expected pose, so that its place does not count a second time. The sum of the
squared deviations of the common nodes, each over its variance, has a Student t density. It is compared with that of any
pose of the stream, which has the stream's variance, and mixed with outliers: poses that are unrelated to their track's.

Lengths are relative to an animal's size, the root mean square distance of its nodes from their mean. Variances are of
one coordinate of one node.

Letters: n instances, M tracks, m matched, S slots, k nodes, K pairs, G classes of gaps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import from_dtype, types
from numpy.typing import NDArray

from trackd.compiled import (
    FLOAT,
    FLOAT32_TABLE,
    FLOATS32,
    INT,
    INT_TABLE,
    INTS,
    compiled,
    piece,
    records,
)
from trackd.models.motion.pose_records import EXPECTED, NODE, STREAM, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Logits = NDArray[np.float32]

N_GAPS, GAP_SLACK = 8, 1.25  # the classes of gaps end at this many steps, and at its doubles
FREEDOM = 3.0  # the nodes of a pose move together: this many of its coordinates count as independent
TAIL = 4.0  # degrees of freedom of the Student t of a pose: fewer give a heavier tail
BOUND = 6.0  # the most by which a pose lowers a logit
FLOOR = -4.0  # no logit is lowered below this one, which is just above the default threshold
MOST_TURN = 0.5 * math.pi  # a greater turn between two frames is taken for an exchange of nodes
MOST_TURNS = 8  # after so many steps a track's turn is over
SIZE_GAIN = 0.2  # least weight of a new pose in the track's size
MIN_SIZE_PX = 1e-3
MIN_NOISE = 0.01**2
MAX_GROWTH = 100.0  # of the noise after a gap
MAX_NOISE_RATIO = 4.0  # of a frame's noise over the running one: bounds the effect of a single frame
MIN_OUTLIERS, MAX_OUTLIERS = 0.01, 0.3
TURNS_KEPT = 0.998  # share of the sums over turns that a new one leaves
MOST_LEARNT = 64  # of the poses of a frame about so many are learnt from
MEMORY = 600.0  # the most poses that are remembered

_SUMS = np.dtype([("square", np.float64), ("count", np.float64)])

_NODES = types.float64[:, :, ::1]
_SENT = types.Array(types.float32, 3, "C", readonly=True)
_EXPECTED_TABLE: Any = from_dtype(EXPECTED)[:, ::1]


@piece
def _gap(steps: float) -> int:
    """The class of a gap, 0 to G − 1."""
    gap, most = 0, GAP_SLACK
    while gap < N_GAPS - 1 and steps > most:
        gap += 1
        most *= 2.0
    return gap


@piece
def _turn_ahead(turn: float, kept: float, steps: float) -> float:
    """The expected turn in so many steps after one of `turn`."""
    total, share = 0.0, 1.0
    for _ in range(min(int(steps + 0.5), MOST_TURNS)):
        share *= kept
        total += share
    return turn * total


@piece
def _likelihood_ratio(misfit: float, gain: float, common: int, outliers: float) -> float:
    """The likelihood ratio of a pose: the track's against any.

    Args:
        misfit: the sum of the squared deviations over their variance.
        gain: the product over the nodes of the stream's variance over that about the track's pose.
        common: number of nodes, at least 2.
        outliers: share of poses that are unrelated to their track's.
    """
    coordinates = 2.0 * (common - 1)  # two are spent on the alignment
    freedom = min(coordinates, FREEDOM)
    log_ratio = 0.5 * freedom * (math.log(gain) / common + 1.0)
    log_ratio -= 0.5 * (TAIL + freedom) * math.log1p(freedom * misfit / (coordinates * TAIL))
    return (1.0 - outliers) * math.exp(log_ratio) + outliers


@piece
def _expect(
    nodes: Floats, tracks: Any, slot: int, frame_index: float, per_step: float, learnt: Any, stream: Any, expected: Any,
    j: int,
) -> None:  # fmt: skip
    """Write the expected pose of a track to row j.

    A pose with correlation c to the last one is expected at mean + c · (last − mean), with the share 1 − c² of the
    stream's variance; c follows from the noise, which is that of the difference of the two poses.
    """
    steps = (frame_index - tracks[slot].frame) / per_step
    growth, angle = stream.growth[_gap(steps)], _turn_ahead(tracks[slot].turn, stream.turn_kept, steps)
    cos, sin, size = math.cos(angle), math.sin(angle), tracks[slot].size
    length = math.sqrt(size)
    for node in range(len(learnt)):
        x, y = nodes[slot, node, 0], nodes[slot, node, 1]
        if math.isnan(x):
            expected[j, node].precision = 0.0
            continue
        spread = learnt[node].spread
        kept = max(1.0 - 0.5 * growth * learnt[node].noise / spread, 0.0)
        left = 1.0 - kept * kept
        away = length * (1.0 - kept)
        expected[j, node].x = away * learnt[node].mean_x + kept * (cos * x - sin * y)
        expected[j, node].y = away * learnt[node].mean_y + kept * (sin * x + cos * y)
        expected[j, node].precision = 1.0 / (size * spread * left)
        expected[j, node].gain = 1.0 / left


@piece
def _log_ratio(points: Logits, i: int, expected: Any, j: int, outliers: float) -> float:
    """The log likelihood ratio of an instance and a track; 0 if they have fewer than two nodes in common."""
    common, total, gain = 0, 0.0, 1.0
    mean_x, mean_y, squares = 0.0, 0.0, 0.0
    for node in range(expected.shape[1]):
        precision = expected[j, node].precision
        x, y = points[i, node, 0] - expected[j, node].x, points[i, node, 1] - expected[j, node].y
        squared = x * x + y * y
        if precision > 0.0 and squared < np.inf:  # false for NaN
            common += 1
            total += precision
            gain *= expected[j, node].gain
            mean_x += precision * x
            mean_y += precision * y
            squares += precision * squared
    if common < 2:
        return 0.0
    misfit = max(squares - (mean_x * mean_x + mean_y * mean_y) / total, 0.0)
    return math.log(_likelihood_ratio(misfit, gain, common, outliers))


@piece
def _lowered(logit: float, behind: float) -> float:
    """A logit, lowered by what its log ratio is behind the best one of the row."""
    return max(logit - min(behind, BOUND), min(logit, FLOOR))


@piece
def _weigh(
    points: Logits, nodes: Floats, tracks: Any, slots: Indices, frame_index: float, per_step: float, learnt: Any,
    stream: Any, gate: float, expected: Any, logits: Logits,
) -> None:  # fmt: skip
    ratios, is_expected = np.empty(len(slots)), np.zeros(len(slots), np.bool_)
    for i in range(logits.shape[0]):
        near, best = 0, -np.inf
        for j in range(logits.shape[1]):
            near += logits[i, j] > gate
        if near < 2:
            continue
        for j in range(logits.shape[1]):
            if logits[i, j] > gate:
                if not is_expected[j]:
                    _expect(nodes, tracks, slots[j], frame_index, per_step, learnt, stream, expected, j)
                    is_expected[j] = True
                ratios[j] = _log_ratio(points, i, expected, j, stream.outliers)
                best = max(best, ratios[j])
        for j in range(logits.shape[1]):
            if logits[i, j] > gate:
                logits[i, j] = _lowered(logits[i, j], best - ratios[j])


_MODEL = (_SENT, _NODES, records(TRACK), INTS, FLOAT, FLOAT, records(NODE), records(STREAM), FLOAT, _EXPECTED_TABLE)


@compiled(None, *_MODEL, FLOAT32_TABLE)
def weigh_table(
    points: Logits,
    nodes: Floats,
    tracks: NDArray[np.void],
    slots: Indices,
    frame_index: float,
    per_step: float,
    learnt: NDArray[np.void],
    stream: NDArray[np.void],
    gate: float,
    expected: NDArray[np.void],
    logits: Logits,
) -> None:
    """Lower the logits of pairs whose poses fit worse than those of the instance's best near track.

    Args:
        points: (n, k, 2) the nodes of the instances, pixels; NaN for a missing one.
        nodes: (S, k, 2) those of the tracks, relative to their mean.
        tracks: (S,) of the poses.
        slots: (M,) of the columns.
        frame_index: the frame's number.
        per_step: frame indices per time step.
        learnt: (k,) of the nodes.
        stream: (1,).
        gate: logit below which a pair is far.
        expected: (≥ M, k) scratch.
        logits: (n, M), written.
    """
    _weigh(points, nodes, tracks, slots, frame_index, per_step, learnt, stream[0], gate, expected, logits)


@compiled(None, *_MODEL, FLOAT32_TABLE, nogil=True)
def weigh_large_table(
    points: Logits,
    nodes: Floats,
    tracks: NDArray[np.void],
    slots: Indices,
    frame_index: float,
    per_step: float,
    learnt: NDArray[np.void],
    stream: NDArray[np.void],
    gate: float,
    expected: NDArray[np.void],
    logits: Logits,
) -> None:
    """As `weigh_table`, for a table that takes milliseconds: other threads run meanwhile."""
    _weigh(points, nodes, tracks, slots, frame_index, per_step, learnt, stream[0], gate, expected, logits)


@compiled(None, *_MODEL, INT_TABLE, FLOATS32, nogil=True)
def weigh_pairs(
    points: Logits,
    nodes: Floats,
    tracks: NDArray[np.void],
    slots: Indices,
    frame_index: float,
    per_step: float,
    learnt: NDArray[np.void],
    stream: NDArray[np.void],
    gate: float,
    expected: NDArray[np.void],
    pairs: Indices,
    logits: Logits,
) -> None:
    """As `weigh_table`, for the logits (K,) of pairs (2, K) of rows, ascending, and columns."""
    ratios, is_expected = np.empty(len(logits)), np.zeros(len(slots), np.bool_)
    start, count = 0, pairs.shape[1]
    while start < count:
        i, end = pairs[0, start], start
        near, best = 0, -np.inf
        while end < count and pairs[0, end] == i:
            near += logits[end] > gate
            end += 1
        if near > 1:
            for k in range(start, end):
                if logits[k] > gate:
                    j = pairs[1, k]
                    if not is_expected[j]:
                        _expect(nodes, tracks, slots[j], frame_index, per_step, learnt, stream[0], expected, j)
                        is_expected[j] = True
                    ratios[k] = _log_ratio(points, i, expected, j, stream[0].outliers)
                    best = max(best, ratios[k])
            for k in range(start, end):
                if logits[k] > gate:
                    logits[k] = _lowered(logits[k], best - ratios[k])
        start = end


@piece
def _turn(nodes: Floats, slot: int, pose: Floats) -> float:
    """The angle by which a pose (k, 2) is turned from the track's last one."""
    count, x, y, u, v, inner, outer = 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for node in range(len(pose)):
        a, b, c, d = nodes[slot, node, 0], nodes[slot, node, 1], pose[node, 0], pose[node, 1]
        if not math.isnan(a + c):
            count += 1
            x, y, u, v = x + a, y + b, u + c, v + d
            inner += a * c + b * d
            outer += a * d - b * c
    if count < 2:
        return 0.0
    return math.atan2(outer - (x * v - y * u) / count, inner - (x * u + y * v) / count)


@piece
def _learn_turn(track: Any, turn: float, steps: float, stream: Any) -> None:
    """Store a track's turn, and learn how much of the last one went on."""
    if abs(turn) > MOST_TURN:
        track.turn = 0.0
    elif steps > GAP_SLACK:
        track.turn = turn / steps
    else:
        stream.turns = stream.turns * TURNS_KEPT + track.turn * track.turn
        stream.turns_on = stream.turns_on * TURNS_KEPT + track.turn * turn
        track.turn = turn


@piece
def _learn_change(
    nodes: Floats, tracks: Any, slot: int, pose: Floats, steps: float, terms: Floats, stream: Any, moves: Any, gaps: Any
) -> None:
    """Add the deviation of an observed pose (k, 2) from its track's, turned on, to the sums of the frame.

    Args:
        nodes: (S, k, 2) of the tracks.
        tracks: (S,).
        slot: of the track.
        pose: relative to the mean of its nodes.
        steps: since the track's pose.
        terms: (k, 2) of each node, 1 over its noise, and its spread over its noise.
        stream: of it.
        moves: (k + 1,) written: of each node the squared deviations; then the outliers, and the number of poses.
        gaps: (G,) written: the squared deviations over the noise, and the number of poses.
    """
    gap, size = _gap(steps), tracks[slot].size
    angle = _turn_ahead(tracks[slot].turn, stream.turn_kept, steps)
    cos, sin = math.cos(angle), math.sin(angle)
    shrink = 1.0 / stream.growth[gap]
    scale = shrink / size
    common, total, gain = 0, 0.0, 1.0
    mean_x, mean_y, squares = 0.0, 0.0, 0.0
    for node in range(len(terms)):
        x = pose[node, 0] - (cos * nodes[slot, node, 0] - sin * nodes[slot, node, 1])
        y = pose[node, 1] - (sin * nodes[slot, node, 0] + cos * nodes[slot, node, 1])
        if not math.isnan(x):
            precision = scale * terms[node, 0]
            common += 1
            total += precision
            gain *= max(shrink * terms[node, 1], 1.0)
            mean_x += precision * x
            mean_y += precision * y
            squares += precision * (x * x + y * y)
    if common < 2:
        return
    mean_x, mean_y = mean_x / total, mean_y / total
    misfit = max(squares - total * (mean_x * mean_x + mean_y * mean_y), 0.0)
    coordinates = 2.0 * (common - 1)
    freedom = min(coordinates, FREEDOM)
    usual = (TAIL + freedom) / (TAIL + freedom * misfit / coordinates)  # outliers weigh little in a Student t's scale
    moves[-1].square += stream.outliers / _likelihood_ratio(misfit, gain, common, stream.outliers)
    moves[-1].count += 1.0
    gaps[gap].square += usual * misfit / coordinates
    gaps[gap].count += 1.0
    share, left = 0.5 * usual / size, scale / total
    if gap == 0:
        for node in range(len(terms)):
            x = pose[node, 0] - (cos * nodes[slot, node, 0] - sin * nodes[slot, node, 1]) - mean_x
            y = pose[node, 1] - (sin * nodes[slot, node, 0] + cos * nodes[slot, node, 1]) - mean_y
            if not math.isnan(x):
                moves[node].square += share * (x * x + y * y)
                moves[node].count += 1.0 - left * terms[node, 0]  # what the alignment leaves


@piece
def _learn_spread(pose: Floats, size: float, learnt: Any, rate: float) -> None:
    """Move the mean and the variance of the stream's poses towards one."""
    scale = 1.0 / math.sqrt(size)
    for node in range(len(learnt)):
        if not math.isnan(pose[node, 0]):
            x, y = pose[node, 0] * scale - learnt[node].mean_x, pose[node, 1] * scale - learnt[node].mean_y
            learnt[node].mean_x += rate * x
            learnt[node].mean_y += rate * y
            learnt[node].spread += rate * (0.5 * (x * x + y * y) - learnt[node].spread)
            learnt[node].spread = max(learnt[node].spread, MIN_NOISE)


@piece
def _read(points: Logits, row: int, pose: Floats) -> float:
    """Write the nodes of an instance (k, 2), relative to their mean; return their mean square, −1 for fewer than 2."""
    count, x, y, squares = 0, 0.0, 0.0, 0.0
    for node in range(len(pose)):
        pose[node, 0], pose[node, 1] = points[row, node, 0], points[row, node, 1]
        if abs(pose[node, 0]) + abs(pose[node, 1]) < np.inf:  # false for NaN
            count += 1
            x += pose[node, 0]
            y += pose[node, 1]
        else:
            pose[node, 0] = pose[node, 1] = np.nan
    if count < 2:
        return -1.0
    for node in range(len(pose)):
        pose[node, 0] -= x / count
        pose[node, 1] -= y / count
        if not math.isnan(pose[node, 0]):
            squares += pose[node, 0] * pose[node, 0] + pose[node, 1] * pose[node, 1]
    return max(squares / count, MIN_SIZE_PX * MIN_SIZE_PX)


@piece
def _update_statistics(learnt: Any, stream: Any, moves: Any, gaps: Any) -> None:
    """Move the running means towards those of a frame."""
    moved = moves[-1].count
    stream.moves = min(stream.moves + moved, MEMORY)
    rate = min(moved / stream.moves, 0.5)
    outliers = stream.outliers + rate * (moves[-1].square / moved - stream.outliers)
    stream.outliers = min(max(outliers, MIN_OUTLIERS), MAX_OUTLIERS)
    stream.turn_kept = min(max(stream.turns_on / stream.turns, 0.0), 1.0)
    for node in range(len(learnt)):
        if moves[node].count > 0.0:
            noise = min(moves[node].square / moves[node].count, MAX_NOISE_RATIO * learnt[node].noise)
            change = rate * min(moves[node].count / moved, 1.0) * (noise - learnt[node].noise)
            learnt[node].noise = max(learnt[node].noise + change, MIN_NOISE)
    for gap in range(1, N_GAPS):
        if gaps[gap].count > 0.0:
            stream.gap_weights[gap] = min(stream.gap_weights[gap] + gaps[gap].count, MEMORY)
            rate = gaps[gap].count / stream.gap_weights[gap]
            change = 1.0 + rate * (min(gaps[gap].square / gaps[gap].count, MAX_NOISE_RATIO) - 1.0)
            stream.growth[gap] = min(max(stream.growth[gap] * change, 1.0), MAX_GROWTH)


@compiled(
    None, _SENT, _NODES, records(TRACK), INTS, INTS, INT, FLOAT, FLOAT, records(NODE), records(STREAM)
)  # fmt: skip
def learn(
    points: Logits,
    nodes: Floats,
    tracks: NDArray[np.void],
    slots: Indices,
    rows: Indices,
    n_new: int,
    frame_index: float,
    per_step: float,
    learnt: NDArray[np.void],
    stream: NDArray[np.void],
) -> None:
    """Store the poses of a frame by slot, and learn from them; arguments as of `weigh_table`.

    Of the (m,) slots and their rows the last `n_new` are new tracks. An instance with fewer than two nodes leaves its
    track its last pose.
    """
    pose = np.empty((len(learnt), 2))
    moves, gaps = np.zeros(len(learnt) + 1, _SUMS), np.zeros(N_GAPS, _SUMS)
    every, first = 1 + (len(slots) - 1) // MOST_LEARNT, int(frame_index)
    terms = np.empty((len(learnt), 2))
    for node in range(len(learnt)):
        terms[node, 0] = 1.0 / learnt[node].noise
        terms[node, 1] = learnt[node].spread * terms[node, 0]
    for k in range(len(slots)):
        slot = slots[k]
        track = tracks[slot]
        if k >= len(slots) - n_new:
            track.hits = track.turn = 0.0
            for node in range(len(learnt)):
                nodes[slot, node, 0] = nodes[slot, node, 1] = np.nan
        squared = _read(points, rows[k], pose)
        if squared < 0.0:
            continue
        if track.hits > 0.0:
            steps = (frame_index - track.frame) / per_step
            if (k + first) % every == 0:
                _learn_change(nodes, tracks, slot, pose, steps, terms, stream[0], moves, gaps)
            _learn_turn(track, _turn(nodes, slot, pose), steps, stream[0])
        track.hits += 1.0
        if track.hits == 1.0:
            track.size = squared
        track.size += max(1.0 / track.hits, SIZE_GAIN) * (squared - track.size)
        track.frame = frame_index
        for node in range(len(learnt)):
            nodes[slot, node, 0], nodes[slot, node, 1] = pose[node, 0], pose[node, 1]
        if (k + first) % every == 0:
            stream[0].poses = min(stream[0].poses + 1.0, MEMORY)
            _learn_spread(pose, track.size, learnt, 1.0 / stream[0].poses)
    if moves[-1].count > 0.0:
        _update_statistics(learnt, stream[0], moves, gaps)
