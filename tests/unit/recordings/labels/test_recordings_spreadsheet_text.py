import csv
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackd_client.recordings.labels.spreadsheet_text import escaped, unescaped
from trackd_client.recordings.labels.tables import header_of, rows_of

RISKY = "=+-@＝＋－＠\t\r\n"
TEXTS = st.text(st.sampled_from([*RISKY, "'", ";", ",", '"', " ", "a", "1"]), max_size=8)


@pytest.mark.parametrize("first", RISKY)
def test_a_text_that_would_be_a_formula_gets_an_apostrophe(first):
    assert escaped(f"{first}A1") == f"'{first}A1"


@pytest.mark.parametrize(
    ("text", "cell"),
    [("head", "head"), ("", ""), ("a=b", "a=b"), ("'", "''"), ("'a", "''a"), ("'=a", "''=a"), ("''", "'''"),
     ("a;=b", "a;'=b"), ("a; =b", "a; =b")],
)  # fmt: skip
def test_other_texts_are_changed_only_where_they_must_be(text, cell):
    assert escaped(text) == cell
    assert unescaped(cell) == text


@given(TEXTS)
def test_every_text_is_read_back_unchanged_and_begins_no_formula(text):
    cell = escaped(text)
    assert unescaped(cell) == text
    for part in re.split(r"[;\n]", cell):
        assert not part.startswith(tuple("=+-@＝＋－＠"))


@given(TEXTS, TEXTS)
def test_different_texts_have_different_cells(one, other):
    assert (escaped(one) == escaped(other)) == (one == other)


def test_tables_are_read_without_the_apostrophes(tmp_path):
    names = ["=cmd|' /C calc'!A0", "+1", "-1", "@a", "'", "'a", "'=a", "''a", "plain", "a;=b"]
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[escaped(name) for name in names], [escaped(name) for name in names]])
    assert header_of(path) == names
    assert list(rows_of(path)) == [names, names]
