"""Elements of an XML file, one after the other, each with the line on which it begins.

The files are not trusted, so a document type is refused: without one there are no entities to expand and no external
resources to fetch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from trackd_client.recordings.limits import MAX_WHOLE
from trackd_client.recordings.recording import RecordingError

CHUNK_BYTES = 1 << 16
MAX_DEPTH = 64  # the formats nest less than ten elements


@dataclass(slots=True, eq=False)
class Element:
    """One element. Its children are yielded before it, and are not stored."""

    path: Path
    line: int
    tag: str
    attributes: dict[str, str]
    parent: Element | None
    number: int  # among its siblings of the same tag, from 0
    _text: list[str] = field(default_factory=list)
    _children: dict[str, int] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """Its text; empty for other tags than `text_of`."""
        return "".join(self._text)

    @property
    def where(self) -> str:
        """The file, the line and the tag, for error texts."""
        return f"{self.path}, line {self.line}, <{self.tag}>"

    def within(self, *tags: str) -> bool:
        """Whether its ancestors, from the outer to the inner one, end with `tags`."""
        nearest = [ancestor.tag for _, ancestor in zip(tags, self.ancestors, strict=False)]
        return nearest == list(reversed(tags))

    @property
    def ancestors(self) -> Iterator[Element]:
        """The parent, its parent, and so on."""
        ancestor = self.parent
        while ancestor is not None:
            yield ancestor
            ancestor = ancestor.parent

    def real(self, name: str) -> float:
        """A finite number.

        Raises:
            RecordingError: the attribute is absent, or has another value.
        """
        text = self.attributes.get(name)
        try:
            value = float(text or "")
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            found = "it has none" if text is None else f"got {text!r}"
            raise RecordingError(f"{self.where}: attribute {name} must be a finite number; {found}")
        return value

    def whole(self, name: str) -> int:
        """A whole number of at most 2⁵³, which may be written as 3.0.

        Raises:
            RecordingError: the attribute is absent, or has another value.
        """
        value = self.real(name)
        if not value.is_integer():
            raise RecordingError(f"{self.where}: attribute {name} must be a whole number; got {value:g}")
        if abs(value) > MAX_WHOLE:
            raise RecordingError(f"{self.where}: attribute {name} must be at most 2⁵³; got {value:g}")
        return int(value)

    def frame(self, name: str) -> int:
        """A frame index.

        Raises:
            RecordingError: the attribute is absent, or not a whole number ≥ 0.
        """
        value = self.whole(name)
        if value < 0:
            raise RecordingError(f"{self.where}: attribute {name} must count frames from 0; got {value}")
        return value


def elements(path: Path, text_of: str | None = None) -> Iterator[Element]:
    """Every element of a file, in the order of their end tags.

    Args:
        path: the file.
        text_of: the tag whose text is stored.

    Raises:
        RecordingError: the file is missing, not well-formed XML, has a document type, or is nested too deep.
    """
    reader = _Reader(path, text_of)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                reader.parser.Parse(chunk, False)
                yield from reader.take()
        reader.parser.Parse(b"", True)
    except OSError as error:
        raise RecordingError(f"{path}: cannot be read: {error}") from None
    except expat.ExpatError as error:
        raise RecordingError(f"{path}, line {error.lineno}: not well-formed XML: {error}") from None
    except RecordingError:
        raise
    except (LookupError, ValueError) as error:  # from Python's decoders
        raise RecordingError(f"{path}: not XML in a known encoding: {error}") from None
    yield from reader.take()


class _Reader:
    """The parser's callbacks. Open elements are on a stack, ended ones in a list until `take` returns them."""

    def __init__(self, path: Path, text_of: str | None) -> None:
        self._path = path
        self._text_of = text_of
        self._open: list[Element] = []
        self._roots: dict[str, int] = {}
        self._ended: list[Element] = []
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.StartDoctypeDeclHandler = self._refuse
        if text_of is not None:
            self.parser.CharacterDataHandler = self._characters

    def take(self) -> list[Element]:
        ended, self._ended = self._ended, []
        return ended

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        parent = self._open[-1] if self._open else None
        counts = self._roots if parent is None else parent._children
        number = counts.get(tag, 0)
        counts[tag] = number + 1
        if len(self._open) == MAX_DEPTH:
            line = self.parser.CurrentLineNumber
            raise RecordingError(f"{self._path}, line {line}: elements are nested in more than {MAX_DEPTH} others")
        self._open.append(Element(self._path, self.parser.CurrentLineNumber, tag, attributes, parent, number))

    def _end(self, tag: str) -> None:
        self._ended.append(self._open.pop())

    def _characters(self, text: str) -> None:
        if self._open[-1].tag == self._text_of:
            self._open[-1]._text.append(text)  # a string that grows would be copied each time

    def _refuse(self, *_: object) -> None:
        line = self.parser.CurrentLineNumber
        raise RecordingError(f"{self._path}, line {line}: a document type is not accepted; remove <!DOCTYPE …>")
