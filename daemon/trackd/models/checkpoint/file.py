"""An open checkpoint file, and the process that finds the tensors in it."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import trackd
from trackd.models.checkpoint.read_process import CPU_S, MEMORY_BYTES, WALL_S
from trackd.models.checkpoint.stored_tensor import ITEM_BYTES, MOST_TENSORS, StoredTensor, lengths
from trackd.models.errors import CheckpointError

MOST_BYTES = 4 * 1024**3  # the default of `limits.checkpoint_bytes`
_MOST_ANSWER_BYTES = 32 * 1024 * 1024
_TOO_LONG = f"reading it takes more than {WALL_S} s"
_INTERNAL = "its reading process gave an answer that is not valid"


class CheckpointFile:
    """A regular file, opened once: whatever happens to its path, all is read from the same file.

    Args:
        path: the file.
        max_bytes: the largest size that is read.

    Raises:
        CheckpointError: there is no such file, it is not a regular file, it is too large, or it cannot be opened.
    """

    def __init__(self, path: Path, max_bytes: int = MOST_BYTES) -> None:
        self.path = path
        try:
            self._check_kind(path.stat().st_mode)  # before it is opened: that may wait (FIFO) or act (device)
            self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            raise CheckpointError("no such file") from None
        except OSError as error:
            raise CheckpointError(f"it could not be read: {error.strerror}") from None
        try:
            self._opened = os.fstat(self.fd)
            self._check_kind(self._opened.st_mode)
            self.nbytes = self._opened.st_size
            if self.nbytes > max_bytes:
                raise CheckpointError(f"it must have at most {max_bytes} bytes; got {self.nbytes}")
        except BaseException:
            os.close(self.fd)
            raise

    @staticmethod
    def _check_kind(mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise CheckpointError("it must be a file; got a folder, a pipe or a device")

    def check_unchanged(self) -> None:
        """Check that the file is the one that was opened.

        Raises:
            CheckpointError: it has another size, or was written since.
        """
        now = os.fstat(self.fd)
        if (now.st_size, now.st_mtime_ns) != (self._opened.st_size, self._opened.st_mtime_ns):
            raise CheckpointError("it was written while it was read; load it when it is complete")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class CheckpointReader:
    """Starts a reading process for each file, and ends it in any case: `stop` may be called from another thread.

    Args:
        max_bytes: the largest file that is read, and the most bytes that the weights of a model take.
    """

    def __init__(self, max_bytes: int = MOST_BYTES) -> None:
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def read(self, file: CheckpointFile, kind: str) -> tuple[dict[str, StoredTensor], object]:
        """Find the tensors and the model config of a file.

        Args:
            file: opened.
            kind: "lightning" or "safetensors".

        Returns:
            The tensors by name, checked against the size of the file, and the config, which may be any JSON value.

        Raises:
            CheckpointError: it is damaged or hostile; one line.
        """
        process = self._start(file, kind)
        try:
            answer = _receive(process, time.monotonic() + WALL_S)
            code = process.wait(WALL_S)
        except subprocess.TimeoutExpired:
            raise CheckpointError(_TOO_LONG) from None
        finally:
            with self._lock:
                self._end(process)
        if code != 0:
            raise CheckpointError(_cause(code))
        return parsed(answer, file.nbytes)

    def stop(self) -> None:
        """End all reading processes, and start no more."""
        with self._lock:
            self._stopped = True
            for process in list(self._processes):
                self._end(process)

    def _start(self, file: CheckpointFile, kind: str) -> subprocess.Popen[bytes]:
        # -S and -P: neither site-packages nor the working directory is searched. The code is that of this process.
        command = [sys.executable, "-S", "-P", "-m", "trackd.models.checkpoint.read_process", kind]
        root = str(Path(trackd.__file__).parents[1])
        with self._lock:
            if self._stopped:
                raise CheckpointError("the daemon is ending")
            try:
                process = subprocess.Popen(
                    command,
                    stdin=file.fd,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": root},
                )
            except OSError as error:  # of the system, which has no room for a process
                raise CheckpointError(f"its reading process could not be started: {error.strerror}") from None
            self._processes.add(process)
        return process

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait()
        if process in self._processes:
            self._processes.remove(process)


def _receive(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert process.stdout is not None
    chunks: list[bytes] = []
    total = 0
    with process.stdout:
        fd = process.stdout.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not poller.poll(left * 1000):
                raise subprocess.TimeoutExpired(process.args, WALL_S)
            chunk = os.read(fd, 65536)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            total += len(chunk)
            if total > _MOST_ANSWER_BYTES:
                raise CheckpointError(_INTERNAL)


def _cause(code: int) -> str:
    """Return why a reading process ended without an answer."""
    if code == -signal.SIGXCPU:
        return f"reading it takes more than {CPU_S} s of processor time; it is damaged or hostile"
    if code == -signal.SIGALRM:
        return _TOO_LONG
    if code < 0:
        name = signal.Signals(-code).name
        return (
            f"its reading process was ended by {name}, with {MEMORY_BYTES >> 20} MiB allowed; it is damaged or hostile"
        )
    return f"its reading process ended with code {code}"


def parsed(answer: bytes, file_bytes: int) -> tuple[dict[str, StoredTensor], object]:
    """Check an answer as if it came from the file itself. Each line is short, so that other threads get their turn."""
    lines = iter(answer.splitlines())
    try:
        first = json.loads(next(lines))
        if "error" in first:
            raise CheckpointError(str(first["error"]))
        tensors = {stored.name: stored for stored in _tensors(lines, file_bytes)}
        if first["tensors"] != len(tensors):
            raise CheckpointError(_INTERNAL)
        return tensors, first["model_cfg"]
    except (StopIteration, LookupError, TypeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(_INTERNAL) from error


def _tensors(lines: Iterator[bytes], file_bytes: int) -> Iterator[StoredTensor]:
    for number, line in enumerate(lines):
        name, dtype, shape, stride, *numbers, crc = json.loads(line)
        sizes = lengths(shape), lengths(stride)
        offset, storage_numel, start, size = numbers
        if number >= MOST_TENSORS or dtype not in ITEM_BYTES or not all(type(value) is int for value in numbers):
            raise CheckpointError(_INTERNAL)
        if sizes[0] is None or sizes[1] is None:
            raise CheckpointError(_INTERNAL)
        stored = StoredTensor(name, dtype, sizes[0], sizes[1], offset, storage_numel, start, size, crc)
        fault = stored.fault(file_bytes)
        if fault is not None:
            raise CheckpointError(fault)
        yield stored
