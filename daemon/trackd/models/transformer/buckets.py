"""Shapes that come again: what steps of the transformer are padded to, so that those of several streams fit together.

A step's bucket depends on that step alone. So a stream is padded the same way whether it is scored by itself or beside
others, and a stream of a thousand instances never stands in one batch with one of five.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

_LEAST_REFERENCES = 16
_LEAST_QUERIES = 4  # matrix products of fewer rows go other ways on a CPU, which end in other last bits
_MAX_TOKENS = 1 << 16  # in one forward pass: bounds what its activations take


@dataclass(frozen=True, slots=True)
class Bucket:
    """The shape of one padded step."""

    references: int  # R, places for references
    queries: int  # Q, places for instances of the query frame
    anchors: int  # A, boxes per instance

    @property
    def tokens(self) -> int:
        """N = R + Q."""
        return self.references + self.queries

    @property
    def most_streams(self) -> int:
        """How many steps of this shape may go through in one pass."""
        return max(1, _MAX_TOKENS // self.tokens)


def bucket_of(n_references: int, n_queries: int, anchors: int, finely: bool) -> Bucket:
    """The bucket of a step.

    Args:
        n_references: its references.
        n_queries: its instances.
        anchors: boxes per instance.
        finely: sizes at most an eighth too large, for a CPU, where padding costs what it holds; else at most a half,
            for fewer shapes.
    """
    steps = 8 if finely else 2
    return Bucket(_size(n_references, _LEAST_REFERENCES, steps), _size(n_queries, _LEAST_QUERIES, steps), anchors)


def grouped(items: Iterable[Item], bucket: Callable[[Item], Bucket]) -> list[tuple[Bucket, list[Item]]]:
    """Items by bucket, in order, none more than may go through in one pass."""
    open_groups: dict[Bucket, list[Item]] = {}
    groups = []
    for item in items:
        shape = bucket(item)
        group = open_groups.get(shape)
        if group is None or len(group) == shape.most_streams:
            group = open_groups[shape] = []
            groups.append((shape, group))
        group.append(item)
    return groups


def _size(n: int, least: int, steps: int) -> int:
    """The smallest size that is no less than n; there are `steps` of them from one power of two to the next."""
    step = max(least, (1 << max(n - 1, 0).bit_length()) // (2 * steps))
    return max(least, -(-n // step) * step)
