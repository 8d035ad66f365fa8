"""The command line of `trackd` and `trackd-client`: the version, and usage errors in one line."""

from __future__ import annotations

import sys

import pytest

from trackd import __version__, cli
from trackd_client.apps import cli as client_cli

PROGRAMS = [("trackd", cli.main), ("trackd-client", client_cli.main)]


def run(main, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["program", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(("name", "main"), PROGRAMS)
def test_both_commands_show_the_version(name, main, monkeypatch, capsys):
    assert run(main, monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize(("name", "main"), PROGRAMS)
@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("trak",), "No such command 'trak'"),
        (("status", "--timeoutt-s", "1"), "No such"),
        (("track",), ""),
        (("replay",), ""),
    ],
)
def test_a_usage_error_is_one_line_with_the_programs_name_and_exit_code_2(
    name, main, words, error, monkeypatch, capsys
):
    assert run(main, monkeypatch, *words) == 2
    written = capsys.readouterr()
    assert written.out == ""
    (line,) = written.err.splitlines()
    assert line.startswith(f"{name}: ")
    assert error in line


def test_an_unknown_level_of_the_log_is_a_warning(monkeypatch, capsys, caplog):
    monkeypatch.setenv("TRACKD_LOG", "foo")
    assert run(client_cli.main, monkeypatch, "watch", "--timeout-s", "0.05", "--control", "tcp://127.0.0.1:9") == 1
    assert "TRACKD_LOG should be one of DEBUG, INFO, WARNING, ERROR, CRITICAL; got 'FOO'" in caplog.text
