"""A checkpoint is read in a separate process with limits; a hostile file costs that process, and one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import psutil
import pytest
from checkpoint_files import DESCRIPTOR, write_checkpoint
from hostile_checkpoints import HOSTILE, SLOW, overlapping, write_zip

from trackd.models.checkpoint import weights
from trackd.models.checkpoint.file import CheckpointFile, CheckpointReader
from trackd.models.checkpoint.load import convert, inspect, load_checkpoint
from trackd.models.errors import CheckpointError

CAUSES = {
    "a tuple as a key": "reading it takes more than",  # so much processor time; on a busy machine, so long
    "a deep tuple as a key": "its reading process was ended by SIG",
    "a tuple as a persistent id": "a storage record that isn't PyTorch's",
    "a tuple in the state_dict": "its state_dict must map names to tensors",
    "lists without end": "reading it takes more than",  # so much memory
    "a config in many places": "model_cfg has more than 10000 values",
    "stride 0": "repeats its 1 numbers",
    "compressed": "its data.pkl is compressed",
    "a claimed size": "it claims 3000000000 bytes, more than the file holds",
    "sparse": "it must have at most 4294967296 bytes; got 8589934592",
    "a sparse zip": "reading it takes more than 512 MiB",
    "a nested safetensors header": "its header is no JSON",
    "safetensors of a claimed size": "lies past the end of the file",
    "a FIFO": "it must be a file; got a folder, a pipe or a device",
    "a folder": "it must be a file; got a folder, a pipe or a device",
    "a device": "it must be a file; got a folder, a pipe or a device",
}


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "read_process" in " ".join(child.cmdline())]


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_with_its_name_and_cause_in_bounded_time_and_memory(tmp_path: Path, kind: str):
    path = HOSTILE[kind](tmp_path / "a.ckpt")
    before = psutil.Process().memory_info().rss
    started = time.process_time()
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert time.process_time() - started < 3  # of this process: the reading process uses its own
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert CAUSES[kind] in message
    assert "\n" not in message
    assert len(message) < 700
    assert psutil.Process().memory_info().rss - before < 200_000_000
    assert children() == []


def test_other_threads_run_while_a_hostile_file_is_read(tmp_path: Path):
    path = HOSTILE[SLOW](tmp_path / "a.ckpt")
    done = threading.Event()

    def load() -> None:
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
        done.set()

    thread = threading.Thread(target=load)
    thread.start()
    turns = 0
    while not done.wait(0.01):
        turns += 1
    thread.join()
    assert turns > 50


def test_stop_ends_the_reading_process_at_once_and_starts_no_other(tmp_path: Path):
    path = HOSTILE[SLOW](tmp_path / "a.ckpt")
    reader, errors = CheckpointReader(), []

    def load() -> None:
        try:
            load_checkpoint(path, reader=reader)
        except CheckpointError as error:
            errors.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    deadline = time.monotonic() + 60
    while not children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert children()
    reader.stop()
    assert children() == []
    thread.join(10)
    assert len(errors) == 1
    with pytest.raises(CheckpointError, match="the daemon is ending"):
        load_checkpoint(path, reader=reader)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_a_reading_process_ends_with_a_parent_that_is_killed(tmp_path: Path):
    path = HOSTILE[SLOW](tmp_path / "a.ckpt")
    program = f"from trackd.models.checkpoint.load import load_checkpoint; load_checkpoint({str(path)!r})"
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        found: list[psutil.Process] = []
        deadline = time.monotonic() + 60
        while not found and time.monotonic() < deadline:
            found = psutil.Process(parent.pid).children()
            time.sleep(0.01)
        time.sleep(0.5)  # the process has set its limits
    finally:
        parent.kill()
        parent.wait()
    gone, alive = psutil.wait_procs(found, timeout=3)
    assert (len(gone), alive) == (1, [])


def test_the_reading_process_imports_neither_torch_nor_numpy(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    program = (
        "import os, sys\n"
        "from trackd.models.checkpoint import read_process\n"
        "with open(sys.argv[1], 'rb') as file:\n"
        "    lines = read_process.answer(file, 'lightning')\n"
        "print(len(lines) > 10, sorted({'torch', 'numpy', 'pydantic', 'dataclasses'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True []\n"


def test_a_module_in_the_working_directory_is_not_imported_by_the_reading_process(tmp_path: Path, monkeypatch):
    path = write_checkpoint(tmp_path / "a.ckpt")
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert load_checkpoint(path).name == "a"


def test_storages_that_overlap_in_the_file_are_refused_before_they_are_read(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"its tensors have \d+ bytes together, the file \d+"):
        load_checkpoint(overlapping(tmp_path / "a.ckpt"))


@pytest.mark.parametrize("change", ["grows", "shrinks", "is written"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch, change: str):
    path = write_checkpoint(tmp_path / "a.ckpt")
    read = weights.digest

    def digest(fd: int, file_bytes: int) -> str:
        if change == "is written":
            os.utime(path, ns=(1, 1))
        else:
            os.truncate(path, file_bytes + (1000 if change == "grows" else -1000))
        return read(fd, file_bytes)

    monkeypatch.setattr("trackd.models.checkpoint.load.digest", digest)
    with pytest.raises(CheckpointError, match="while it was read"):
        load_checkpoint(path)


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    with CheckpointFile(path) as file:
        path.unlink()
        write_zip(path, b"\x80\x02}.")
        assert CheckpointReader().read(file, "lightning")[1]["d_model"] == DESCRIPTOR["d_model"]


def test_a_model_larger_than_the_limit_is_refused(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    size = path.stat().st_size
    with pytest.raises(CheckpointError, match=f"at most {size - 1} bytes; got {size}"):
        load_checkpoint(path, reader=CheckpointReader(size - 1))
    load_checkpoint(path, reader=CheckpointReader(size))


def test_commands_read_in_the_same_way(tmp_path: Path):
    path = HOSTILE["a deep tuple as a key"](tmp_path / "a.ckpt")
    for run in (inspect, lambda path: convert(path, tmp_path / "out.safetensors")):
        with pytest.raises(CheckpointError, match="its reading process was ended by SIG"):
            run(path)


def test_the_digest_is_that_of_the_file(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    found = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert load_checkpoint(path).digest == found


def test_a_weight_that_was_changed_in_the_file_is_refused_by_its_checksum(tmp_path: Path):
    path = write_checkpoint(tmp_path / "a.ckpt")
    with zipfile.ZipFile(path) as file:
        info = max(file.infolist(), key=lambda info: info.file_size if "/data/" in info.filename else 0)
    data = bytearray(path.read_bytes())
    data[info.header_offset + info.file_size // 2 + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="its checksum does not match"):
        load_checkpoint(path)


def test_a_process_that_cannot_be_started_is_one_line(tmp_path: Path, monkeypatch):
    def popen(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(CheckpointError, match="could not be started: Resource temporarily unavailable"):
        load_checkpoint(write_checkpoint(tmp_path / "a.ckpt"))
