"""What has happened to the devices of this process. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DeviceFigures:
    """Counts since the process began."""

    full: int = 0  # times that a device's memory was full


FIGURES = DeviceFigures()
