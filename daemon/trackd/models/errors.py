"""What can be wrong with a checkpoint, and with a frame that is given to one."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message is one line that says what was found and what would be right."""


class FrameError(ValueError):
    """A frame lacks what its stream's model needs; the message is one line that says what would be right."""
