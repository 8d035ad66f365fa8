"""Buckets: the few shapes that the transformer's steps are padded to, so that steps of several streams form a batch.

A step's bucket depends on that step alone. A stream is therefore padded the same way alone and beside others, and a
stream of a thousand instances is never in one batch with a stream of five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

_LEAST_REFERENCES = 16
_LEAST_QUERIES = 4  # on a CPU, products of fewer rows use other kernels and differ in the last bits
_MAX_TOKENS = 1 << 16  # in one forward pass: bounds the memory of its activations
_FIXED_TOKENS, _FIXED_STREAMS = 1 << 12, 4  # in a pass whose size depends on its bucket alone: the most of both


@dataclass(frozen=True, slots=True)
class Bucket:
    """The shape of one padded step."""

    references: int  # R, room for references
    queries: int  # Q, room for instances of the query frame
    anchors: int  # A, boxes per instance

    @property
    def tokens(self) -> int:
        """N = R + Q."""
        return self.references + self.queries

    @property
    def most_streams(self) -> int:
        """The most steps of this shape in one pass."""
        return max(1, _MAX_TOKENS // self.tokens)

    @property
    def fixed_streams(self) -> int:
        """The steps of every pass of this shape, where passes are padded to one size; a power of 2.

        Few: a stream alone pays for all of them. Not one: a pass of small steps takes as long as its launch.
        """
        return 1 << max(0, min(_FIXED_STREAMS, _FIXED_TOKENS // self.tokens).bit_length() - 1)


def bucket_of(n_references: int, n_queries: int, anchors: int, finely: bool) -> Bucket:
    """The bucket of a step.

    Args:
        n_references: its references.
        n_queries: its instances.
        anchors: boxes per instance.
        finely: sizes at most an eighth too large, for a CPU, where padding costs time; else at most a half, for fewer
            shapes.
    """
    steps = 8 if finely else 2
    return Bucket(_size(n_references, _LEAST_REFERENCES, steps), _size(n_queries, _LEAST_QUERIES, steps), anchors)


def grouped(
    items: Iterable[Item], bucket: Callable[[Item], Bucket], most: Callable[[Bucket], int]
) -> list[tuple[Bucket, list[Item]]]:
    """Group items by bucket, in order.

    Args:
        items: in order.
        bucket: of an item.
        most: items of one bucket that one pass allows.
    """
    open_groups: dict[Bucket, list[Item]] = {}
    groups = []
    for item in items:
        shape = bucket(item)
        group = open_groups.get(shape)
        if group is None or len(group) == most(shape):
            group = open_groups[shape] = []
            groups.append((shape, group))
        group.append(item)
    return groups


def _size(n: int, least: int, steps: int) -> int:
    """The smallest size that is at least n; there are `steps` sizes between two powers of two."""
    step = max(least, (1 << max(n - 1, 0).bit_length()) // (2 * steps))
    return max(least, -(-n // step) * step)
