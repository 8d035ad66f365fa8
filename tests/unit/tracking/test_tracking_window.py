from __future__ import annotations

import numpy as np
import pytest

from trackd.tracking.window import RollingWindow


def observe(window: RollingWindow, slots, value: float, frame: int) -> None:
    window.append(slots, np.full((len(slots), window.n_anchors, 4), value, np.float32), frame)
    window.check_integrity()


def filled(n_tracks: int = 2, n_frames: int = 5, window_size: int = 3) -> RollingWindow:
    window = RollingWindow(window_size, 100)
    slots = window.acquire(np.arange(n_tracks, dtype=np.int32))
    for frame in range(n_frames):
        observe(window, slots, frame, frame)
    return window


def test_a_track_keeps_its_last_observations_only() -> None:
    window = filled()
    assert window.count[window.live].tolist() == [3, 3]
    assert sorted(window.frame_index[0].tolist()) == [2, 3, 4]
    assert (window.last_boxes(window.live) == 4).all()


def test_the_window_grows_by_doubling_up_to_its_limit_and_keeps_its_observations() -> None:
    window = filled(n_tracks=16)
    window.acquire(np.arange(16, 17, dtype=np.int32))
    assert window.capacity == 32
    assert (window.last_boxes(np.arange(16)) == 4).all()
    window.check_integrity()
    with pytest.raises(ValueError, match="at most 100 tracks; got 101"):
        window.acquire(np.arange(100, 184, dtype=np.int32))


def test_a_freed_slot_is_reused_first_and_is_empty() -> None:
    window = filled(n_tracks=3)
    window.release(np.array([1]))
    assert window.live.tolist() == [0, 2]
    slots = window.acquire(np.array([7], np.int32))
    assert slots.tolist() == [1]
    assert window.count[1] == 0
    assert np.isnan(window.boxes[1]).all()
    window.check_integrity()


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_a_new_window_size_keeps_the_latest_observations(size: int) -> None:
    window = filled()
    before = window.frame_index.copy()
    source = window.resize(size)
    window.check_integrity()
    kept = sorted(index for index in window.frame_index[0].tolist() if index >= 0)
    assert kept == [2, 3, 4][-size:]
    moved = before[0][source[0][source[0] >= 0]]
    assert moved.tolist() == kept
    observe(window, window.live, 9, 9)
    assert (window.last_boxes(window.live) == 9).all()


def test_a_restored_window_equals_the_original() -> None:
    window = filled(n_tracks=3)
    window.release(np.array([0]))
    other = RollingWindow(8, 100)
    other.restore(window.snapshot())
    other.check_integrity()
    for name in ("ids", "count", "position", "frame_index", "boxes", "live"):
        np.testing.assert_array_equal(getattr(other, name), getattr(window, name))


def test_a_retired_track_keeps_its_slot_while_others_come_and_go() -> None:
    window = filled(n_tracks=16)
    window.retire(np.array([3, 1]))
    assert (window.live.tolist()[:3], window.retired.tolist()) == ([0, 2, 4], [3, 1])
    window.release(np.array([0, 3]))
    slots = window.acquire(np.arange(100, 103, dtype=np.int32))  # grows
    assert (slots.tolist(), window.capacity, window.retired.tolist()) == ([0, 3, 16], 32, [1])
    observe(window, slots, 9, 9)
    other = RollingWindow(8, 100)
    other.restore(window.snapshot())
    for each in (window, other):
        each.revive(1)
        each.check_integrity()
        assert (1 in each.live, each.retired.tolist(), int(each.ids[1])) == (True, [], 1)
        assert (each.last_boxes(np.array([1])) == 4).all()
    window.retire(np.array([1]))
    window.clear()
    assert (window.live.tolist(), window.retired.tolist(), set(window.ids.tolist())) == ([], [], {-1})


def test_retired_tracks_count_where_the_window_is_full() -> None:
    window = filled(n_tracks=3)
    window.retire(np.array([1]))
    with pytest.raises(ValueError, match="at most 100 tracks; got 101"):
        window.acquire(np.arange(100, 198, dtype=np.int32))
    window.release(window.retired)
    assert len(window.acquire(np.arange(100, 198, dtype=np.int32))) == 98


def test_a_new_number_of_anchors_starts_from_the_mean_of_the_old_ones() -> None:
    window = filled()
    window.append(window.live, np.full((2, 3, 4), 7, np.float32), 9)
    assert window.boxes.shape[2] == 3
    assert set(window.boxes[0].ravel().tolist()) == {3.0, 4.0, 7.0}
    window.check_integrity()


def test_check_integrity_finds_corruption() -> None:
    window = filled()
    window.ids[1] = window.ids[0]
    with pytest.raises(RuntimeError, match="two slots"):
        window.check_integrity()
    window = filled()
    window._written[0] = 1
    with pytest.raises(RuntimeError, match="count"):
        window.check_integrity()


def test_a_window_size_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match="window_size must be at least 1; got 0"):
        RollingWindow(0, 10)
