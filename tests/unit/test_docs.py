"""The docs match the code: keys, codes, fields, metrics, methods, links and examples."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from trackd.config import TRAINING_ONLY, Config, FleetConfig
from trackd.engine.inbox import Inbox
from trackd.observe.metrics import Metrics
from trackd.outputs.writer import WRITERS
from trackd.server.control import Control
from trackd_client.configuration import known_keys
from trackd_client.protocol import STAGES, ErrorCode, EventName, Message, Status, Timing
from trackd_client.protocol.encode import DETECTION_ARRAYS, TRACK_ARRAYS, TRACK_LISTS
from trackd_client.recordings.config import Folder

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.glob("*.md"), *(ROOT / name for name in ("README.md", "clients/python/README.md", "examples/README.md"))]
)
GUIDES = ("configuration", "deployment", "getting-started", "protocol", "recordings", "sdk", "tracking")

CODE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
INDENTED = re.compile(r"^    .*$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
METHOD = re.compile(r'^\s+"([a-z.]+)": ', re.MULTILINE)


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text(encoding="utf-8")


def quoted(word: str, text: str) -> bool:
    """Return whether a word occurs in code: between backticks or in a block, alone or with others."""
    word = rf"(?<![\w.]){re.escape(word)}(?!\w)"
    spans = SPAN.findall(FENCED.sub("", text)) + FENCED.findall(text) + INDENTED.findall(text)
    return any(re.search(word, span) for span in spans)


def keys_with_a_row(text: str) -> set[str]:
    """Return the words between backticks in the first cells of a page's tables."""
    cells = re.findall(r"^\| ([^|]*) \|", text, re.MULTILINE)
    return {word for cell in cells for word in SPAN.findall(cell)}


