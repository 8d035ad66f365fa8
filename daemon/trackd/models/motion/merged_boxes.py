"""Tracks in one box: whether a box is that of two tracks, where each is in it, and where it is expected.

A box of several objects is the hull of their boxes. So each of its four edges shows where one of them is: the one whose
predicted edge is the outermost. The others can be anywhere inside.

Letters: n instances, M predicted tracks, k members of g groups of tracks in one box, by group, the host first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT_TABLE, FLOATS, INT, INTS, compiled, piece, records
from trackd.models.motion.records import EXPECTED, STATISTICS, TRACK

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

MAX_MISSED = 2  # frames in a row without a track that may be in a box now
MAX_TESTS = 1 << 13  # pairs of missing tracks and instances: up to 4 ms, in which no other thread runs
MEMORY = 200.0  # missing tracks that met a box
MAX_SHARE = 0.95  # of those that were in it
USUAL_TAIL, TAIL = 6.0, 4.0  # as of `predict`
EDGE_NOISE = 0.03  # std of an edge of a box of several objects, over its side: shadows and gaps between them
BROAD = 0.5  # std of the edges of a box that is related to no track, over its side
WHOLE_NOISE = 0.1  # std of the place and of the log size of such a box about its prediction, over its side
MEASURED = 2.0  # variance of a place that follows from an edge, in units of a filter's measurement noise
TURN = 0.1  # std of a movement in a contact that the filters do not predict, over the size
CONFUSED = 0.3  # probability that the filters confuse two tracks whose predicted places are the same
COVERED = 2.0  # standard deviations of a log size within which a box has the size of one track


@piece
def _edge(row: Any, edge: int) -> float:
    """An edge of the expected box, x1 y1 x2 y2."""
    half = 0.5 * math.exp(row.size[edge % 2])
    return float(row.centre[edge % 2] + (half if edge >= 2 else -half))


@piece
def _edge_variance(row: Any, axis: int) -> float:
    half = 0.5 * math.exp(row.size[axis])
    return float(1.0 / (USUAL_TAIL * row.position_precision[axis]) + half * half / (TAIL * row.size_precision[axis]))


@piece
def _observed_edge(observed: Floats, row: int, edge: int) -> float:
    half = 0.5 * math.exp(observed[row, 2 + edge % 2])
    return float(observed[row, edge % 2] + (half if edge >= 2 else -half))


@piece
def _blur(row: Any, add_x: float, add_y: float) -> None:
    """Add variances to the place of an expected measurement, pixels²; the densities at its centre fall with them."""
    usual, burst = 1.0, 1.0
    for axis in range(2):
        added = add_x if axis == 0 else add_y
        ratio = 1.0 + USUAL_TAIL * added * row.position_precision[axis]
        row.position_precision[axis] /= ratio
        usual *= ratio
        ratio = 1.0 + TAIL * added * row.burst_precision[axis]
        row.burst_precision[axis] /= ratio
        burst *= ratio
    row.position_peak /= math.sqrt(usual)
    row.burst_peak /= math.sqrt(burst)


@compiled(None, records(EXPECTED), INTS, INTS, INT, records(EXPECTED))
def widen(
    expected: NDArray[np.void], columns: Indices, groups: Indices, n_groups: int, wholes: NDArray[np.void]
) -> None:
    """Expect each member anywhere in its group's box, and the box of each group.

    Args:
        expected: (M,) written at the members' columns.
        columns: (k,) of the members.
        groups: (k,) ascending from 0.
        n_groups: g.
        wholes: (g,) written.
    """
    hull = np.empty((n_groups, 4))
    for k in range(len(columns)):
        row, group = expected[columns[k]], groups[k]
        is_host = k == 0 or groups[k - 1] != group
        if is_host:
            wholes[group] = row
        for edge in range(4):
            at = _edge(row, edge)
            if is_host:
                hull[group, edge] = at
            elif edge < 2:
                hull[group, edge] = min(hull[group, edge], at)
            else:
                hull[group, edge] = max(hull[group, edge], at)
    for group in range(n_groups):
        row = wholes[group]
        added = np.empty(2)
        for axis in range(2):
            side = hull[group, 2 + axis] - hull[group, axis]
            row.centre[axis] = 0.5 * (hull[group, axis] + hull[group, 2 + axis])
            row.size[axis] = math.log(side)
            added[axis] = (WHOLE_NOISE * side) ** 2
            ratio = 1.0 + WHOLE_NOISE**2 * TAIL * row.size_precision[axis]
            row.size_precision[axis] /= ratio
            row.size_peak /= math.sqrt(ratio)
        _blur(row, added[0], added[1])
    for k in range(len(columns)):
        group = groups[k]
        # The variance of a uniform density over the box.
        _blur(
            expected[columns[k]],
            (hull[group, 2] - hull[group, 0]) ** 2 / 12.0,
            (hull[group, 3] - hull[group, 1]) ** 2 / 12.0,
        )


@piece
def _log_fit(observed: Floats, row: int, edges: Floats, variances: Floats, outliers: float) -> float:
    """The log density of the edges of an observation: those that are expected, or unrelated to them."""
    usual, broad = 0.0, math.log(outliers)
    for edge in range(4):
        side = max(edges[2 + edge % 2] - edges[edge % 2], 1.0)
        off = (_observed_edge(observed, row, edge) - edges[edge]) ** 2
        variance = variances[edge] + (EDGE_NOISE * side) ** 2
        usual -= 0.5 * ((TAIL + 1.0) * math.log1p(off / (TAIL * variance)) + math.log(variance))
        variance = (BROAD * side) ** 2
        broad -= 0.5 * ((TAIL + 1.0) * math.log1p(off / (TAIL * variance)) + math.log(variance))
    return float(max(usual, broad))


@piece
def _meet(observed: Floats, row: int, edges: Floats, j: int) -> bool:
    for axis in range(2):
        if edges[j, axis] >= _observed_edge(observed, row, axis + 2):
            return False
        if edges[j, axis + 2] <= _observed_edge(observed, row, axis):
            return False
    return True


@piece
def _overlap(boxes: Floats, i: int, edges: Floats, j: int) -> bool:
    """As `_meet`, of boxes whose edges are computed."""
    return bool(
        edges[j, 0] < boxes[i, 2]
        and edges[j, 2] > boxes[i, 0]
        and edges[j, 1] < boxes[i, 3]
        and edges[j, 3] > boxes[i, 1]
    )


@piece
def _join(edges: Floats, variances: Floats, j: int, hull: Floats, hull_variances: Floats) -> None:
    """Extend a hull by a box."""
    for edge in range(4):
        outside = edges[j, edge] < hull[edge] if edge < 2 else edges[j, edge] > hull[edge]
        if outside:
            hull[edge], hull_variances[edge] = edges[j, edge], variances[j, edge]


@piece
def _best(
    observed: Floats, row: int, gone: Indices, edges: Floats, variances: Floats, hosts: Indices, hull: Floats,
    hull_variances: Floats, log_odds: float, outliers: float, posterior: Floats,
) -> int:  # fmt: skip
    """The missing track that is likeliest in a box beside those of the hull, or −1; updates the posteriors."""
    best, highest = -1, 0.0
    alone = _log_fit(observed, row, hull, hull_variances, outliers)
    joint, joint_variances = np.empty(4), np.empty(4)
    for g in range(len(gone)):
        j = gone[g]
        if hosts[j] >= 0 or not _meet(observed, row, edges, j):
            continue
        joint[:] = hull
        joint_variances[:] = hull_variances
        _join(edges, variances, j, joint, joint_variances)
        gain = _log_fit(observed, row, joint, joint_variances, outliers) - alone + log_odds
        posterior[j] = max(posterior[j], 1.0 / (1.0 + math.exp(-gain)))
        if gain > highest:
            best, highest = j, gain
    return best


@piece
def _count(posterior: Floats, counts: Floats) -> None:
    """Count the missing tracks that met a box, whose posterior is above 0."""
    for g in range(len(posterior)):
        if posterior[g] > 0.0:
            counts[0] += 1.0
            counts[1] += posterior[g]
    counts[1] = min(counts[1], MAX_SHARE * counts[0])
    if counts[0] > MEMORY:
        counts[1] *= MEMORY / counts[0]
        counts[0] = MEMORY


@compiled(None, FLOATS, FLOATS)
def count(posterior: Floats, counts: Floats) -> None:
    """Update the counts (2,) by the posteriors of missing tracks, as `find_signs` does."""
    _count(posterior, counts)


@compiled(INT, records(EXPECTED), INTS, INT, FLOAT_TABLE, INTS, INTS, INTS, INTS, FLOAT, FLOATS)
def find_signs(
    expected: NDArray[np.void],
    kept: Indices,
    n_kept: int,
    observed: Floats,
    slots: Indices,
    rows: Indices,
    unmatched: Indices,
    missed: NDArray[np.int64],
    outliers: float,
    counts: Floats,
) -> int:
    """Whether a box may be that of two tracks, where no track is hidden yet; and learn from what is seen.

    Args:
        expected: of the tracks in `kept`.
        kept: slots, ascending.
        n_kept: their number.
        observed: (n, 4) x y, log width and height.
        slots: (m,) of the matched tracks, all in `kept`.
        rows: (m,) their instances.
        unmatched: (c,) instances without a track.
        missed: (S,) frames in a row without the track.
        outliers: the share of boxes whose size is unrelated to their track's.
        counts: (2,) updated: missing tracks that met a box, and the expected number of those that were in it.

    Returns:
        1 or 0.
    """
    is_matched, n_gone = np.zeros(len(missed), np.bool_), 0
    for k in range(len(slots)):
        is_matched[slots[k]] = True
    gone = np.empty(n_kept - len(slots), np.int64)
    for j in range(n_kept):
        if missed[kept[j]] <= MAX_MISSED and not is_matched[kept[j]]:
            gone[n_gone] = j
            n_gone += 1
    if n_gone == 0 or n_gone * len(observed) > MAX_TESTS:
        return 0
    edges, variances = np.empty((n_gone, 4)), np.empty((n_gone, 4))
    for g in range(n_gone):
        for edge in range(4):
            edges[g, edge] = _edge(expected[gone[g]], edge)
            variances[g, edge] = _edge_variance(expected[gone[g]], edge % 2)
    best, boxes = np.zeros(n_gone), np.empty((len(observed), 4))
    for row in range(len(observed)):
        for edge in range(4):
            boxes[row, edge] = _observed_edge(observed, row, edge)
    log_odds = math.log(counts[1] / (counts[0] - counts[1]))
    hull, hull_variances = np.empty(4), np.empty(4)
    found = 0
    for k in range(len(slots)):
        row, j = rows[k], -1
        alone = 0.0
        for g in range(n_gone):
            if not _overlap(boxes, row, edges, g):
                continue
            if j < 0:
                j = np.searchsorted(kept[:n_kept], slots[k])
            for edge in range(4):
                hull[edge], hull_variances[edge] = _edge(expected[j], edge), _edge_variance(expected[j], edge % 2)
            alone = _log_fit(observed, row, hull, hull_variances, outliers)
            _join(edges, variances, g, hull, hull_variances)
            gain = _log_fit(observed, row, hull, hull_variances, outliers) - alone + log_odds
            best[g] = max(best[g], 1.0 / (1.0 + math.exp(-gain)))
            found |= gain > 0.0
    for k in range(len(unmatched)):
        n_near = 0
        for g in range(n_gone):
            n_near += _overlap(boxes, unmatched[k], edges, g)
        found |= n_near > 1
    _count(best, counts)
    return int(found)


@compiled(
    INT, records(EXPECTED), FLOAT_TABLE, INTS, INTS, INTS, INTS, FLOAT, FLOAT, INTS, INTS, FLOATS
)  # fmt: skip
def find_merges(
    expected: NDArray[np.void],
    observed: Floats,
    columns: Indices,
    groups: Indices,
    gone: Indices,
    matched: Indices,
    log_odds: float,
    outliers: float,
    hosts: Indices,
    rows: Indices,
    posterior: Floats,
) -> int:
    """Find the boxes that are those of several tracks.

    Args:
        expected: (M,).
        observed: (n, 4) x y, log width and height.
        columns: (k,) members of the groups.
        groups: (k,) ascending from 0.
        gone: columns of tracks that were missing from at most `MAX_MISSED` frames before, and are in this one.
        matched: (n,) the column of each instance's track, −1 for none, −2 for an instance that takes no part.
        log_odds: that a missing track is in a box that its own meets, before any evidence.
        outliers: the share of boxes whose size is unrelated to their track's.
        hosts: (M,) −1; written: the column of the track with whose box a missing one merged.
        rows: (M,) written for the same: the box.
        posterior: (M,) 0; written for missing tracks that meet a box: the probability that they are in one.

    Returns:
        the number of merges.
    """
    m, found = len(expected), 0
    edges, variances = np.empty((m, 4)), np.empty((m, 4))
    for j in range(m):
        for edge in range(4):
            edges[j, edge], variances[j, edge] = _edge(expected[j], edge), _edge_variance(expected[j], edge % 2)
    host = -1
    for k in range(len(columns)):
        if k == 0 or groups[k] != groups[k - 1]:
            host = columns[k]
        else:
            _join(edges, variances, columns[k], edges[host], variances[host])
    hull, hull_variances = np.empty(4), np.empty(4)
    for i in range(len(observed)):
        if matched[i] < -1:
            continue
        first = matched[i]
        if first < 0:  # two missing tracks are in a box that neither was matched with
            nearest = np.inf
            for g in range(len(gone)):
                j = gone[g]
                if hosts[j] < 0 and _meet(observed, i, edges, j):
                    off = 0.0
                    for edge in range(4):
                        off += (_observed_edge(observed, i, edge) - edges[j, edge]) ** 2
                    if off < nearest:
                        first, nearest = j, off
            if first < 0:
                continue
            hosts[first] = first  # it takes no part in the search
        hull[:] = edges[first]
        hull_variances[:] = variances[first]
        before = found
        while True:
            j = _best(observed, i, gone, edges, variances, hosts, hull, hull_variances, log_odds, outliers, posterior)
            if j < 0:
                break
            hosts[j], rows[j] = first, i
            found += 1
            _join(edges, variances, j, hull, hull_variances)
        if matched[i] < 0:
            rows[first] = i
            if found == before:
                hosts[first] = -1
    return found


@compiled(None, records(EXPECTED), FLOAT_TABLE, INTS, FLOAT, FLOATS)
def compare_with_hull(
    expected: NDArray[np.void], observed: Floats, chosen: Indices, outliers: float, gains: Floats
) -> None:
    """Write the log likelihood ratio of each box: that of all tracks, against that of one of them.

    Args:
        expected: (k,) of the tracks.
        observed: (p, 4) x y, log width and height.
        chosen: (p,) the one track.
        outliers: the share of boxes whose size is unrelated to their track's.
        gains: (p,) written.
    """
    k = len(expected)
    edges, variances = np.empty((k, 4)), np.empty((k, 4))
    for j in range(k):
        for edge in range(4):
            edges[j, edge], variances[j, edge] = _edge(expected[j], edge), _edge_variance(expected[j], edge % 2)
    hull, hull_variances = edges[0].copy(), variances[0].copy()
    for j in range(1, k):
        _join(edges, variances, j, hull, hull_variances)
    for row in range(len(observed)):
        one = chosen[row]
        alone = _log_fit(observed, row, edges[one], variances[one], outliers)
        gains[row] = _log_fit(observed, row, hull, hull_variances, outliers) - alone


@compiled(
    None, records(TRACK), records(TRACK), records(STATISTICS), INT, FLOAT_TABLE, INTS, INTS, INTS, INTS, FLOAT, FLOATS,
    FLOATS,
)  # fmt: skip
def follow(
    tracks: NDArray[np.void],
    predicted: NDArray[np.void],
    statistics: NDArray[np.void],
    model: int,
    observed: Floats,
    slots: Indices,
    columns: Indices,
    groups: Indices,
    rows: Indices,
    frame_index: float,
    confusion: Floats,
    covered: Floats,
) -> None:
    """Update the members of the groups by the edges of their boxes. Their sizes and the statistics stay.

    Args:
        tracks: (S,), written.
        predicted: (M,) the tracks at the frame.
        statistics: (1,) of the stream.
        model: the filter that predicts best.
        observed: (n, 4) x y, log width and height.
        slots: (k,) of the members.
        columns: (k,) their indices in `predicted`.
        groups: (k,) ascending from 0.
        rows: (k,) the box of each.
        frame_index: the frame's number.
        confusion: (S,) updated: the probability that a track's place is that of another member.
        covered: (S,) updated: frames in a row in which its box had the size of a single member.
    """
    stats = statistics[0]
    start = 0
    low, high = np.empty(2), np.empty(2)
    outer, z, is_measured = np.empty(4, np.int64), np.empty(2), np.empty(2, np.bool_)
    while start < len(slots):
        end = start
        while end < len(slots) and groups[end] == groups[start]:
            end += 1
        for edge in range(4):  # the member whose edge is the outermost
            outermost = np.inf
            for k in range(start, end):
                track = predicted[columns[k]]
                at = track.x[model] if edge % 2 == 0 else track.y[model]
                half = 0.5 * math.exp(track.log_w if edge % 2 == 0 else track.log_h)
                at = at - half if edge < 2 else -at - half
                if at < outermost:
                    outer[edge], outermost = k, at
        is_covered = False
        for k in range(start, end):
            slot = slots[k]
            tracks[slot] = predicted[columns[k]]
            track = tracks[slot]
            track.last_frame = frame_index
            is_as_large = True
            for axis in range(2):
                log_size = track.log_w if axis == 0 else track.log_h
                half = 0.5 * math.exp(log_size)
                low[axis] = _observed_edge(observed, rows[k], axis) + half
                high[axis] = _observed_edge(observed, rows[k], axis + 2) - half
                noise = COVERED * math.sqrt(stats.size_noise[axis])
                is_as_large &= observed[rows[k], 2 + axis] - log_size < noise
                if low[axis] > high[axis]:
                    low[axis] = high[axis] = 0.5 * (low[axis] + high[axis])
                at = track.x[model] if axis == 0 else track.y[model]
                is_low, is_high = outer[axis] == k, outer[axis + 2] == k
                if is_low and is_high:
                    z[axis] = 0.5 * (low[axis] + high[axis])
                elif is_low:
                    z[axis] = low[axis]
                elif is_high:
                    z[axis] = high[axis]
                else:
                    z[axis] = min(max(at, low[axis]), high[axis])
                is_measured[axis] = is_low or is_high or z[axis] != at
            is_covered |= is_as_large
            for b in range(len(track.x)):
                total = track.var_x[b] + MEASURED
                gain, gain_v = track.var_x[b] / total, track.cov_xv[b] / total
                if is_measured[0] and is_measured[1]:  # x and y share their covariance
                    track.var_v[b] -= track.cov_xv[b] * gain_v
                    track.var_x[b], track.cov_xv[b] = MEASURED * gain, MEASURED * gain_v
                if is_measured[0]:
                    innovation = z[0] - track.x[b]
                    track.x[b] = min(max(track.x[b] + gain * innovation, low[0]), high[0])
                    track.vx[b] += gain_v * innovation
                if is_measured[1]:
                    innovation = z[1] - track.y[b]
                    track.y[b] = min(max(track.y[b] + gain * innovation, low[1]), high[1])
                    track.vy[b] += gain_v * innovation
        for k in range(start, end):
            one = tracks[slots[k]]
            nearest = np.inf
            for other in range(start, end):
                if other != k:
                    two = tracks[slots[other]]
                    spread = one.area * (one.var_x[model] + 1.0) + two.area * (two.var_x[model] + 1.0)
                    turn = TURN**2 * (one.area + two.area)
                    off = (one.x[model] - two.x[model]) ** 2 / (spread * stats.noise_x[model] + turn)
                    off += (one.y[model] - two.y[model]) ** 2 / (spread * stats.noise_y[model] + turn)
                    nearest = min(nearest, off)
            slot = slots[k]
            confusion[slot] = max(confusion[slot], CONFUSED * math.exp(-0.5 * nearest))
            covered[slot] = covered[slot] + 1.0 if is_covered else 0.0
        start = end
