"""Images in shared memory: the message names the location, and the pixels are not sent.

A segment is a file under /dev/shm that holds slots of one size. A slot is a header of 64 bytes, followed by the pixels.
The header's first 8 bytes are the image's generation, a little-endian unsigned integer. The writer writes it last, and
it is 0 while the slot is written. A reader that finds the same generation before and after its copy has copied the
right image, on any machine whose stores become visible in order, such as x86-64.

Python's `multiprocessing.shared_memory` is not suitable: its resource tracker unlinks segments of other processes.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import re
import secrets
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.detections import Image
from trackd_client.protocol import ErrorCode, ProtocolError, SharedImage

SEGMENT_NAME = re.compile(r"trackd-[A-Za-z0-9._-]{1,100}")
HEADER_BYTES = 64
_ALIGN = 4096  # a slot begins at a page, so that two slots share no page and no cache line
_FOLDER = Path("/dev/shm")
_GENERATION = struct.Struct("<Q")
_DTYPES = {np.dtype("|u1"): "|u1", np.dtype("<u2"): "<u2"}
_OPEN_SEGMENTS = 8


class ImageRing:
    """Slots for images of one shape and dtype. Each write replaces the oldest image.

    Args:
        shape: (h, w) or (h, w, c).
        dtype: uint8 or uint16.
        slots: how many images stay readable; at least the number of frames without an ack, plus one.

    Raises:
        ValueError: the shape or dtype is not that of an image, or there are fewer than 2 slots.
        OSError: /dev/shm has no space for the segment.
    """

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint8, slots: int = 4) -> None:
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype must be uint8 or uint16; got {self.dtype}")
        if len(self.shape) not in (2, 3) or min(self.shape) < 1:
            raise ValueError(f"shape must be (h, w) or (h, w, c), each at least 1; got {self.shape}")
        if slots < 2:
            raise ValueError(f"slots must be at least 2; got {slots}")
        sweep_orphans()
        self.slots = slots
        self.name = f"trackd-{os.getpid()}-{secrets.token_hex(6)}"
        self._bytes = prod(self.shape) * self.dtype.itemsize
        self._stride = -(-(HEADER_BYTES + self._bytes) // _ALIGN) * _ALIGN
        self._generation = 0
        self._reserved = False
        self._path = _FOLDER / self.name
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(
                descriptor, fcntl.LOCK_SH
            )  # held until this process ends: the sweep of other processes checks it
            # Without this, the first write to a page raises SIGBUS if /dev/shm is full.
            os.posix_fallocate(descriptor, 0, self._stride * slots)
            self._map = mmap.mmap(descriptor, self._stride * slots)
        except OSError as error:
            os.close(descriptor)
            self._path.unlink()
            raise OSError(
                error.errno,
                f"/dev/shm has no room for {slots} images of {self._bytes} bytes: {error.strerror}",
            ) from None
        self._descriptor = descriptor

    def write(self, image: Image) -> SharedImage:
        """Copy an image into the next slot.

        Raises:
            ValueError: the shape or dtype differs from the ring's.
        """
        if image.shape != self.shape or image.dtype != self.dtype:
            raise ValueError(
                f"the ring holds images of shape {self.shape} and dtype {self.dtype}; got {image.shape}, {image.dtype}"
            )
        view, commit = self.reserve()
        np.copyto(view, image)
        del view  # a remaining view prevents closing the map
        return commit()

    def reserve(self) -> tuple[Image, Callable[[], SharedImage]]:
        """Return the next slot's pixels, to be written in place, and a function to call after the write.

        The slot's old image, written `slots` images ago, becomes invalid at once. Do not use the view after `commit`
        or `close`.

        Raises:
            ValueError: the last reservation was not committed, or the ring is closed.
        """
        if self._map.closed:
            raise ValueError("the ring is closed")
        if self._reserved:
            raise ValueError("commit the last reserved image first")
        self._reserved = True
        generation = self._generation + 1
        header = (generation % self.slots) * self._stride
        offset = header + HEADER_BYTES
        _GENERATION.pack_into(self._map, header, 0)
        view: Image = np.frombuffer(self._map, self.dtype, prod(self.shape), offset).reshape(self.shape)

        def commit() -> SharedImage:
            if generation != self._generation + 1:
                raise ValueError("this image was committed before")
            _GENERATION.pack_into(self._map, header, generation)
            self._generation = generation
            self._reserved = False
            return SharedImage(self.name, offset, self.shape, _DTYPES[self.dtype], generation)

        return view, commit

    def close(self) -> None:
        """Unlink the segment. A reader that has it open can still read it."""
        if self._map.closed:
            return
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)
        # A view that the caller still holds keeps the pages until the view is deleted.
        with suppress(BufferError):
            self._map.close()

    def __enter__(self) -> ImageRing:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class SharedImageReader:
    """Reads images that other processes of this host wrote to shared memory.

    It reads the file, not a map. If a client truncates its segment during a read, the read then fails with an error; a
    read of a map would raise SIGBUS and end the reader's process. The last few segments are kept open. Not thread-safe.
    """

    def __init__(self, segments: int = _OPEN_SEGMENTS, empty: Callable[..., NDArray[Any]] = np.empty) -> None:
        """Open nothing yet.

        Args:
            segments: that are kept open.
            empty: makes the array of a shape and a dtype that an image is copied to.
        """
        self._empty = empty
        self._segments: OrderedDict[str, int] = OrderedDict()  # name -> file descriptor, the last used one at the end
        self._max_segments = segments

    def read(self, image: SharedImage) -> NDArray[Any]:
        """Return a copy of the image, (h, w) or (h, w, c).

        Raises:
            ProtocolError: `invalid_frame`: the segment does not exist, the image exceeds it, or the image was
                overwritten before or during the read.
        """
        segment = self._segment(image.name)
        size = prod(image.shape) * np.dtype(image.dtype).itemsize
        available = os.fstat(segment).st_size
        if image.offset < HEADER_BYTES or image.offset + size > available:
            raise _invalid(
                f"an image of {size} bytes at offset {image.offset} must lie within the {available} bytes of "
                f"{image.name}, with {HEADER_BYTES} bytes before it"
            )
        _check_generation(segment, image)
        copied = self._empty(image.shape, np.dtype(image.dtype))
        if os.preadv(segment, [copied.data.cast("B")], image.offset) != size:
            raise _invalid(f"shared memory {image.name} was truncated during the read")
        _check_generation(segment, image)
        return copied

    def close(self) -> None:
        """Close all segments."""
        while self._segments:
            os.close(self._segments.popitem()[1])

    def _segment(self, name: str) -> int:
        if name in self._segments:
            self._segments.move_to_end(name)
            return self._segments[name]
        segment = _open_segment(name)
        # Also close segments that their owners have unlinked, to free their memory.
        for other, descriptor in list(self._segments.items()):
            if os.fstat(descriptor).st_nlink == 0 or len(self._segments) >= self._max_segments:
                os.close(self._segments.pop(other))
        self._segments[name] = segment
        return segment


def read_shared_image(image: SharedImage) -> NDArray[Any]:
    """Return a copy of one image; use a `SharedImageReader` to read many."""
    reader = SharedImageReader(segments=1)
    try:
        return reader.read(image)
    finally:
        reader.close()


def sweep_orphans() -> list[str]:
    """Unlink the segments of processes that have ended and return the names of these segments.

    A missing process id is not enough: containers may share /dev/shm and have separate process ids. A running owner
    holds a lock on its segment, so a segment with a lock is kept.
    """
    swept = []
    for path in _FOLDER.glob("trackd-*-*"):
        pid = path.name.split("-")[1]
        if not SEGMENT_NAME.fullmatch(path.name) or not pid.isdigit() or Path(f"/proc/{pid}").exists():
            continue
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # of another user, or already removed
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            swept.append(path.name)
        except OSError:
            pass  # a running owner holds the lock
        finally:
            os.close(descriptor)
    return swept


def _open_segment(name: str) -> int:
    if not SEGMENT_NAME.fullmatch(name):
        raise _invalid(f"image.name must be trackd- and up to 100 letters, digits, '.', '_' and '-'; got {name[:60]!r}")
    try:
        # O_NOFOLLOW: a link must not lead out of /dev/shm. O_NONBLOCK: opening a FIFO must not block.
        descriptor = os.open(_FOLDER / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _invalid(f"shared memory {name} cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _invalid(f"shared memory {name} is not a regular file")
    return descriptor


def _check_generation(segment: int, image: SharedImage) -> None:
    header = os.pread(segment, _GENERATION.size, image.offset - HEADER_BYTES)
    found = _GENERATION.unpack(header)[0] if len(header) == _GENERATION.size else 0
    if found != image.generation or found == 0:
        raise _invalid(
            f"the image of generation {image.generation} in {image.name} was overwritten: its slot holds "
            f"generation {found}; the ring needs more slots than there are frames without an ack"
        )


def _invalid(message: str) -> ProtocolError:
    return ProtocolError(ErrorCode.INVALID_FRAME, message)
