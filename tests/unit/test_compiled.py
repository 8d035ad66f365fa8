"""Rules for compiled functions, whose cache depends on their own file only."""

from __future__ import annotations

import ast
import importlib
import inspect
import math
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import trackd.models
import trackd.tracking
from trackd.compiled import FLOAT, FLOATS, compiled
from trackd.models.motion import detector_scores, predict, records
from trackd.tracking import scorer


def compiled_functions() -> Iterator[tuple[str, Dispatcher]]:
    for package in (trackd.models, trackd.tracking):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            module = importlib.import_module(found.name)
            for name, value in vars(module).items():
                if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__:
                    yield f"{module.__name__}.{name}", value


FUNCTIONS = dict(compiled_functions())


def test_there_are_compiled_functions() -> None:
    assert len(FUNCTIONS) > 15


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_compiled_function_uses_no_name_imported_from_another_file_of_ours(name: str) -> None:
    """The cached code would not change with a constant of another file."""
    function = FUNCTIONS[name].py_func
    tree = ast.parse(inspect.getsource(importlib.import_module(function.__module__)))
    from_elsewhere = {
        alias.asname or alias.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trackd")
        for alias in node.names
    }
    assert not from_elsewhere & set(function.__code__.co_names)


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_compiled_function_has_one_signature_and_refuses_other_types(name: str) -> None:
    function = FUNCTIONS[name]
    assert len(function.signatures) == 1
    with pytest.raises(TypeError):
        function(*[None] * len(function.signatures[0]))


def test_constants_that_two_files_define_are_equal() -> None:
    assert math.log(scorer.NEGLIGIBLE) == predict.GATE
    assert records.N_GAPS == predict.N_GAPS
    assert (records.N_AGES - 1) * records.N_GAPS == detector_scores.ESTABLISHED


def test_a_function_is_compiled_even_without_a_place_for_the_cache(monkeypatch, caplog) -> None:
    def refuse(self) -> None:
        raise RuntimeError("cannot cache function 'twice': no locator available for file 'x.py'")

    monkeypatch.setattr(Dispatcher, "enable_caching", refuse)

    def twice(values: np.ndarray) -> float:
        return 2.0 * values[0]

    function = compiled(FLOAT, FLOATS)(twice)
    assert function(np.array([3.0])) == 6.0
    assert "compiled at every start" in caplog.text
