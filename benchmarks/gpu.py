"""What a GPU is worth, in one command: parity with DREEM on it, the tests that need one, and the times.

    python benchmarks/gpu.py [--device cuda] [--wheels DIR] [--out FILE] [--minutes M] [--quick]

Needs no installation: the repository, $TRACKD_SHARED/oracle, and Python with torch. Packages that are missing are
installed from the wheels of a folder, without network, into a temporary folder. docs/gpu.md has the list, and how to
take it to another machine. `--device cpu` runs the same code without a GPU, and `--quick` fewer frames.

Writes the rows of all parts as JSON, after each part, so that what is measured is not lost if the time ends.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
PATHS = [ROOT / "daemon", ROOT / "clients/python", ROOT / "benchmarks"]
NEEDED = {  # modules, and the packages that bring them
    "cv2": "opencv-python-headless", "hypothesis": "hypothesis", "msgpack": "msgpack", "numba": "numba",
    "prometheus_client": "prometheus-client", "psutil": "psutil", "pydantic": "pydantic", "pytest": "pytest",
    "pytest_timeout": "pytest-timeout", "rich": "rich", "safetensors": "safetensors", "scipy": "scipy",
    "starlette": "starlette", "tifffile": "tifffile", "typer": "typer", "uvicorn": "uvicorn",
    "websockets": "websockets", "yaml": "pyyaml", "zmq": "pyzmq",
}  # fmt: skip
TESTS = ["tests/parity", "tests/unit/models", "tests/unit/engine/test_engine_device.py"]
FRAME_S = 1 / 30
INSTANCES = 10


@dataclass(frozen=True, slots=True)
class Row:
    """One figure."""

    what: str
    value: float
    unit: str
    target: str = ""
    met: bool | None = None  # None: no target, or not on this device


Rows = Iterator[Row]


@dataclass(frozen=True, slots=True)
class Run:
    """What a part needs to know."""

    device: str
    quick: bool

    @property
    def on_gpu(self) -> bool:
        return self.device != "cpu"

    def verdict(self, met: bool) -> bool | None:
        """Whether a target of the GPU is met; None elsewhere."""
        return bool(met) if self.on_gpu else None


def missing() -> list[str]:
    """Return the packages that are not installed."""
    return [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]


def install(wheels: Path, folder: str) -> None:
    """Install the wheels of a folder into another folder, and use that one.

    What they depend on is there: in the folder of wheels, or on the machine, whose torch and numpy stay.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", folder]
    subprocess.run([*command, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    sys.path.insert(0, folder)
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
    importlib.invalidate_caches()


# --- the parts ---


def machine(run: Run) -> Rows:
    """The device, and the speed of the link to it."""
    import torch

    yield Row(f"{platform.machine()}, {platform.processor() or 'processor'}: cores", os.cpu_count() or 0, "")
    yield Row(f"torch {torch.__version__}: threads", torch.get_num_threads(), "")
    if not run.on_gpu:
        return
    device = torch.device(run.device)
    found = torch.cuda.get_device_properties(device)
    yield Row(f"{found.name}, compute {found.major}.{found.minor}: memory", found.total_memory / 2**30, "GiB")
    host = torch.empty(256 << 20, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=device)
    seconds = _device_s(lambda: there.copy_(host, non_blocking=True), device, 10)
    yield Row("upload of 256 MiB, pinned", host.nbytes / seconds / 1e9, "GB/s")


def tests(run: Run) -> Rows:
    """Parity with DREEM's recorded ids, features and logits on the device, and the tests of models."""
    chosen = ["tests/parity/test_parity_ids.py", "-k", "bfloat16"] if run.quick else TESTS
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *chosen]
        environment = {**os.environ, "TRACKD_TEST_DEVICE": run.device, "PYTHONPATH": os.environ["PYTHONPATH"]}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if not report.is_file():
            raise RuntimeError(f"pytest wrote no report: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        suite = next(ET.parse(report).getroot().iter("testsuite"))
    counts = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    failed = counts["failures"] + counts["errors"]
    yield Row("tests that passed", counts["tests"] - failed - counts["skipped"], "")
    yield Row("tests that were skipped", counts["skipped"], "")
    yield Row("tests that failed", failed, "", "0", failed == 0)
    for case in suite.iter("testcase"):
        for fault in (*case.iter("failure"), *case.iter("error")):
            text = (fault.get("message") or "").splitlines()
            yield Row(f"{case.get('classname')}::{case.get('name')}: {(text or [''])[0][:120]}", 1, "failed")


def one_stream(run: Run) -> Rows:
    """The step of one stream, beside its parts measured alone."""
    import numpy as np
    import torch

    from device_streams import CROP, SHAPE, DeviceStreams, checkpoint
    from trackd.models.encoder.upload import FrameUpload

    device, dtype = torch.device(run.device), _dtype(run)
    loaded = checkpoint("resnet18", device, dtype)
    frames = 5 if run.quick else 200 if run.on_gpu else 20
    times = 1e3 * DeviceStreams(loaded, 1, INSTANCES, 8).times(10, frames)
    p50, p99 = np.percentile(times, (50, 99))
    image, upload = np.zeros(SHAPE, np.uint8), FrameUpload(device)
    crops = torch.rand(INSTANCES, 3, CROP, CROP, device=device)
    parts = {
        "upload of a frame of 1080p, alone": lambda: upload(image),
        "encoder of 10 crops, alone": lambda: loaded.model.encode_crops(crops),
        "transformer of 10 instances, alone": _replay(loaded, device, INSTANCES, 8),
    }
    alone = {name: 1e3 * _device_s(part, device, frames) for name, part in parts.items()}
    for name, value in alone.items():
        yield Row(name, value, "ms")
    total = sum(alone.values())
    yield Row(f"step, 1 stream, {INSTANCES} instances, p50", p50, "ms", "≤ 2 ms", run.verdict(p50 <= 2))
    yield Row("step, p50 relative to the sum of its parts", p50 / total, "", "≤ 2", run.verdict(p50 <= 2 * total))
    yield Row("step, p99", p99, "ms")


def waits(run: Run) -> Rows:
    """How often torch waits for the device in a step, besides the one wait for the logits, which is an event's."""
    import warnings

    import torch

    from device_streams import DeviceStreams, checkpoint

    loaded = checkpoint("resnet18", torch.device(run.device), _dtype(run))
    frames = 2 if run.quick else 20
    for name, journaling in (("a step", False), ("a step with a journal", True)):
        streams = DeviceStreams(loaded, 2, INSTANCES, 8, journaling=journaling)
        streams.times(3 if run.quick else 10, 1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if run.on_gpu:
                torch.cuda.set_sync_debug_mode("warn")
            try:
                streams.times(0, frames)
            finally:
                if run.on_gpu:
                    torch.cuda.set_sync_debug_mode("default")
        count = sum("synchronizing CUDA operation" in str(each.message) for each in caught) / frames
        yield Row(f"other waits for the device in {name}", count, "", "0", run.verdict(count == 0))


def passes(run: Run) -> Rows:
    """Whether the passes of the encoder and the transformer are graphs, and what other forms of the encoder take."""
    import torch

    from device_streams import CROP, DeviceStreams, checkpoint
    from trackd.models.encoder.fixed_passes import FixedPasses
    from trackd.models.replay import Replay

    device, frames = torch.device(run.device), 3 if run.quick else 50
    loaded = checkpoint("resnet18", device, _dtype(run))
    DeviceStreams(loaded, 1, INSTANCES, 8).times(3 if run.quick else 10, 1)
    made = [each.replay for each in loaded.model.passes.passes] + loaded.padded.replays
    lacking = sum(not each.is_captured for each in made)
    yield Row(f"of {len(made)} shapes of passes, those without a graph", lacking, "", "0", run.verdict(lacking == 0))
    network = loaded.model.visual_encoder
    forms = {f"encoder: {INSTANCES} crops as in a step": (loaded.model.encode_crops, INSTANCES)}
    for count in (INSTANCES, 16, 64) if not run.quick else (INSTANCES,):
        forms[f"encoder: {count} crops, called"] = (network, count)
        if not run.on_gpu:
            continue
        still = torch.rand(count, 3, CROP, CROP, device=device)
        captured = Replay(lambda still=still: network(still), device)  # type: ignore[misc]
        forms[f"encoder: {count} crops, a graph"] = (lambda crops, captured=captured: captured(), count)
        forms[f"encoder: {count} crops, torch.compile"] = (torch.compile(network, dynamic=False), count)
    for name, (form, count) in forms.items():
        crops = torch.rand(count, 3, CROP, CROP, device=device)
        try:
            yield Row(name, 1e3 * _device_s(lambda form=form, crops=crops: form(crops), device, frames), "ms")  # type: ignore[misc]
        except Exception as error:  # a compiler may be missing
            yield Row(f"{name}: {str(error).splitlines()[0][:100]}", 0, "not possible")
    many = FixedPasses(network, loaded.architecture.feature_dim)
    crops = torch.rand(40 if run.quick else 640, 3, CROP, CROP, device=device)
    yield Row(f"encoder: {len(crops)} crops as in a step", 1e3 * _device_s(lambda: many(crops), device, 3), "ms")


def batches(run: Run) -> Rows:
    """Whether a stream has the same scores to the last bit alone and beside others: a restart tracks it alone."""
    import torch

    from device_streams import DeviceStreams, checkpoint

    frames, count = (3, 2) if run.quick else (60, 12)
    for encoder in ("descriptor", "resnet18"):
        loaded = checkpoint(encoder, torch.device(run.device), _dtype(run))
        together = DeviceStreams(loaded, count, INSTANCES, 8)
        together.times(0, frames)
        other = 0
        for at in range(count):
            alone = DeviceStreams(loaded, count, INSTANCES, 8)
            alone.only = at
            alone.times(0, frames)
            wanted = zip(together.ids[at::count], together.scores[at::count], strict=True)
            found = zip(alone.ids, alone.scores, strict=True)
            other += sum(ours != theirs for ours, theirs in zip(found, wanted, strict=True))
        name = f"{encoder}: of {frames * count} frames of {count} streams, those with other scores alone"
        yield Row(name, other, "", "0", other == 0)


def decoding(run: Run) -> Rows:
    """JPEG decoded by the device, beside the CPU: times, pixels and ids."""
    import cv2
    import numpy as np
    import torch

    from device_streams import SHAPE, DeviceStreams, checkpoint
    from trackd.engine.image import decode_image
    from trackd.models.encoder.device_jpeg import jpeg_decoder
    from trackd.models.encoder.upload import FrameUpload
    from trackd_client.configuration import ConfigError
    from trackd_client.protocol import EncodedImage

    device, frames = torch.device(run.device), 3 if run.quick else 50
    rng = np.random.default_rng(0)
    soft = cv2.GaussianBlur(rng.integers(0, 255, (*SHAPE, 3), np.uint8), (0, 0), 2)
    file = EncodedImage("jpeg", cv2.imencode(".jpg", soft)[1].tobytes())
    upload = FrameUpload(device)
    yield Row(
        "JPEG of 1080p, decoded by the CPU and uploaded",
        1e3 * _device_s(lambda: upload(decode_image(file)), device, frames), "ms",
    )  # fmt: skip
    try:
        decode = jpeg_decoder(device)
    except ConfigError as error:
        yield Row(f"decoded by the device: {error}", 0, "not possible")
        return
    for count in (1, 16):
        files = [file] * count
        took = 1e3 * _device_s(lambda files=files: decode(files), device, frames) / count  # type: ignore[misc]
        yield Row(f"the same by the device, {count} at once, each", took, "ms")
    apart = np.abs(decode([file])[0].cpu().numpy().astype(int) - decode_image(file).astype(int))
    yield Row("largest difference of a pixel", int(apart.max()), "of 255")
    yield Row("pixels that differ", 100 * float((apart > 0).mean()), "%")
    found = []
    for used in (None, decode):
        loaded = checkpoint("resnet18", device, _dtype(run))
        loaded.decode_jpeg = used
        streams = DeviceStreams(loaded, 2, INSTANCES, 8, image=file)
        yield Row(f"step of 2 streams with JPEG, decoded by the {'CPU' if used is None else 'device'}",
                  1e3 * float(np.median(streams.times(10, frames))), "ms")  # fmt: skip
        found.append(streams.ids)
    other = sum(ours != theirs for ours, theirs in zip(*found, strict=True))
    yield Row(f"of {len(found[0])} frames, those with other ids", other, "")


def uploads(run: Run) -> Rows:
    """The upload of a frame of 1080p in colour from the places in host memory where it may be."""
    import mmap

    import numpy as np
    import torch

    from trackd.models.encoder.upload import FrameUpload

    device, frames, shape = torch.device(run.device), 3 if run.quick else 50, (1080, 1920, 3)
    received = np.frombuffer(bytes(int(np.prod(shape))), np.uint8).reshape(shape)
    one, other = FrameUpload(device), FrameUpload(device)
    yield Row("upload from a message", 1e3 * _device_s(lambda: one(received), device, frames), "ms")
    if not run.on_gpu:
        return
    pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    yield Row(
        "upload from pinned memory, as of a shared image", 1e3 * _device_s(lambda: other(pinned), device, frames), "ms"
    )
    segment = mmap.mmap(-1, received.nbytes)
    view = torch.frombuffer(segment, dtype=torch.uint8).view(shape)
    there = torch.empty(shape, dtype=torch.uint8, device=device)
    refused = torch.cuda.cudart().cudaHostRegister(view.data_ptr(), view.nbytes, 0)
    if int(refused):
        yield Row(f"upload from registered shared memory: {refused}", 0, "not possible")
        return
    took = _device_s(lambda: there.copy_(view, non_blocking=True), device, frames)
    yield Row("upload from registered shared memory", 1e3 * took, "ms")
    torch.cuda.cudart().cudaHostUnregister(view.data_ptr())


def ids(run: Run) -> Rows:
    """Whether the device gives the ids of the CPU."""
    import torch

    from device_streams import DeviceStreams, checkpoint

    frames = 5 if run.quick else 60
    for encoder in ("descriptor", "resnet18"):
        found = []
        for device in (run.device, "cpu"):
            streams = DeviceStreams(checkpoint(encoder, torch.device(device), torch.float32), 2, INSTANCES, 8)
            streams.times(0, frames)
            found.append(streams.ids)
        other = sum(ours != wanted for ours, wanted in zip(*found, strict=True))
        yield Row(
            f"{encoder}: of {len(found[0])} frames, those with other ids than the CPU's", other, "", "0", other == 0
        )


def many_streams(run: Run) -> Rows:
    """How many streams at 30 frames/s are tracked within a frame's time."""
    import numpy as np
    import torch

    from device_streams import DeviceStreams, checkpoint

    loaded = checkpoint("resnet18", torch.device(run.device), _dtype(run), threads=1 if run.on_gpu else 2)
    most, slowest = 0, 0.0
    for count in (1, 2, 4, 8, 16, 32, 64, 96, 128):
        frames = 3 if run.quick else 60 if run.on_gpu else 10
        times = DeviceStreams(loaded, count, INSTANCES, 8).times(2 if run.quick else 9, frames)
        p99 = float(np.percentile(times, 99))
        yield Row(f"step of {count} streams, p99", 1e3 * p99, "ms")
        if p99 > FRAME_S:
            break
        most, slowest = count, p99
    yield Row("streams at 30 frames/s, p99 ≤ 33 ms", most, "", "≥ 64", run.verdict(most >= 64))
    if most:
        yield Row("time of a stream in the largest such step", 1e3 * slowest / most, "ms")


def transformer(run: Run) -> Rows:
    """The transformer's part of a step with many instances, beside the pass alone."""
    import numpy as np
    import torch

    from device_streams import DeviceStreams, checkpoint
    from transformer import timed_scorer

    device = torch.device(run.device)
    animals, window = (20, 8) if run.quick else (100, 32)
    loaded = checkpoint("descriptor", device, torch.float32)
    times_ms: list[float] = []
    frames = 3 if run.quick else 50 if run.on_gpu else 5
    DeviceStreams(loaded, 1, animals, window, timed_scorer(times_ms)).times(window + 1, frames)
    score_ms = float(np.median(times_ms[-frames:]))
    alone_ms = 1e3 * _device_s(_replay(loaded, device, animals, window), device, frames)
    yield Row(f"score of {animals} instances, window {window}", score_ms, "ms")
    yield Row("its forward pass alone", alone_ms, "ms")
    ratio = score_ms / alone_ms
    yield Row("score relative to the pass alone", ratio, "", "≤ 1.3", run.verdict(ratio <= 1.3))


def memory(run: Run) -> Rows:
    """Device memory over many frames."""
    import torch

    from device_streams import DeviceStreams, checkpoint

    device = torch.device(run.device)
    streams = DeviceStreams(checkpoint("descriptor", device, torch.float32), 1, INSTANCES, 8)
    frames = 20 if run.quick else 10_000 if run.on_gpu else 200
    streams.times(50 if not run.quick else 12, 1)
    before = torch.cuda.memory_stats(device) if run.on_gpu else {}
    for _ in range(frames):
        streams.step()
    after = torch.cuda.memory_stats(device) if run.on_gpu else {}
    # Torch asks the driver for segments, and gives tensors parts of them.
    made = after.get("segment.all.allocated", 0) - before.get("segment.all.allocated", 0)
    parts = after.get("allocation.all.allocated", 0) - before.get("allocation.all.allocated", 0)
    grown = after.get("reserved_bytes.all.current", 0) - before.get("reserved_bytes.all.current", 0)
    yield Row(f"device allocations in {frames} frames after warm-up", made, "", "0", run.verdict(made == 0))
    yield Row("tensors that a frame takes from torch's own memory", parts / frames, "")
    yield Row("growth of the reserved device memory", grown, "bytes", "0", run.verdict(grown == 0))


PARTS: dict[str, Callable[[Run], Rows]] = {
    "machine": machine, "one stream": one_stream, "transformer": transformer, "waits": waits, "passes": passes,
    "memory": memory, "ids": ids, "batches": batches, "many streams": many_streams, "uploads": uploads,
    "decoding": decoding, "tests": tests,
}  # fmt: skip


def _dtype(run: Run):  # type: ignore[no-untyped-def]
    import torch

    from trackd.models.checkpoint.device import resolve_encoder_dtype

    return resolve_encoder_dtype("auto", torch.device(run.device))


def _replay(loaded, device, animals: int, window: int):  # type: ignore[no-untyped-def]
    """Return the forward pass of a full window, on buffers of its bucket; on CUDA a graph."""
    from trackd.models.transformer.buckets import bucket_of

    bucket = bucket_of(animals * window, animals, 1, finely=device.type == "cpu")
    steps = loaded.padded.steps(1, bucket, device)
    steps.valid[:] = 1
    steps.upload(1)
    return lambda: steps.run(1)


def _device_s(work: Callable[[], object], device, repeats: int) -> float:  # type: ignore[no-untyped-def]
    """Return the median seconds of a function, the device's work included."""
    import numpy as np
    import torch

    times = []
    for number in range(repeats + 3):
        started = time.perf_counter()
        with torch.inference_mode():
            work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= 3:
            times.append(time.perf_counter() - started)
    return float(np.median(times))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--wheels", type=Path, help="folder of wheels for packages that are missing")
    parser.add_argument("--out", type=Path, default=Path("gpu-results.json"))
    parser.add_argument("--minutes", type=float, default=8.0, help="no part begins after this time")
    parser.add_argument("--quick", action="store_true", help="few frames and tests: to see that it runs")
    options = parser.parse_args()
    began = time.monotonic()
    sys.path[:0] = [str(path) for path in PATHS]
    os.environ["PYTHONPATH"] = os.pathsep.join([*map(str, PATHS), os.environ.get("PYTHONPATH", "")])
    os.environ.setdefault("TRACKD_SHARED", str(ROOT.parent / "shared"))
    with tempfile.TemporaryDirectory() as folder:
        if packages := missing():
            if options.wheels is None:
                parser.error(f"these packages are missing: {' '.join(packages)}; give --wheels")
            install(options.wheels, folder)
            if packages := missing():
                parser.error(f"{options.wheels} has no wheels of {' '.join(packages)}")
        run = Run(options.device, options.quick)
        import torch

        if run.on_gpu and not torch.cuda.is_available():
            parser.error(f"torch {torch.__version__} finds no CUDA device; --device cpu is the rehearsal")
        torch.set_num_threads(1)
        return measure(run, options.out, began + 60 * options.minutes)


def measure(run: Run, out: Path, until: float) -> int:
    """Run the parts, and write their rows; return the exit code."""
    from rich.console import Console
    from rich.table import Table

    console, rows, left_out = Console(), list[Row](), list[str]()
    for name, part in PARTS.items():
        if time.monotonic() > until:
            left_out.append(f"{name}: no time was left")
            continue
        table = Table(name, "", "", "target", "", box=None)
        started = time.monotonic()
        try:
            for row in part(run):
                rows.append(row)
                verdict = {True: "met", False: "[red]not met", None: ""}[row.met]
                table.add_row(row.what, f"{row.value:.4g}", row.unit, row.target, verdict)
        except Exception as error:
            left_out.append(f"{name}: {type(error).__name__}: {error}")
        console.print(table, f"{time.monotonic() - started:.1f} s", "")
        result = {"device": run.device, "quick": run.quick, "rows": [asdict(row) for row in rows], "left_out": left_out}
        out.write_text(json.dumps(result, indent=1, ensure_ascii=False))
    for text in left_out:
        console.print(f"[red]left out: {text}")
    console.print(f"wrote {out}")
    return 1 if left_out or any(row.met is False for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
