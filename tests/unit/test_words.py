"""The project's texts avoid some words that are not plain technical English, in names too."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOT_READ = {"CHANGELOG.md", "LICENSE", "tests/unit/test_words.py"}
NOT_WALKED = {"__pycache__", "build", "dist", "node_modules", "shared"}
# Digits, underscores and hyphens separate words, so that the parts of an identifier are words too.
AVOIDED = re.compile(
    r"(?<![a-z])(?:"
    r"heed(?:s|ed|ing)?|pardon[a-z]*|bear(?:s|ing)?|bore|born|mothers?|daughters?|strangers?"
    r"|lend(?:s|ing)?|lent|attend(?:s|ed|ing)?|newcomers?"
    r")(?![a-z])",
    re.IGNORECASE,
)


def tracked_files() -> list[str]:
    """Return the paths of the project's files: those that git tracks, or all files if there is no git."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=30, check=False)
        paths = [name for name in listed.stdout.decode().split("\0") if name]
    except OSError:
        paths = []
    return paths or list(walked_files())


def walked_files() -> Iterator[str]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name not in NOT_WALKED and not name.startswith(".") and not name.endswith(".egg-info")
        ]
        for name in names:
            yield (Path(folder) / name).relative_to(ROOT).as_posix()


def text_of(path: str) -> str:
    """Return a file's text; it is empty for a binary file and for a missing one."""
    try:
        data = (ROOT / path).read_bytes()
        return "" if b"\0" in data else data.decode()
    except (OSError, UnicodeDecodeError):
        return ""


def offences(path: str, text: str) -> list[str]:
    lines = ((text.count("\n", 0, match.start()) + 1, match[0]) for match in AVOIDED.finditer(text))
    return [f"{path}:{number}: {word}" for number, word in lines]


def test_the_project_uses_no_avoided_word() -> None:
    paths = [path for path in tracked_files() if path not in NOT_READ]
    assert "pyproject.toml" in paths
    found = [offence for path in paths for offence in offences(path, text_of(path))]
    assert not found, f"{len(found)} words to replace by plain ones:\n" + "\n".join(found)


def test_avoided_words_are_found_in_identifiers_and_in_any_case() -> None:
    text = "Lent\nengine_lend_step\nload-bearing\nPARDONED\n"
    assert [found.partition(":")[2] for found in offences("f", text)] == [
        "1: Lent", "2: lend", "3: bearing", "4: PARDONED",
    ]  # fmt: skip


def test_longer_words_are_not_avoided() -> None:
    assert offences("f", "Authorization: Bearer, self-attention, calendar, bored, stubborn, silently, smother") == []
