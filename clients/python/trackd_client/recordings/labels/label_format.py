"""The description of a label-file format: its name, the files that it recognises, and its reader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from trackd_client.recordings.labels.spots import Spots


@dataclass(frozen=True, slots=True)
class LabelFormat:
    """One label-file format of `dataset.test_dataset.tracks`, and how its files are recognised.

    A file is of this format if one of `suffixes`, `xml_tags`, `columns` and `folder` applies to it.
    """

    title: str  # completes "the file looks like …"
    read: Callable[[Path], Spots] | None = None  # None: its files are recognised only to be refused
    refusal: str | None = None  # then: why, and what the user can do
    source: str | None = None  # its name in `dataset.test_dataset.source`
    other_sources: tuple[str, ...] = ()  # other formats' names in `source` under which its files are accepted
    suffixes: tuple[str, ...] = ()  # of the file's name, in lower case; the file is not opened
    xml_tags: frozenset[str] = frozenset()  # an .xml file that holds an element with one of these tags
    columns: Callable[[Sequence[str]], bool] | None = None  # a table with such names in its header row
    folder: Callable[[Path], bool] | None = None  # such a folder
