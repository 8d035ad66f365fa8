"""The claims of a pickle, checked before it is unpickled.

A pickle numbers its objects to refer to them again. Python's unpickler makes a table up to the highest number, so that
five bytes can claim sixteen gigabytes.
"""

from __future__ import annotations

import pickletools

from trackd.models.errors import CheckpointError

_NUMBERING = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})


def check_opcodes(data: bytes) -> None:
    """Check a `data.pkl`.

    Raises:
        CheckpointError: it numbers an object higher than it has bytes.
        Exception: it is damaged; of many types.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _NUMBERING and isinstance(argument, int) and argument > len(data):
            raise CheckpointError(f"its data.pkl is damaged or hostile: object {argument} in {len(data)} bytes")
