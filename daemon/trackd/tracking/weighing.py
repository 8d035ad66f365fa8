"""The rules, applied to the scores of a frame: a small table at once, a large one in blocks of rows.

A rule computes each row of a table alone. So the result is the same in blocks, which stay in the processor's cache, and
no rule needs memory for several tables of thousands of rows.

Letters: n instances that take part, M tracks, K near pairs, b rows of a block, k pairs kept per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trackd.compiled import FLOAT, FLOAT32_TABLE, INT, INT_TABLE, INTS, compiled
from trackd.tracking.rules.rule import Rule, Table
from trackd.tracking.scorer import NEGLIGIBLE, Query
from trackd.tracking.window import Slots

if TYPE_CHECKING:
    from trackd.config import TrackerConfig

BLOCK_CELLS = 1 << 18  # of a block of rows: a megabyte
MAX_COLUMNS = 32  # pairs per instance that are kept where rules see more than `MAX_PAIRS` pairs
MAX_PAIRS = 1 << 22  # above this number of pairs the scorer gives near pairs only, whatever a rule needs


def weigh_table(
    table: Table, query: Query, slots: Slots, config: TrackerConfig, rules: Sequence[Rule]
) -> tuple[Table, list[str]]:
    """Return the scores (n, M) after all rules, and the flags that rules give the frame. May overwrite `table`."""
    flagged: set[str] = set()
    for part, block in _blocks(query, table.shape[1]):
        weighed = _weigh(table[part], block, slots, config, rules, flagged)
        if block is query:
            table = weighed
        else:
            table[part] = weighed
    return table, _in_order(flagged, rules)


def weigh_pairs(
    values: NDArray[np.float32],
    pairs: NDArray[np.intp],
    query: Query,
    slots: Slots,
    config: TrackerConfig,
    rules: Sequence[Rule],
) -> tuple[NDArray[np.float32], NDArray[np.intp], list[str]]:
    """As `weigh_table`, for pairs, where every other pair scores 0.

    Where a rule could raise the score of another pair, each instance keeps its `MAX_COLUMNS` best pairs.

    Args:
        values: (K,) scores.
        pairs: (2, K) rows of the instances, ascending, and columns.
        query: the frame; all rows of the pairs are among its `rows`.
        slots: (M,) of the columns.
        config: the `tracker` section.
        rules: those that are on.

    Returns:
        the scores and the pairs after all rules, and the flags.
    """
    flagged: set[str] = set()
    raised = any(rule.needs_every_pair for rule in rules)
    kept_values, kept_pairs = [values[:0]], [pairs[:, :0]]
    for part, block in _blocks(query, len(slots)):
        start, end = np.searchsorted(pairs[0], [block.rows[0], block.rows[-1] + 1])
        row, column = np.searchsorted(block.rows, pairs[0, start:end]), pairs[1, start:end]
        table = np.zeros((len(block.rows), len(slots)), np.float32)
        table[row, column] = values[start:end]
        table = np.ascontiguousarray(_weigh(table, block, slots, config, rules, flagged), np.float32)
        if raised:
            row, column = _best_columns(table, part.start, len(query.rows))
        kept_values.append(table[row, column])
        kept_pairs.append(np.stack([block.rows[row], column]))
    return np.concatenate(kept_values), np.concatenate(kept_pairs, axis=1), _in_order(flagged, rules)


def _blocks(query: Query, n_columns: int) -> Iterator[tuple[slice, Query]]:
    n, height = len(query.rows), max(BLOCK_CELLS // max(n_columns, 1), 1)
    if n <= height:
        yield slice(0, n), query
        return
    for start in range(0, n, height):
        part = slice(start, min(start + height, n))
        yield part, replace(query, rows=query.rows[part])


def _weigh(
    table: Table, query: Query, slots: Slots, config: TrackerConfig, rules: Sequence[Rule], flagged: set[str]
) -> Table:
    for rule in rules:
        if rule.weigh is not None:
            table = rule.weigh(table, query, slots, config)
    for rule in rules:
        if rule.flag is not None and rule.flag_name not in flagged and rule.flag(table, config):
            flagged.add(rule.flag_name)
    return table


def _in_order(flagged: set[str], rules: Sequence[Rule]) -> list[str]:
    return [rule.flag_name for rule in rules if rule.flag_name in flagged]


def _best_columns(table: Table, first: int, n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the cells of each row with the largest scores: (K,) ascending rows, and columns ascending within a row.

    Args:
        table: (b, M) of rows from `first` on, of n.
        first: the number of the first row.
        n: the number of all rows.
    """
    columns = np.empty((len(table), min(MAX_COLUMNS, table.shape[1])), np.intp)
    counts = np.empty(len(table), np.intp)
    _select(table, first, n, NEGLIGIBLE, columns, counts)
    there = np.arange(columns.shape[1]) < counts[:, None]
    return np.repeat(np.arange(len(table)), counts), columns[there]


@compiled(None, FLOAT32_TABLE, INT, INT, FLOAT, INT_TABLE, INTS, nogil=True)
def _select(
    table: Table, first: int, n: int, floor: float, columns: NDArray[np.intp], counts: NDArray[np.intp]
) -> None:
    """Write the columns (b, k) of the largest scores above `floor`, ascending, and their number in each row.

    Of equal scores each row takes others: it begins at its own place.
    """
    k, m = columns.shape[1], table.shape[1]
    kept = np.empty(k, np.float32)
    for i in range(len(table)):
        count, least = 0, np.float32(floor)
        begin = (first + i) * m // n
        for half in range(2):
            for j in range(begin if half == 0 else 0, m if half == 0 else begin):
                score = table[i, j]
                if not score > least:
                    continue
                if count < k:
                    count += 1
                place = count - 1
                while place > 0 and kept[place - 1] < score:
                    kept[place], columns[i, place] = kept[place - 1], columns[i, place - 1]
                    place -= 1
                kept[place], columns[i, place] = score, j
                if count == k:
                    least = kept[k - 1]
        counts[i] = count
        columns[i, :count].sort()
