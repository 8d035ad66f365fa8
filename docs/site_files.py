"""A hook of MkDocs: the site has the files of the repository that pages link to, such as `../configs/daemon.yaml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
FOLDERS = ("configs", "deploy")
_LINK = re.compile(r"\[([^\]]*)\]\(\.\./((?:" + "|".join(FOLDERS) + r")/[^)#\s]*)\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the files of these folders, below `files/`."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file():
                name = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, f"files/{name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point the links of a page to these files; a link to a folder becomes its text."""

    def replaced(link: re.Match[str]) -> str:
        text, target = link.groups()
        return f"[{text}](files/{target})" if (ROOT / target).is_file() else text

    return _LINK.sub(replaced, markdown)
