"""A device whose memory is full, staged at every call that allocates: a frame is tracked, or nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from checkpoint_files import DESCRIPTOR, RESNET, load
from torch.utils._python_dispatch import TorchDispatchMode

from trackd.config import LimitsConfig, StreamSettings, check_config
from trackd.engine.inbox import Inbox
from trackd.engine.outcome import CommandResult, Settlement
from trackd.engine.queue import Command, QueuedFrame, StreamQueue
from trackd.engine.step import StepRunner
from trackd.engine.stream_state import StreamState
from trackd.models import device_faults
from trackd.models.device_figures import FIGURES
from trackd.models.errors import DeviceLostError
from trackd.models.transformer.loaded_model import LoadedModel
from trackd.models.transformer.padded import StepPool
from trackd.models.transformer.scorer import TransformerScorer
from trackd_client.detections import Detections
from trackd_client.protocol import ErrorCode, Frame, ProtocolError, Status

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

    def step(self, seq: int, index: int | None = None) -> list[Settlement]:
        index = seq if index is None else index
        work = []
        for number, queue in enumerate(self.queues):
            rng = np.random.default_rng((number, index))
            n = 2 + index if index < 5 else 4
            centres = rng.uniform([5, 5], [W - 5, H - 5], (n, 2))
            boxes = np.concatenate([centres - 5, centres + 5], axis=1).astype(np.float32)
            image = rng.integers(0, 255, (H, W), np.uint8)
            frame = Frame(queue.stream, seq, index, index * 40_000_000, Detections(boxes=boxes), image)
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


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(tmp_path_factory.mktemp("ckpt"), DESCRIPTOR)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load(tmp_path_factory.mktemp("resnet"), RESNET)


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


@pytest.mark.parametrize("seq", [0, 4, 5])
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


@pytest.mark.parametrize("seq", [0, 4, 5])
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


def test_a_batch_that_does_not_fit_is_halved_and_has_the_same_ids(
    resnet: LoadedModel, monkeypatch: pytest.MonkeyPatch
):
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
    upload = greedy._crops._upload  # type: ignore[attr-defined]
    for seq in range(FRAMES):
        wanted = [ids(each) for each in expected.step(seq)]
        if seq == 3:
            monkeypatch.setattr(greedy._crops, "_upload", lambda image: (_ for _ in ()).throw(FULL))
        settled = streams.step(seq)
        monkeypatch.setattr(greedy._crops, "_upload", upload)
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
    import gc
    import weakref

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


