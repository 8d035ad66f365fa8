"""The names of streams in subjects and keys, where a '.' separates words. No stream has a '=' in its name."""

from __future__ import annotations


def token_of(stream: str) -> str:
    """Return a stream's name as one word of a subject."""
    return stream.replace(".", "=")


def stream_of(token: str) -> str:
    """Return the name of the stream that a word stands for."""
    return token.replace("=", ".")
