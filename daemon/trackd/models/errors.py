"""The errors of checkpoints, of the frames that they process, and of the device that runs them."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message is one line with the value found and what would be right."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split("\n")))  # a damaged name in it may hold line breaks


class FrameError(ValueError):
    """A frame lacks what its stream's model needs; the message is one line with what would be right."""


class DeviceMemoryError(RuntimeError):
    """The device's memory does not suffice for this work, which has changed nothing; the message is one line."""


class DeviceLostError(RuntimeError):
    """The device does not answer any more, and will not in this process; the message is one line."""


class DecodeError(ValueError):
    """An image that the device cannot decode; a CPU decodes it, or knows what is wrong with it."""
