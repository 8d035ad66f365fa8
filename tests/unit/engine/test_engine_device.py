"""A device whose memory is full, staged at every call that allocates: a frame is tracked, or nothing of it stays."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from checkpoint_files import RESNET, load
from torch.utils._python_dispatch import TorchDispatchMode

from trackd.config import LimitsConfig, StreamSettings, check_config
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import CommandResult, Settlement
from trackd.engine.queue import Command, QueuedFrame, StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.stream_state import StreamState
from trackd.models import device_faults
from trackd.models.device_figures import FIGURES
from trackd.models.encoder.device_jpeg import JpegDecoder, jpeg_decoder
from trackd.models.errors import DeviceLostError
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.padded import StepPool
from trackd.models.transformer.scorer import TransformerScorer
from trackd_client.configuration import ConfigError
from trackd_client.detections import Detections
from trackd_client.protocol import EncodedImage, ErrorCode, Frame, ProtocolError, Status

H, W = 60, 90
FRAMES = 7
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")


class Allocations(TorchDispatchMode):
    """Counts torch's calls that return new memory, and lets some of them fail."""

    def __init__(self, fails: Callable[[int], bool] = lambda number: False, error: Exception = FULL) -> None:
        super().__init__()
        self.count = 0
        self._fails = fails
        self._error = error

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable and not func.is_view:
            self.count += 1
            if self._fails(self.count - 1):
                raise self._error
        return func(*args, **(kwargs or {}))


class Streams:
    """Streams of one checkpoint in one process, with a journal."""

    def __init__(self, loaded: LoadedModel, count: int = 1, **tracker: Any) -> None:
        settings = StreamSettings.of(check_config({"tracker": {"window_size": 3, "overlap_thresh": 0.0, **tracker}}))
        settings = settings.changed({"crop_size": 12, "padding": 2})
        inbox = Inbox(1 << 30)
        self.runner = StepRunner(inbox, journaling=True)
        self.queues = [StreamQueue(f"cam{number}", 32) for number in range(count)]
        for queue in self.queues:
            inbox.add(queue)
            self.runner.streams[queue] = StreamState(
                queue.stream, 1, 0, settings, None, (H, W), lambda wanted: TransformerScorer(loaded, wanted),
                LimitsConfig(),
            )  # fmt: skip

    def step(self, seq: int, index: int | None = None, image: Any = None) -> list[Settlement]:
        index = seq if index is None else index
        work = []
        for number, queue in enumerate(self.queues):
            rng = np.random.default_rng((number, index))
            n = 2 + index if index < 5 else 4
            centres = rng.uniform([5, 5], [W - 5, H - 5], (n, 2))
            boxes = np.concatenate([centres - 5, centres + 5], axis=1).astype(np.float32)
            pixels = rng.integers(0, 255, (H, W), np.uint8) if image is None else image
            frame = Frame(queue.stream, seq, index, index * 40_000_000, Detections(boxes=boxes), pixels)
            queue.ledger.received += 1
            work.append((queue, QueuedFrame(frame, 0, 0)))
        outcomes = self.runner.run(work)
        assert all(isinstance(each, Settlement) for each in outcomes)
        return outcomes  # type: ignore[return-value]

    def state(self, number: int = 0) -> Any:
        tracker = self.runner.streams[self.queues[number]].tracker
        tracker.check_integrity()
        return tracker.snapshot()


def ids(settlement: Settlement) -> Any:
    if settlement.assignment is None:
        return None
    found = settlement.assignment
    return found.track_ids.tolist(), found.track_scores.tobytes(), found.new_tracks, found.ended_tracks


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    else:
        assert one == other


@pytest.fixture(params=["in place", "as on CUDA"])
def staged(request: pytest.FixtureRequest, loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded, "padded", StepPool(loaded.model, request.param == "as on CUDA"))
    monkeypatch.setattr(loaded.model, "fixed_passes", request.param == "as on CUDA")


# The frame before the last one ends tracks, by the gap, before it is scored.
INDICES = [0, 1, 2, 3, 4, 9, 10]
GAPS = {"max_gap": 2}


@pytest.fixture
def undisturbed(loaded: LoadedModel, staged: None) -> list[Any]:
    streams = Streams(loaded, **GAPS)
    return [ids(streams.step(seq, index)[0]) for seq, index in enumerate(INDICES)]


