"""The errors of checkpoints and of the frames that they process."""

from __future__ import annotations


class CheckpointError(ValueError):
    """A checkpoint can't be used; the message is one line with the value found and what would be right."""

    def __init__(self, text: str) -> None:
        super().__init__(" ".join(text.split("\n")))  # a damaged name in it may hold line breaks


class FrameError(ValueError):
    """A frame lacks what its stream's model needs; the message is one line with what would be right."""
