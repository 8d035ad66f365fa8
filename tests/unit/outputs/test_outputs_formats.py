"""An output format is one file and one line of the table; a format of this file is added by such a line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from output_records import info, record, written

from trackd.config import check_config
from trackd.output_formats import WRITERS, OutputFormat
from trackd.outputs.files.line_file import LineWriter
from trackd.outputs.files.part import SUFFIX, PartFile
from trackd.outputs.files.whole_file import WholeFileWriter
from trackd.outputs.records import OutputRecord, StreamInfo
from trackd.outputs.recover import recover
from trackd.outputs.writer import Writer, writer_class
from trackd_client.configuration import ConfigError


class CountWriter(LineWriter):
    """Writes `<out_dir>/<name>.count`: a line per frame with its index and its number of tracks."""

    suffix = ".count"

    def write(self, record: OutputRecord) -> None:
        self.append(f"{record.frame_index} {(record.track_ids >= 0).sum()}\n")


class TotalWriter(WholeFileWriter):
    """Writes `<out_dir>/<name>.total` at close: the number of frames."""

    suffix = ".total"

    @classmethod
    def write_file(cls, path: Path, stream: StreamInfo, records: Iterable[OutputRecord]) -> None:
        path.write_text(str(sum(1 for _ in records)))


@pytest.fixture
def two_more_formats(monkeypatch):
    monkeypatch.setitem(WRITERS, "count", OutputFormat(f"{__name__}:CountWriter"))
    monkeypatch.setitem(WRITERS, "total", OutputFormat(f"{__name__}:TotalWriter"))


@pytest.mark.usefixtures("two_more_formats")
def test_a_format_of_one_line_is_accepted_by_the_configuration_and_written(tmp_path):
    (kind, _) = check_config({"stream": {"outputs": ["count", "total"]}}).stream.outputs
    path = written(kind, tmp_path, info(), record(0, [4, -1]), record(1, []))
    assert path.read_text() == "0 1\n1 0\n"


@pytest.mark.usefixtures("two_more_formats")
def test_the_part_of_a_format_of_one_line_is_recovered(tmp_path):
    part = PartFile(tmp_path / f"cells.total{SUFFIX}", info())
    part.append(record(0, [4]))
    part.close()
    assert recover(tmp_path) == [tmp_path / "cells.total"]
    assert (tmp_path / "cells.total").read_text() == "1"


def test_a_part_of_no_format_of_the_table_is_an_error(tmp_path):
    (tmp_path / f"cells.total{SUFFIX}").write_bytes(b"")
    with pytest.raises(ConfigError, match="not a part of any output format"):
        recover(tmp_path)


@pytest.mark.usefixtures("two_more_formats")
def test_a_package_that_is_not_installed_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setitem(WRITERS, "count", OutputFormat(f"{__name__}:CountWriter", package="no_such_package"))
    with pytest.raises(ConfigError, match=r"count needs no_such_package, .* pip install no_such_package"):
        check_config({"stream": {"outputs": ["count"]}})


@pytest.mark.parametrize("outputs", [["sleap"], ["slp", 3], [["mot"]]])
def test_an_unknown_output_is_an_error_that_names_the_known_ones(outputs):
    with pytest.raises(ConfigError) as caught:
        check_config({"stream": {"outputs": outputs}})
    place, value = len(outputs) - 1, outputs[-1]
    assert str(caught.value) == (
        f"stream.outputs.{place} should be 'slp', 'mot', 'ctc', 'csv', 'parquet', 'trackmate', 'jsonl', 'h5', 'nwb', "
        f"'dlc', 'coco', 'geff' or 'movement'; got {value!r}"
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_every_line_of_the_table_names_a_writer(kind):
    assert issubclass(writer_class(kind), Writer)


@pytest.mark.parametrize("kind", WRITERS)
def test_the_formats_page_says_what_each_format_lacks(kind):
    page = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    titles = lines[0]
    (row,) = [dict(zip(titles, line, strict=True)) for line in lines if f"`{kind}`" in line[0].split(", ")]
    columns = {"names": "names", "capture times": "times", "scores": "scores", "keypoints": "keypoints",
               "masks": "masks", "lineage": "lineage", "boxes": "boxes",
               "untracked instances": "untracked", "corrections": "corrections"}  # fmt: skip
    lacks = {
        columns[title] for title, cell in row.items() if title in columns and (cell == "no" or cell.startswith("no: "))
    }
    assert lacks == set(WRITERS[kind].lacks.split())


def test_no_two_formats_have_the_same_suffix():
    suffixes = [cls.suffix for cls in map(writer_class, WRITERS) if issubclass(cls, WholeFileWriter)]
    assert len(suffixes) == len(set(suffixes))


@pytest.mark.parametrize("outputs", [["mot", "mot"], ["mot"] * 9000, [{}] * 60_000])
def test_a_format_that_is_named_twice_is_an_error(outputs):
    with pytest.raises(ConfigError, match=r"stream\.outputs should name each format at most once; got "):
        check_config({"stream": {"outputs": outputs}})
