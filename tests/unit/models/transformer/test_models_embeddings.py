from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from trackd.models.architecture import EmbeddingConfig, EmbeddingMode, MlpConfig, TemporalInput
from trackd.models.transformer.embeddings import FixedPosition, FixedTime, LearnedPosition, LearnedTime, window_time

FIXED, LEARNED = EmbeddingMode.FIXED, EmbeddingMode.LEARNED


def learned_time(rows: int = 4) -> LearnedTime:
    torch.manual_seed(0)
    return LearnedTime(EmbeddingConfig(LEARNED, emb_num=rows), 8).requires_grad_(False)


def test_fixed_positions_are_a_block_of_sines_then_cosines_for_each_coordinate():
    boxes = torch.rand(3, 1, 4)
    got = FixedPosition(EmbeddingConfig(FIXED, temperature=100.0), 32)(boxes)
    for n, i, k in np.ndindex(3, 4, 8):
        wavelength = 100.0 ** (2 * (k // 2) / 8)
        place = 8 * i + k // 2 + (4 if k % 2 else 0)
        angle = boxes[n, 0, i].item() / wavelength
        assert got[n, place].item() == pytest.approx(math.cos(angle) if k % 2 else math.sin(angle), abs=1e-6)


def test_a_normalised_fixed_position_is_the_same_everywhere_with_one_anchor():
    got = FixedPosition(EmbeddingConfig(FIXED, normalize=True), 32)(torch.rand(5, 1, 4) + 0.1)
    torch.testing.assert_close(got, got[:1].expand(5, -1), atol=2e-3, rtol=0)


def test_fixed_positions_of_several_anchors_are_reduced_to_one_width():
    config = EmbeddingConfig(FIXED, n_points=3, mlp=MlpConfig(hidden_dim=7, num_layers=2))
    module = FixedPosition(config, 16)
    assert [tuple(layer.weight.shape) for layer in module.mlp.layers] == [(7, 48), (16, 7)]
    assert module(torch.rand(5, 3, 4)).shape == (5, 16)


def test_a_learned_position_interpolates_between_the_rows_of_its_own_coordinate():
    torch.manual_seed(0)
    E, A, D = 4, 2, 16
    module = LearnedPosition(EmbeddingConfig(LEARNED, emb_num=E, n_points=A), D).requires_grad_(False)
    table = module.lookup.weight.view(E, A, 4, D // (4 * A))
    boxes = torch.tensor([[[0.0, 0.3, 0.74, 0.9], [1.0, 1.7, -1.0, 0.5]]])
    got = module(boxes).view(A, 4, -1)
    for a, i in np.ndindex(A, 4):
        place = boxes[0, a, i].item() * E
        low = int(min(max(place, 0), E - 1))
        high = min(low + 1, E - 1)
        share = place - low
        torch.testing.assert_close(got[a, i], share * table[high, a, i] + (1 - share) * table[low, a, i])


def test_a_missing_anchor_extrapolates_from_the_first_two_rows():
    module = LearnedPosition(EmbeddingConfig(LEARNED, emb_num=16), 8).requires_grad_(False)
    table = module.lookup.weight.view(16, 8)
    got = module(torch.full((1, 1, 4), -1.0))[0]
    torch.testing.assert_close(got, 17 * table[0] - 16 * table[1], rtol=1e-5, atol=1e-5)


def test_a_learned_time_by_rank_differs_for_the_oldest_frame_only():
    module = learned_time()
    got = module(window_time(torch.tensor([0, 1, 2, 7]), TemporalInput.INDEX))
    assert torch.equal(got[0], module.lookup.weight[0])
    assert all(torch.equal(row, module.lookup.weight[-1]) for row in got[1:])


def test_a_learned_time_by_fraction_interpolates():
    module = learned_time(rows=4)
    got = module(window_time(torch.tensor([0, 1, 2, 3, 4]), TemporalInput.FRACTION))  # t / 5
    table = module.lookup.weight
    torch.testing.assert_close(got[1], 0.2 * table[0] + 0.8 * table[1])
    torch.testing.assert_close(got[3], 0.6 * table[2] + 0.4 * table[3])
    torch.testing.assert_close(got[4], table[3])


def test_a_fixed_time_by_rank_interleaves_sines_and_cosines_and_by_fraction_is_constant():
    module = FixedTime(EmbeddingConfig(FIXED, temperature=100.0), 8)
    t = torch.tensor([0, 1, 5])
    got = module(window_time(t, TemporalInput.INDEX))
    for k in range(4):
        wavelength = 100.0 ** (2 * k / 8)
        torch.testing.assert_close(got[:, 2 * k], torch.sin(t / wavelength))
        torch.testing.assert_close(got[:, 2 * k + 1], torch.cos(t / wavelength))
    constant = module(window_time(t, TemporalInput.FRACTION))
    assert torch.equal(constant, torch.tensor([0.0, 1.0]).repeat(3, 4))


def test_a_fraction_is_of_the_frames_in_each_streams_own_window():
    got = window_time(torch.tensor([[0, 1, 3], [0, 0, 1]]), TemporalInput.FRACTION)
    torch.testing.assert_close(got, torch.tensor([[0.0, 0.25, 0.75], [0.0, 0.0, 0.5]]))