def sections(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every key of a configuration as (the section's path, the key)."""
    for name in known_keys(model):
        field = model.model_fields.get(name)
        nested = field.default if field is not None else None
        where = f"{path}.{name}" if path else name
        if isinstance(nested, BaseModel):
            yield from sections(type(nested), where)
        else:
            yield path, name


def part_of(text: str, heading: str) -> str:
    """Return a second-level section of a page with its subsections."""
    found = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {heading!r}"
    return found[1]


def control_methods() -> list[str]:
    source = inspect.getsource(Control.__init__)
    return METHOD.findall(source[source.index("self._methods") :])


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings, in GitHub's form."""
    headings = HEADING.findall(FENCED.sub("", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def describe_path(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", GUIDES)
def test_every_guide_exists(name: str) -> None:
    assert page(name).startswith("# ")


@pytest.mark.parametrize(("section", "key"), sorted(set(sections(Config))))
def test_every_configuration_key_is_in_its_section_of_the_configuration_page(section: str, key: str) -> None:
    text = page("configuration")
    heading = {"": "Top level", "daemon.endpoints": "daemon"}.get(section, section)
    if section == "dataset" or (section == "dataloader"):
        assert f"`{section}.{key}`" in text  # the training parts, which the daemon skips
        return
    wanted = {f"endpoints.{key}" if section == "daemon.endpoints" else key}
    if section == "dataset.test_dataset" and key == "dir":
        wanted = {f"dir.{name}" for name in Folder.model_fields}
    assert wanted <= keys_with_a_row(part_of(text, heading)), f"{section}.{key} has no row in docs/configuration.md"


def test_the_configuration_page_names_no_unknown_key() -> None:
    known: dict[str, set[str]] = {}
    for section, key in sections(Config):
        known.setdefault(section, set()).add(key)
    text = page("configuration")
    known["daemon"] |= {f"endpoints.{key}" for key in known["daemon.endpoints"]}
    known["daemon"] |= {f"fleet.{key}" for key in FleetConfig.model_fields}
    known["dataset.test_dataset"] |= {f"dir.{name}" for name in Folder.model_fields}
    for section in (
        "tracker", "dataset.test_dataset", "dataloader.test_dataloader", "model", "daemon", "stream", "limits",
        "security", "viewer", "recording",
    ):  # fmt: skip
        assert keys_with_a_row(part_of(text, section)) - known[section] == set()


@pytest.mark.parametrize("name", sorted(TRAINING_ONLY))
def test_every_skipped_section_of_a_dreem_file_is_named(name: str) -> None:
    assert quoted(name, page("configuration"))


def test_every_key_of_the_commented_file_is_on_the_configuration_page() -> None:
    keys = re.findall(r"^\s*([a-z_]+):", (ROOT / "configs" / "daemon.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    text = page("configuration")
    assert [key for key in keys if key not in text] == []


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_code_has_its_row(code: ErrorCode) -> None:
    assert f"\n| `{code}` | " in part_of(page("protocol"), "Errors")


@pytest.mark.parametrize("kind", sorted({message.kind for message in Message.__subclasses__()}))
def test_every_message_kind_is_in_the_protocol(kind: str) -> None:
    assert quoted(kind, page("protocol"))


@pytest.mark.parametrize("method", control_methods())
def test_every_control_method_has_its_row(method: str) -> None:
    assert f"\n| `{method}` | " in part_of(page("protocol"), "control")


def test_the_search_finds_the_control_methods() -> None:
    assert {"status", "history", "model.load", "drain"} <= set(control_methods())


@pytest.mark.parametrize(
    "field",
    sorted({*DETECTION_ARRAYS, *TRACK_ARRAYS, *TRACK_LISTS, *Timing.__slots__, *Status, *EventName, "parents"}),
)
def test_every_field_of_frames_and_settlements_is_in_the_protocol(field: str) -> None:
    assert quoted(field, page("protocol"))


@pytest.mark.parametrize("kind", Message.__subclasses__(), ids=lambda kind: kind.kind)
def test_every_field_of_every_message_is_in_the_protocol(kind: type[Message]) -> None:
    text = page("protocol")
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    assert [name for name in names if not quoted(name, text)] == []


def metric_names() -> list[str]:
    families = Metrics(Inbox(1)).registry.collect()
    return [f"{family.name}_total" if family.type == "counter" else family.name for family in families]


@pytest.mark.parametrize("name", metric_names())
def test_every_metric_is_in_the_deployment_page(name: str) -> None:
    assert f"\n| `{name}` | " in page("deployment")


def test_every_stage_of_the_latency_is_named() -> None:
    assert all(quoted(stage, page("deployment")) for stage in STAGES)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_output_has_its_row(kind: str) -> None:
    assert f"\n| `{kind}` | " in page("recordings")


@pytest.mark.parametrize("path", PAGES, ids=describe_path)
def test_relative_links_lead_to_an_existing_page_and_heading(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    broken = []
    for link in [*LINK.findall(text), *IMAGE.findall(text)]:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        if not file.exists() or (anchor and anchor not in slugs(file.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


def test_every_test_on_the_reliability_page_exists() -> None:
    paths = re.findall(r"`(tests/[^`]*)`", page("reliability"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def snippets() -> list[tuple[str, str]]:
    return [
        (f"{describe_path(path)}:{number}", code)
        for path in PAGES
        for number, code in enumerate(CODE.findall(path.read_text(encoding="utf-8")))
    ]


@pytest.mark.parametrize(("where", "code"), snippets(), ids=[where for where, _ in snippets()])
def test_python_examples_compile(where: str, code: str) -> None:
    compile(code, where, "exec")


@pytest.mark.parametrize(("where", "code"), snippets(), ids=[where for where, _ in snippets()])
def test_python_examples_import_public_names_only(where: str, code: str) -> None:
    import trackd_client

    for names in re.findall(r"^from trackd_client import (.*)$", code, re.MULTILINE):
        assert [name for name in names.split(", ") if name not in trackd_client.__all__] == []


@pytest.mark.parametrize("path", PAGES, ids=describe_path)
def test_yaml_examples_are_valid_configurations(path: Path) -> None:
    import yaml

    from trackd.config import check_config

    for block in re.findall(r"^```yaml\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        check_config(yaml.safe_load(block))
