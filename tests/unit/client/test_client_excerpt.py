"""An excerpt is the beginning of a value's repr, at a cost that does not depend on the value's size."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trackd_client.excerpt import excerpt

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=60,
)


@given(values, st.integers(10, 90))
def test_it_is_the_repr_cut_to_its_length(value: Any, most: int) -> None:
    text = repr(value)
    assert excerpt(value, most) == (text if len(text) <= most else text[: most - 3] + "...")


def test_only_the_beginning_of_a_large_value_is_read() -> None:
    read = 0

    class Item:
        def __repr__(self) -> str:
            nonlocal read
            read += 1
            return "item"

    assert excerpt([Item() for _ in range(60_000)]).startswith("[item, item")
    assert read < 20
    assert excerpt((1,)) == "(1,)"
    assert excerpt("x" * 10**6) == "'" + "x" * 56 + "..."
