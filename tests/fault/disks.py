"""Real disks that refuse writes: a small tmpfs, a limit on file sizes, immutable files."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MB = 1024 * 1024


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


@contextmanager
def tmpfs(folder: Path, nbytes: int) -> Iterator[Path]:
    """Mount a separate file system of `nbytes`."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = run("mount", "-t", "tmpfs", "-o", f"size={nbytes}", "trackd-test", str(folder))
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted on this machine: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        run("umount", "--lazy", str(folder))


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Make a file or folder immutable, also for root."""
    changed = run("chattr", "+i", str(path))
    if changed.returncode != 0:
        pytest.skip(f"chattr +i does not work here: {changed.stderr.strip()}")
    try:
        yield
    finally:
        run("chattr", "-i", str(path))


class Disk(ABC):
    """A folder whose disk can be full or have room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def fill(self, pid: int) -> None:
        """Refuse all further writes of a process."""

    @abstractmethod
    def free(self, pid: int) -> None:
        """Accept its writes again."""


class Tmpfs(Disk):
    """A disk that another file fills (ENOSPC)."""

    def fill(self, pid: int) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, pid: int) -> None:
        (self.folder / "filler").unlink()


class Quota(Disk):
    """A limit on the size of the process's files (EFBIG)."""

    def fill(self, pid: int) -> None:
        largest = max(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(largest, 4096), hard))

    def free(self, pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


class Immutable(Disk):
    """Immutable files (EPERM), which are open for writing already."""

    def _change(self, how: str) -> None:
        for path in self.folder.iterdir():
            run("chattr", how, str(path))

    def fill(self, pid: int) -> None:
        self._change("+i")

    def free(self, pid: int) -> None:
        self._change("-i")


@contextmanager
def disk(kind: str, tmp_path: Path) -> Iterator[Disk]:
    """Provide a disk of a kind: `tmpfs`, `quota`, `immutable`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if kind == "tmpfs":
        with tmpfs(folder, 16 * MB):
            yield Tmpfs(folder)
    elif kind == "quota":
        yield Quota(folder)
    else:
        (folder / "probe").touch()
        with immutable(folder / "probe"):
            pass
        try:
            yield Immutable(folder)
        finally:
            run("chattr", "-R", "-i", str(folder))


def has_strace() -> bool:
    """Return whether strace can trace a process here."""
    return shutil.which("strace") is not None and run("strace", "-e", "trace=none", "true").returncode == 0


@contextmanager
def syncs_counted(pid: int, log: Path) -> Iterator[None]:
    """Write every fsync and fdatasync of a process and its threads to a file."""
    command = ["strace", "-f", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", str(log)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            tracer.kill()
            pytest.skip(f"strace cannot attach to a process here: {line.strip()}")
        try:
            yield
        finally:
            os.kill(tracer.pid, 2)
            tracer.communicate(timeout=10)
