"""Texts in CSV files that a spreadsheet program must not run as formulas.

A cell that begins with = + - @, a tab or a line break is a formula for spreadsheet programs (OWASP, "CSV Injection").
Such a text gets an apostrophe before it, which marks a text there. A text that begins with an apostrophe gets another
one, so that every text is read back unchanged. The same applies behind a semicolon, a tab or a line break within a
text: some programs begin a new cell there.
"""

from __future__ import annotations

import re

# At the begin of a cell; `(?<![^…])` is the begin of the text, or behind one of these characters.
_BEGIN = r"(?<![^;\t\r\n])"
_RISKY = r"(?=[=+\-@＝＋－＠\t\r\n'])"
_TO_ESCAPE = re.compile(_BEGIN + _RISKY)
_ESCAPED = re.compile(f"{_BEGIN}'{_RISKY}")


def escaped(text: str) -> str:
    """The text as it is written to a CSV file. Numbers are not texts: -3.5 stays -3.5."""
    return _TO_ESCAPE.sub("'", text)


def unescaped(text: str) -> str:
    """The text of which `escaped` made this one; a text without such an apostrophe is unchanged."""
    return _ESCAPED.sub("", text) if "'" in text else text
