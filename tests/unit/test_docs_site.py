"""The docs build as a site: strictly, without the network, with every public name of the SDK."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import trackd_client

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_of_the_docs_is_in_the_site_and_its_navigation(site: Path) -> None:
    pages = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert pages <= {path.stem for path in site.glob("*.html")}
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    listed = [name for entry in nav for name in (next(iter(entry.values())) if isinstance(entry, dict) else [entry])]
    assert sorted(listed) == sorted(f"{page}.md" for page in pages)


def test_the_sdk_reference_has_every_public_name(site: Path) -> None:
    text = (site / "reference-sdk.html").read_text()
    missing = [name for name in trackd_client.__all__ if f'id="trackd_client.{name}"' not in text]
    # Functions and values that are no classes have a heading too.
    assert missing == []


def test_a_page_loads_nothing_from_other_servers(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe|link)[^>]*(?:src|href)="(https?:[^"]+)"', page.read_text())
        assert loaded == [], page.name


def test_links_to_files_of_the_repository_lead_to_copies_of_them(site: Path) -> None:
    found = set()
    for page in site.glob("*.html"):
        for target in re.findall(r'href="(files/[^"#]+)"', page.read_text()):
            path = unquote(target)
            assert (site / path).read_bytes() == (ROOT / path.removeprefix("files/")).read_bytes()
            found.add(target)
    assert "files/configs/daemon.yaml" in found