def disturbed_at(loaded: LoadedModel, seq: int, mode: TorchDispatchMode) -> tuple[Streams, Any, Settlement]:
    """Track the frames before `seq`, then that one in a mode; return also the state before it."""
    streams = Streams(loaded, **GAPS)
    for each in range(seq):
        streams.step(each, INDICES[each])
    before = streams.state()
    with mode:
        settled = streams.step(seq, INDICES[seq])[0]
    return streams, before, settled


@pytest.mark.parametrize("seq", [5])
def test_a_call_that_fails_once_changes_no_id(loaded: LoadedModel, undisturbed: list[Any], seq: int):
    counted = Allocations()
    disturbed_at(loaded, seq, counted)
    assert counted.count > 5
    for failing in range(counted.count):
        full = FIGURES.full
        streams, _, settled = disturbed_at(loaded, seq, Allocations(lambda number: number == failing))  # noqa: B023
        assert ids(settled) == undisturbed[seq], failing
        assert FIGURES.full == full + 1
        after = [ids(streams.step(each, INDICES[each])[0]) for each in range(seq + 1, len(INDICES))]
        assert after == undisturbed[seq + 1 :]


@pytest.mark.parametrize("seq", [0, 5])
def test_a_frame_that_does_not_fit_is_rejected_and_nothing_of_it_stays(
    loaded: LoadedModel, undisturbed: list[Any], seq: int
):
    counted = Allocations()
    disturbed_at(loaded, seq, counted)
    expected = Streams(loaded, **GAPS)
    without = [expected.step(each, index)[0] for each, index in enumerate(INDICES) if each != seq]
    for failing in range(counted.count):
        streams, before, settled = disturbed_at(loaded, seq, Allocations(lambda number: number >= failing))  # noqa: B023
        assert (settled.status, settled.code) == (Status.REJECTED, ErrorCode.DEVICE_OUT_OF_MEMORY), settled.reason
        assert "the memory of cpu does not suffice: CUDA out of memory" in str(settled.reason)
        assert len(settled.records) == 1
        assert_same(streams.state(), before)
        after = [ids(streams.step(each, INDICES[each])[0]) for each in range(seq + 1, len(INDICES))]
        assert after == [ids(each) for each in without[seq:]]


