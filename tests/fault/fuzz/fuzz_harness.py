"""Fuzzing by coverage: mutated inputs that reach new branches of our code are kept, and mutated further.

    python fuzz_harness.py TARGET SECONDS FOLDER [SEED]

TARGET is a module beside this one, `fuzz_<target>.py`:

- `PACKAGES`: the packages whose branches count;
- `seeds()`: valid inputs, made by code, the same in every run;
- `run(data)`: reads one input, and returns if it was read or refused with the documented error; any other exception is
  a finding;
- `MOST_MS`, `MOST_MB`: an input that takes more CPU time or more memory is a finding too;
- `WORDS`: bytes that mutations insert.

FOLDER gets `corpus/`, and `crash-…` for a finding, which `python fuzz_harness.py TARGET replay FILE` runs again. Those
that are mended are cases in `findings/<target>/`. The engine is Atheris (libFuzzer), of the extra `dev`.
"""

from __future__ import annotations

import atexit
import hashlib
import importlib
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
FINDINGS = HERE / "findings"
TARGETS = ("protocol", "checkpoint", "recordings", "sleap", "hdf5", "journal", "viewer")
MOST_BYTES = 65_536  # of an input
FOUND = 77  # exit code


class Finding(AssertionError):  # noqa: N818
    """An input that took too much time or memory."""


def load(name: str) -> ModuleType:
    """The module of a target."""
    unit = HERE.parents[1] / "unit"
    recordings = unit / "recordings"
    sys.path[:0] = [
        str(HERE),
        str(recordings),
        str(recordings / "written"),
        str(unit / "protocol"),
    ]  # for the makers of valid inputs
    return importlib.import_module(f"fuzz_{name}")


def checked(target: ModuleType, data: bytes) -> None:
    """Run one input.

    Raises:
        Finding: it took more than the target's time or memory.
        Exception: it was refused with another error than the documented one.
    """
    memory, started = _memory_mb("VmRSS", reset_peak=True), time.process_time()
    target.run(data)
    ms = (time.process_time() - started) * 1000
    mb = _memory_mb("VmHWM") - memory
    if ms > target.MOST_MS:
        raise Finding(f"took {ms:.0f} ms; at most {target.MOST_MS} ms are allowed")
    if mb > target.MOST_MB:
        raise Finding(f"took {mb:.0f} MB; at most {target.MOST_MB} MB are allowed")


def check_text(error: Exception) -> None:
    """Check that an error is one line that a person can read."""
    text = str(error)
    if "\n" in text or len(text) > 2000:
        raise Finding(f"an error must be one line of at most 2000 characters; got {text!r}")


def work_folder() -> Path:
    """A new folder for a target's files, which is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="trackd-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def cases(name: str) -> Iterator[Path]:
    """The earlier findings of a target."""
    return iter(sorted((FINDINGS / name).glob("*")))


def warm(target: ModuleType) -> None:
    """Run the seeds, so that imports and caches are not counted for the first inputs."""
    for seed in target.seeds():
        target.run(seed)


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def _memory_mb(key: str, *, reset_peak: bool = False) -> float:
    """Resident memory now (`VmRSS`), or its peak (`VmHWM`) since the last reset."""
    if reset_peak:
        Path("/proc/self/clear_refs").write_text("5")
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123 (for each input)
        status = file.read()
    at = status.index(key.encode()) + len(key) + 1
    return int(status[at : status.index(b"kB", at)]) / 1024


def _fuzz(name: str, seconds: int, folder: Path, seed: int) -> None:
    import atheris  # of the extra `dev`, on Linux

    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(work)  # libFuzzer ends the process without a clean-up
    # Atheris instruments all modules of a top-level package, but compiled ones (Numba's) cannot be. So all are imported
    # as they are, and then again, with those outside of the target's packages excluded.
    packages = load(name).PACKAGES
    again = [module for module in sys.modules if _is_ours(module)]
    others = [module for module in again if not any(f"{module}.".startswith(f"{package}.") for package in packages)]
    for module in again:
        del sys.modules[module]
    with atheris.instrument_imports(include=["trackd", "trackd_client"], exclude=others, enable_loader_override=False):
        target = load(name)
    logging.disable(logging.CRITICAL)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(target.seeds()):
        (corpus / f"seed{number:03d}").write_bytes(data)
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.WORDS))
    warm(target)
    options = [
        f"-max_total_time={seconds}", f"-seed={seed}", f"-artifact_prefix={folder}/", f"-dict={words}", "-timeout=20",
        f"-max_len={MOST_BYTES}", "-rss_limit_mb=4096", "-print_final_stats=1", "-use_value_profile=1",
        "-len_control=0",
    ]  # fmt: skip

    def one(data: bytes) -> None:
        try:
            checked(target, data)
        except BaseException:
            # Not by libFuzzer, which keeps the input only if Python's shut-down gets that far.
            path = folder / f"crash-{hashlib.sha1(data).hexdigest()}"
            path.write_bytes(data)
            traceback.print_exc()
            print(f"kept as {path}", flush=True)
            os._exit(FOUND)

    atheris.Setup([sys.argv[0], *options, str(corpus)], one)
    atheris.Fuzz()


def _is_ours(module: str) -> bool:
    """Whether a module is the product's or the tests', except this one."""
    file = getattr(sys.modules[module], "__file__", None) or ""
    return file.startswith(str(REPOSITORY)) and "site-packages" not in file and file != __file__


def main(arguments: list[str]) -> None:
    """Fuzz, or replay one input."""
    name = arguments[0]
    if arguments[1] == "replay":
        target = load(name)
        warm(target)
        checked(target, Path(arguments[2]).read_bytes())
        return
    _fuzz(name, int(arguments[1]), Path(arguments[2]), int(arguments[3]) if len(arguments) > 3 else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
