import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd_client.recordings.clips import plan_clips
from trackd_client.recordings.config import TestDataset
from trackd_client.recordings.recording import Clip


@given(st.integers(0, 5), st.integers(0, 300), st.integers(1, 50), st.booleans())
def test_all_clips_together_are_the_whole_recording(start, n_frames, clip_length, chunk):
    clips = plan_clips(start, start + n_frames, TestDataset(clip_length=clip_length, chunk=chunk))
    assert [i for clip in clips for i in range(clip.start, clip.stop)] == list(range(start, start + n_frames))


def test_a_short_last_clip_is_kept():
    assert plan_clips(0, 65, TestDataset(clip_length=32))[-1] == Clip(64, 65)


def test_without_chunking_a_recording_is_one_clip():
    assert plan_clips(0, 100, TestDataset(chunk=False)) == [Clip(0, 100)]


@pytest.mark.parametrize(("n_chunks", "expected"), [(1, 1), (1.0, 10), (0.29, 2), (0.01, 1), (3, 3), (99, 10)])
def test_n_chunks_is_a_fraction_up_to_1_0_or_a_whole_number_of_clips(n_chunks, expected):
    assert len(plan_clips(0, 100, TestDataset(clip_length=10, n_chunks=n_chunks))) == expected


def test_a_fraction_is_not_rounded_down_by_floating_point():
    assert len(plan_clips(0, 100, TestDataset(clip_length=1, n_chunks=0.29))) == 29


@given(st.integers(0, 1000), st.integers(2, 20))
def test_a_sample_is_without_repeats_and_in_recording_order(seed, n):
    clips = plan_clips(0, 200, TestDataset(clip_length=10, n_chunks=n, seed=seed))
    starts = [clip.start for clip in clips]
    assert starts == sorted(set(starts))
    assert len(starts) == n


def test_the_same_seed_samples_the_same_clips():
    seeded = TestDataset(clip_length=5, n_chunks=0.5, seed=3)
    assert plan_clips(0, 200, seeded) == plan_clips(0, 200, seeded)
    other = TestDataset(clip_length=5, n_chunks=0.5, seed=4)
    assert plan_clips(0, 200, seeded) != plan_clips(0, 200, other)
