"""Tables of HDF5 files from other programs, each checked before it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trackd_client.recordings.hdf5 import disable_file_locks
from trackd_client.recordings.hdf5_claims import check_heaps, check_stored
from trackd_client.recordings.recording import RecordingError

if TYPE_CHECKING:
    import h5py

MOST_RATIO = 32  # bytes of a table, for each byte that is stored of it
# Of a table that is read a block at a time, or whose length is bounded: deflate makes equal values 1,032 times smaller.
SPARSE_RATIO = 1100


@contextmanager
def opened(path: Path, title: str) -> Iterator[h5py.File]:
    """The file, open for reading.

    Args:
        path: the file.
        title: what it should be, for error texts.

    Raises:
        RecordingError: it is not HDF5, or an object of it is not as expected; h5py is not installed.
    """
    disable_file_locks()
    try:
        import h5py
    except ImportError:
        raise RecordingError(f"{path}: needs h5py: pip install 'trackd-client[recordings]'") from None
    try:
        check_heaps(path)
        with h5py.File(path, "r") as file:
            outside: list[str] = []
            file.visititems_links(
                lambda name, link: outside.append(name) if isinstance(link, h5py.ExternalLink) else None
            )
            if outside:
                raise RecordingError(f"{path}: {outside[0]} is a link to another file; {title} holds its tables itself")
            yield file
    except RecordingError:
        raise
    except Exception as error:  # h5py raises many types of errors for an invalid file
        text = " ".join(str(error).split()) or type(error).__name__
        raise RecordingError(f"{path}: not {title}: {text[:200]}") from error


def holds(path: Path, *names: str) -> bool:
    """Whether a file is HDF5 and has objects of these names at its top.

    Raises:
        RecordingError: h5py is not installed.
    """
    try:
        with opened(path, "HDF5") as file:
            return all(name in file for name in names)
    except RecordingError as error:
        if "needs h5py" in str(error):
            raise
        return False


def table(group: Any, name: str, path: Path, n_axes: int | None = None, *, most_ratio: int = MOST_RATIO) -> Any:
    """A table of a group, of which nothing is read yet.

    Args:
        group: the file, or a group of it.
        name: of the table.
        path: the file, for error texts.
        n_axes: that it must have; None: any number.
        most_ratio: how many times as large as what is stored of it the table may be.

    Raises:
        RecordingError: it is missing, has another number of axes, or claims more than the file holds of it.
    """
    import h5py

    found = group.get(name)
    where = f"{path}, {group.name.strip('/')}/{name}".replace(", /", ", ")
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise RecordingError(f"{where}: must be a table, and is missing")
    if n_axes is not None and found.ndim != n_axes:
        raise RecordingError(f"{where}: must have {n_axes} axes; has the shape {list(found.shape)}")
    check_stored(found, path, most_ratio)
    return found


def numbers(
    group: Any, name: str, path: Path, n: int | None = None, n_axes: int = 1, *, most_ratio: int = MOST_RATIO
) -> NDArray[Any]:
    """The numbers of a table; one axis by default.

    Args:
        group: the file, or a group of it.
        name: of the table.
        path: the file, for error texts.
        n: the number of rows that it must have; None: any.
        n_axes: that it must have.
        most_ratio: as that of `table`.

    Raises:
        RecordingError: it is missing, or holds something else.
    """
    found = table(group, name, path, n_axes, most_ratio=most_ratio)
    if found.dtype.kind not in "iufb":
        raise RecordingError(f"{path}, {found.name.lstrip('/')}: must hold numbers; holds {found.dtype}")
    if n is not None and len(found) != n:
        raise RecordingError(f"{path}, {found.name.lstrip('/')}: must have {n} rows; has {len(found)}")
    values: NDArray[Any] = found[()]
    return values


def whole_numbers(
    group: Any, name: str, path: Path, n: int | None = None, *, most_ratio: int = MOST_RATIO
) -> NDArray[np.int64]:
    """The whole numbers of a table of one axis.

    Raises:
        RecordingError: it is missing, or holds something else.
    """
    found = numbers(group, name, path, n, most_ratio=most_ratio)
    if found.dtype.kind == "f":
        if not (np.isfinite(found).all() and (found == np.rint(found)).all() and (np.abs(found) < 2**53).all()):
            raise RecordingError(f"{path}, {name}: must hold whole numbers")
    elif found.dtype.kind == "u":
        found = np.minimum(found, np.iinfo(np.int64).max)
    return found.astype(np.int64)


def texts(group: Any, name: str, path: Path) -> list[str]:
    """The texts of a table of one axis; none for an empty one.

    Raises:
        RecordingError: it is missing, or holds something else.
    """
    found = table(group, name, path)
    if not found.size:
        return []
    if found.ndim != 1 or found.dtype.kind not in "SO":
        raise RecordingError(f"{path}, {found.name.lstrip('/')}: must hold texts; holds {found.dtype}")
    return [text_of(value, path) for value in found[()]]


def text_of(value: Any, path: Path) -> str:
    """A text that HDF5 holds as bytes or as text.

    Raises:
        RecordingError: it is something else.
    """
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    if not isinstance(value, str):
        raise RecordingError(f"{path}: must hold a text; got {type(value).__name__}")
    return value


def text_at(group: Any, name: str, path: Path) -> str | None:
    """The single text of a table; None if there is none."""
    if name not in group:
        return None
    found = table(group, name, path)
    return text_of(found[()], path) if found.ndim == 0 and found.dtype.kind in "SO" else None


def attribute_text(item: Any, name: str, path: Path) -> str | None:
    """An attribute that is a text; None if it is missing or something else."""
    value = item.attrs.get(name)
    return text_of(value, path) if isinstance(value, bytes | str) else None
