from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from trackd.models.checkpoint import device
from trackd.models.checkpoint.device import resolve_encoder_dtype, resolve_encoder_threads
from trackd.models.encoder.pieces import Pieces
from trackd.models.encoder.upload import FrameUpload

CPU = torch.device("cpu")


def processor(tmp_path: Path, flags: str) -> set[str]:
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\nvendor_id\t: x\nflags\t\t: fpu {flags} avx2\nbugs\t\t: avx512_bf16\n")
    return device._processor_flags(path)


@pytest.mark.parametrize(("flags", "wanted"), [
    ("avx512f", torch.float32), ("avx512f avx512_bf16", torch.bfloat16), ("amx_bf16 amx_tile", torch.bfloat16),
])  # fmt: skip
def test_by_default_the_encoder_is_bfloat16_only_if_the_processor_supports_it(tmp_path, monkeypatch, flags, wanted):
    found = processor(tmp_path, flags)
    monkeypatch.setattr(device, "_processor_flags", lambda: found)
    assert resolve_encoder_dtype("auto", CPU) is wanted
    assert resolve_encoder_dtype("float32", CPU) is torch.float32


def test_an_emulated_bfloat16_is_accepted_with_a_warning(monkeypatch, caplog):
    monkeypatch.setattr(device, "_processor_flags", set)
    with caplog.at_level(logging.WARNING):
        assert resolve_encoder_dtype("bfloat16", CPU) is torch.bfloat16
    assert "emulated" in caplog.text


def test_a_machine_without_processor_flags_uses_float32(tmp_path):
    assert device._processor_flags(tmp_path / "absent") == set()


def test_by_default_the_encoder_has_one_thread_per_core_up_to_eight(monkeypatch):
    for cores, wanted in ((1, 1), (3, 3), (64, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert resolve_encoder_threads(None, CPU) == wanted
    assert resolve_encoder_threads(5, CPU) == 5
    assert resolve_encoder_threads(5, torch.device("cuda")) == 1


def test_results_of_several_threads_are_in_the_order_of_the_pieces():
    seen: set[int] = set()
    both = threading.Barrier(2, timeout=30)  # broken if one thread runs both pieces

    def work(piece: torch.Tensor) -> torch.Tensor:
        both.wait()
        seen.add(threading.get_ident())
        assert torch.is_inference_mode_enabled()
        return 2 * piece

    parts = Pieces(2).map(work, torch.arange(10).split(5))
    assert torch.equal(torch.cat(parts), 2 * torch.arange(10))
    assert len(seen) == 2


def test_an_error_in_one_piece_is_raised():
    def work(piece: torch.Tensor) -> torch.Tensor:
        if piece[0] == 5:
            raise ValueError("bad piece")
        return piece

    with pytest.raises(ValueError, match="bad piece"):
        Pieces(2).map(work, torch.arange(10).split(5))


@pytest.mark.parametrize(("n", "threads", "sizes"), [
    (10, 2, [5, 5]), (3, 2, [3]), (9, 2, [5, 4]), (46, 2, [12, 12, 11, 11]), (1, 8, [1]), (16, 1, [8, 8]), (0, 2, []),
])  # fmt: skip
def test_pieces_are_even_and_neither_too_small_nor_too_large(n, threads, sizes):
    assert Pieces(threads).sizes(n, least=2, most=15) == sizes


def test_frames_of_one_shape_share_a_buffer_and_keep_their_pixels():
    upload, places = FrameUpload(CPU), set()
    for seed in range(5):
        image = np.random.default_rng(seed).integers(0, 255, (40, 30), np.uint8)
        frame = upload(image)
        np.testing.assert_array_equal(frame.numpy(), image)
        places.add(frame.data_ptr())
    assert len(places) == 1
    assert upload(np.zeros((20, 30, 3), np.uint16)).shape == (20, 30, 3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_frame_is_on_the_device_before_its_buffer_is_overwritten():
    upload = FrameUpload(torch.device("cuda", 0))
    for seed in range(20):
        image = np.random.default_rng(seed).integers(0, 255, (2000, 3000), np.uint8)
        np.testing.assert_array_equal(upload(image).cpu().numpy(), image)
