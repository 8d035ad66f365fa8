"""A hook of MkDocs: the site has the files of the repository that pages link to, such as `../configs/daemon.yaml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "deploy", "examples")
_LINK = re.compile(r"\[([^\]]*)\]\(\.\./((?:" + "|".join(FOLDERS) + r")/[^)#\s]*)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files of these folders, below `files/`."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix not in (".md", ".pyc"):
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, f"files/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point the links of a page to these files; a link to a folder becomes its text. One page is a README."""
    if page.file.src_uri == "examples.md":
        markdown = _readme_of("examples")

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        return f"[{text}](files/{target})" if (ROOT / target).is_file() else text

    return _LINK.sub(replaced, markdown)


def _readme_of(folder: str) -> str:
    """Return the README of a folder, with its links as they are in a page of the docs."""
    text = (ROOT / folder / "README.md").read_text(encoding="utf-8")
    links = re.compile(r"\]\((?!\.\./|https?:|#)")
    return links.sub(f"](../{folder}/", text).replace("](../docs/", "](")
