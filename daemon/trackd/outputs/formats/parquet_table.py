"""Parquet tables: the CSV table's columns, typed and compressed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trackd.output_formats import check_outputs
from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.formats import table
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.writer import Position

if TYPE_CHECKING:
    import pyarrow

ROWS_PER_GROUP = 65_536


class ParquetWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.parquet` at close, a group of rows at a time.

    Raises:
        ConfigError: pyarrow is not installed.
    """

    suffix = ".parquet"

    def __init__(self, out_dir: Path, stream: StreamInfo, position: Position | None = None) -> None:
        check_outputs(["parquet"])
        super().__init__(out_dir, stream, position)

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        """Write the whole file."""
        import pyarrow
        import pyarrow.parquet

        nodes, records = _nodes(stream, records)
        names = table.column_names(nodes)
        # float64 holds any float that a detector sends, unchanged.
        types = [
            pyarrow.int64()
            if name in table.INTEGERS
            else pyarrow.string()
            if name in table.TEXTS
            else pyarrow.float64()
            for name in names
        ]
        schema = pyarrow.schema(list(zip(names, types, strict=True)))
        with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as file:
            group: list[list[table.Column]] = []
            n_rows = 0
            for record in records:
                group.append(table.columns(record, len(nodes)))
                n_rows += len(group[-1][0])
                if n_rows >= ROWS_PER_GROUP:
                    file.write_table(_table(group, schema))
                    group, n_rows = [], 0
            if group:
                file.write_table(_table(group, schema))


def _nodes(stream: StreamInfo, records: Iterable[OutputRecord]) -> tuple[tuple[str, ...], Iterable[OutputRecord]]:
    """The nodes that have columns, and all records; without a skeleton the first instances show the nodes."""
    ahead: list[OutputRecord] = []
    rest = iter(records)
    for record in rest:
        ahead.append(record)
        if len(record.track_ids) or stream.skeleton is not None:
            break
    return table.node_names(stream, ahead[-1] if ahead else None), itertools.chain(ahead, rest)


def _table(group: list[list[table.Column]], schema: pyarrow.Schema) -> pyarrow.Table:
    import pyarrow

    arrays = []
    for position, field in enumerate(schema):
        column = np.concatenate([rows[position] for rows in group])
        if field.name not in table.TEXTS:
            column = column.astype(field.type.to_pandas_dtype())
        # NaN becomes null, so that the table has a single sign for a missing value.
        arrays.append(pyarrow.array(column, field.type, from_pandas=True))
    return pyarrow.Table.from_arrays(arrays, schema=schema)
