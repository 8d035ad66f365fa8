"""HDF5 without its file locks.

HDF5 locks each file that it opens (`flock`), and leaves the unlocking to the close. The kernel unlocks a file when the
last copy of its handle is closed, and a process that is started meanwhile has a copy until it runs its program. So a
file that was just written could not be opened again ("unable to lock file") while this process started another one.
"""

from __future__ import annotations

import os

_VARIABLE = "HDF5_USE_FILE_LOCKING"


def disable_file_locks() -> None:
    """Keep HDF5 from locking files. Call this before h5py is imported: HDF5 reads the variable once.

    A value that the user has set is kept.
    """
    os.environ.setdefault(_VARIABLE, "FALSE")
