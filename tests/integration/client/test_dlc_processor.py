"""`TrackdProcessor` in the place of DeepLabCut-Live's `Processor`, with a real daemon."""

from __future__ import annotations

import numpy as np
import pytest
from daemon_process import DaemonProcess

from trackd_client import Client
from trackd_client.apps.dlc_processor import TrackdProcessor


@pytest.fixture(scope="module")
def client():
    with DaemonProcess() as daemon, Client(daemon.ingest, daemon.tracks, daemon.control, timeout_s=30) as made:
        yield made


def poses(step: int, *, swapped: bool) -> np.ndarray:
    """Two animals (2, 2, 3) that move apart; DeepLabCut may number them in any order."""
    near = [[100 - step, 50, 0.9], [110 - step, 50, 0.9]]
    far = [[300 + step, 200, 0.9], [310 + step, 200, 0.2]]
    return np.array([far, near] if swapped else [near, far], float)


def test_poses_return_by_id_whatever_their_order(client):
    processor = TrackdProcessor("by_id", animals=2, by_id=True, nodes=["nose", "tail"], client=client, timeout_s=30)
    for step in range(12):
        swapped = step % 3 == 2
        pose = poses(step, swapped=swapped)
        returned = processor.process(pose, frame_time=1_700_000_000 + step / 30)
        assert processor.track_ids.tolist() == ([1, 0] if swapped else [0, 1])
        np.testing.assert_array_equal(returned, pose[::-1] if swapped else pose)
    alone = poses(12, swapped=False)
    alone[0, :, 2] = 0.1  # not seen
    returned = processor.process(alone, frame_time=1_700_000_000.4)
    assert np.isnan(returned[0]).all()
    np.testing.assert_array_equal(returned[1], alone[1])
    assert (processor.save("x"), processor.lost) == (0, 0)
    tracks = client.history("by_id")
    assert [each.frame_index for each in tracks] == list(range(13))
    assert tracks[0].t_ns == 1_700_000_000_000_000_000
    assert np.isnan(tracks[0].keypoints[1, 1]).all()
    processor.close()


def test_a_pose_returns_unchanged_and_at_once(client):
    processor = TrackdProcessor("unchanged", client=client)
    pose = np.array([[10, 20, 0.9], [30, 40, 0.8]])
    for _ in range(5):
        assert processor.process(pose) is pose
    assert processor.process(np.full((2, 3), np.nan)) is not None
    processor.save()
    assert len(client.history("unchanged")[-1].track_ids) == 0
    processor.close()


def test_ids_need_the_number_of_animals(client):
    with pytest.raises(ValueError, match="by_id=True needs the number of animals"):
        TrackdProcessor(by_id=True, client=client)
