"""Disks that take no more, each a real one: a small tmpfs, a limit on file sizes, files that may not be changed."""

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
    """A file system of its own, of so many bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = run("mount", "-t", "tmpfs", "-o", f"size={nbytes}", "trackd-test", str(folder))
    if mounted.returncode != 0:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        run("umount", "--lazy", str(folder))


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """A file or folder that nobody may change, root included."""
    changed = run("chattr", "+i", str(path))
    if changed.returncode != 0:
        pytest.skip(f"this machine has no chattr +i here: {changed.stderr.strip()}")
    try:
        yield
    finally:
        run("chattr", "-i", str(path))


class Disk(ABC):
    """A folder whose disk takes more, or takes none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def fill(self, pid: int) -> None:
        """Take nothing more from a process."""

    @abstractmethod
    def free(self, pid: int) -> None:
        """Take what comes."""


class Tmpfs(Disk):
    """Full with somebody else's file (ENOSPC)."""

    def fill(self, pid: int) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))

    def free(self, pid: int) -> None:
        (self.folder / "filler").unlink()


class Quota(Disk):
    """No file of the process's may grow (EFBIG)."""

    def fill(self, pid: int) -> None:
        largest = max(path.stat().st_size for path in self.folder.iterdir() if path.is_file())
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (min(largest, 4096), hard))

    def free(self, pid: int) -> None:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


class Immutable(Disk):
    """The files may not be changed (EPERM), though they are open for writing."""

    def _change(self, how: str) -> None:
        for path in self.folder.iterdir():
            run("chattr", how, str(path))

    def fill(self, pid: int) -> None:
        self._change("+i")

    def free(self, pid: int) -> None:
        self._change("-i")


@contextmanager
def disk(kind: str, tmp_path: Path) -> Iterator[Disk]:
    """A disk of a kind: `tmpfs`, `quota`, `immutable`."""
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
    """Whether a process can be looked into here."""
    return shutil.which("strace") is not None and run("strace", "-e", "trace=none", "true").returncode == 0


@contextmanager
def syncs_counted(pid: int, log: Path) -> Iterator[None]:
    """Note every fsync and fdatasync of a process and its threads in a file."""
    command = ["strace", "-f", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", str(log)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            tracer.kill()
            pytest.skip(f"strace may not look into a process here: {line.strip()}")
        try:
            yield
        finally:
            os.kill(tracer.pid, 2)
            tracer.communicate(timeout=10)