def test_a_batch_that_does_not_fit_is_halved_and_has_the_same_ids(resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    expected, streams = Streams(resnet, 5), Streams(resnet, 5)
    passes: list[int] = []
    encode = resnet.model.encode_crops

    def small_passes_only(crops: torch.Tensor, n_lone: int = 0) -> torch.Tensor:
        passes.append(len(crops))
        if len(crops) > 12:
            raise FULL
        return encode(crops, n_lone)

    for seq in range(FRAMES):
        wanted = [ids(each) for each in expected.step(seq)]
        with monkeypatch.context() as patch:
            patch.setattr(resnet.model, "encode_crops", small_passes_only)
            assert [ids(each) for each in streams.step(seq)] == wanted
    assert max(passes) > 12
    for number in range(5):
        assert_same(streams.state(number), expected.state(number))


def test_a_frame_that_does_not_fit_alone_is_encoded_in_pieces_and_has_the_same_ids(
    resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch
):
    expected, streams = Streams(resnet), Streams(resnet)
    encode = resnet.model.encode_crops

    def small_passes_only(crops: torch.Tensor, n_lone: int = 0) -> torch.Tensor:
        if len(crops) > 3:
            raise FULL
        return encode(crops, n_lone)

    for seq in range(FRAMES):
        wanted = ids(expected.step(seq)[0])
        with monkeypatch.context() as patch:
            patch.setattr(resnet.model, "encode_crops", small_passes_only)
            assert ids(streams.step(seq)[0]) == wanted
    assert_same(streams.state(), expected.state())


def test_one_stream_that_does_not_fit_affects_no_other(loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    expected, streams = Streams(loaded, 3), Streams(loaded, 3)
    greedy = streams.runner.streams[streams.queues[1]].scorer
    upload = greedy._encoder._crops._upload  # type: ignore[attr-defined]
    for seq in range(FRAMES):
        wanted = [ids(each) for each in expected.step(seq)]
        if seq == 3:
            monkeypatch.setattr(greedy._encoder._crops, "_upload", lambda image: (_ for _ in ()).throw(FULL))
        settled = streams.step(seq)
        monkeypatch.setattr(greedy._encoder._crops, "_upload", upload)
        assert [ids(each) for each in settled][::2] == wanted[::2]
        code = ErrorCode.DEVICE_OUT_OF_MEMORY if seq == 3 else None
        assert [each.code for each in settled] == [None, code, None]


def test_a_window_that_does_not_fit_is_refused_and_the_stream_continues(loaded: LoadedModel):
    expected, streams = Streams(loaded), Streams(loaded)
    for seq in range(4):
        expected.step(seq)
        streams.step(seq)
    state = streams.runner.streams[streams.queues[0]]
    larger = state.settings.changed({"window_size": 64})
    command = Command(-1, lambda: state.configure(larger), lambda result, error: None)
    before = streams.state()
    with Allocations(lambda number: True):
        (result,) = streams.runner.run([(streams.queues[0], command)])
    assert isinstance(result, CommandResult)
    assert isinstance(result.error, ProtocolError)
    assert result.error.code is ErrorCode.DEVICE_OUT_OF_MEMORY
    assert_same(streams.state(), before)
    assert state.settings.tracker.window_size == 3
    for seq in range(4, FRAMES):
        assert ids(streams.step(seq)[0]) == ids(expected.step(seq)[0])


# --- a lost device ---


def refusal(text: str = "CUDA error: unspecified launch failure") -> Exception:
    return getattr(torch, "AcceleratorError", RuntimeError)(text)


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question to the device fails."""

    def probe(label: str) -> None:
        raise refusal()

    monkeypatch.setattr(device_faults, "ARMED", True)
    monkeypatch.setattr(device_faults, "device_point", probe)


def test_a_lost_device_ends_the_step_at_every_call(loaded: LoadedModel, lost: None):
    counted = Allocations()
    disturbed_at(loaded, 4, counted)
    for failing in range(counted.count):
        with pytest.raises(DeviceLostError, match="cpu is lost: CUDA error: unspecified launch failure"):
            disturbed_at(loaded, 4, Allocations(lambda number: number >= failing, refusal()))  # noqa: B023


def test_an_error_of_a_device_that_still_answers_rejects_one_frame(loaded: LoadedModel, caplog: Any):
    fails = Allocations(lambda number: number >= 3, refusal("CUDA error: invalid configuration argument"))
    streams, before, settled = disturbed_at(loaded, 4, fails)
    assert (settled.status, settled.code) == (Status.REJECTED, ErrorCode.INTERNAL)
    assert_same(streams.state(), before)
    assert streams.step(5)[0].status is Status.TRACKED


def test_a_command_does_not_hide_that_the_device_is_lost(loaded: LoadedModel, lost: None):
    streams = Streams(loaded)
    for seq in range(3):
        streams.step(seq)
    state = streams.runner.streams[streams.queues[0]]
    command = Command(-1, lambda: state.configure(state.settings.changed({"window_size": 64})), lambda *_: None)
    with Allocations(lambda number: True, refusal()), pytest.raises(DeviceLostError):
        streams.runner.run([(streams.queues[0], command)])


def test_memory_that_is_full_in_other_words_counts_as_full(loaded: LoadedModel):
    for text in ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"):
        _, _, settled = disturbed_at(loaded, 2, Allocations(lambda number: True, RuntimeError(text)))
        assert settled.code is ErrorCode.DEVICE_OUT_OF_MEMORY


def test_the_failed_work_holds_no_memory_when_it_is_repeated():
    held: list[weakref.ref[torch.Tensor]] = []

    def work() -> str:
        if held:
            assert held[0]() is None
            return "done"
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        raise torch.OutOfMemoryError("CUDA out of memory")

    gc.disable()
    try:
        assert device_faults.within_memory(torch.device("cpu"), work, lambda: None) == "done"
    finally:
        gc.enable()


# --- JPEG files that the device decodes: a stand-in has the interface of torchvision.io.decode_jpeg ---


class StandIn:
    """Decodes as torchvision does, on the CPU."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.fault: str | None = None

    def __call__(self, files: list[torch.Tensor], mode: str, device: torch.device) -> list[torch.Tensor]:
        assert mode == "UNCHANGED"
        self.calls.append(len(files))
        if self.fault is not None:
            raise RuntimeError(self.fault)
        decoded = []
        for file in files:
            assert file.dtype is torch.uint8
            assert file.ndim == 1
            pixels = cv2.imdecode(file.numpy(), cv2.IMREAD_UNCHANGED)
            channels = pixels[None] if pixels.ndim == 2 else pixels[..., ::-1].transpose(2, 0, 1)
            decoded.append(torch.from_numpy(channels.copy()).to(device))
        return decoded


def jpeg(image: np.ndarray) -> EncodedImage:
    return EncodedImage("jpeg", cv2.imencode(".jpg", image)[1].tobytes())


@pytest.fixture
def decoder(resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(resnet, "decode_jpeg", JpegDecoder(torch.device("cpu"), stand_in))
    return stand_in


def decoded_by_cpu(resnet: LoadedModel, count: int) -> Streams:
    """Return streams whose files the engine decodes."""
    decode, resnet.decode_jpeg = resnet.decode_jpeg, None
    streams = Streams(resnet, count)
    resnet.decode_jpeg = decode
    return streams


@pytest.mark.parametrize("channels", [(), (3,)], ids=["gray", "colour"])
def test_files_are_decoded_on_the_device_in_one_call_and_the_ids_are_the_same(
    resnet: LoadedModel, decoder: StandIn, channels: tuple[int, ...]
):
    expected, streams = decoded_by_cpu(resnet, 3), Streams(resnet, 3)
    for seq in range(FRAMES):
        image = jpeg(np.random.default_rng(seq).integers(0, 255, (H, W, *channels), np.uint8))
        wanted = [ids(each) for each in expected.step(seq, image=image)]
        assert decoder.calls == [3] * seq
        assert [ids(each) for each in streams.step(seq, image=image)] == wanted
    assert_same(streams.state(2), expected.state(2))


def test_a_file_that_the_device_cannot_decode_is_decoded_by_the_cpu(resnet: LoadedModel, decoder: StandIn):
    expected, streams = decoded_by_cpu(resnet, 2), Streams(resnet, 2)
    for seq in range(4):
        decoder.fault = "nvjpegDecode failed: 2" if seq == 2 else None
        image = jpeg(np.random.default_rng(seq).integers(0, 255, (H, W), np.uint8))
        wanted = [ids(each) for each in expected.step(seq, image=image)]
        assert [ids(each) for each in streams.step(seq, image=image)] == wanted
    assert decoder.calls == [2, 2, 2, 1, 1, 2]


def test_a_file_that_is_damaged_is_rejected_as_the_cpu_rejects_it(resnet: LoadedModel, decoder: StandIn):
    streams = Streams(resnet)
    whole = bytes(jpeg(np.zeros((H, W), np.uint8)).data)
    decoder.fault = "nvjpegDecode failed: 2"
    settled = streams.step(0, image=EncodedImage("jpeg", whole[:160] + bytes(len(whole) - 162) + whole[-2:]))[0]
    assert (settled.status, settled.code) == (Status.REJECTED, ErrorCode.INVALID_FRAME)
    settled = streams.step(1, image=EncodedImage("jpeg", whole[:200]))[0]  # without its end it is not given to a device
    assert decoder.calls == [1]


def test_a_file_for_which_no_memory_is_left_is_rejected_and_the_stream_continues(resnet: LoadedModel, decoder: StandIn):
    streams, image = Streams(resnet), jpeg(np.zeros((H, W), np.uint8))
    for seq in range(3):
        decoder.fault = "CUDA error: out of memory" if seq == 1 else None
        settled = streams.step(seq, image=image)[0]
        assert settled.code is (ErrorCode.DEVICE_OUT_OF_MEMORY if seq == 1 else None)


def test_a_png_is_decoded_by_the_cpu(resnet: LoadedModel, decoder: StandIn):
    png = EncodedImage("png", cv2.imencode(".png", np.zeros((H, W), np.uint8))[1].tobytes())
    assert Streams(resnet).step(0, image=png)[0].status is Status.TRACKED
    assert decoder.calls == []


def test_a_device_that_cannot_decode_is_an_error_at_the_start(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match=r"daemon.decode_on_device must be false where checkpoints run on cpu"):
        jpeg_decoder(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "torchvision.io", None)  # the import fails, as where it is not installed
    with pytest.raises(ConfigError, match=r"daemon.decode_on_device must be false without a torchvision"):
        jpeg_decoder(torch.device("cuda", 0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_step_waits_for_nothing_but_its_logits(tmp_path: Path):
    loaded = load(tmp_path, RESNET)
    loaded.model.to("cuda")
    streams = Streams(loaded, 3, max_tracks=4)  # so from the sixth frame on all passes have one size
    for seq in range(8):
        streams.step(seq)
    torch.cuda.set_sync_debug_mode("error")
    try:
        settled = [each for seq in range(8, 14) for each in streams.step(seq)]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {each.status for each in settled} == {Status.TRACKED}
