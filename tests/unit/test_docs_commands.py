"""Every command that the docs print can be run on a fresh clone: its options, settings, files and packages exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from trackd.cli import app as daemon_app
from trackd.config import check_config
from trackd_client.apps.cli import app as client_app
from trackd_client.configuration import ConfigError, environment_overrides, parse_override, with_overrides

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("docs/*.md"),
        *(ROOT / name for name in ("README.md", "clients/python/README.md", "examples/README.md")),
    ]
)
PROGRAMS = {"trackd": daemon_app, "trackd-client": client_app}
OTHERS = (
    "make", "python", "python3", "pip", "cp", "install", "promtool", "prometheus", "docker", "source", "curl",
    "useradd", "systemctl", "node",
)  # fmt: skip
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Behind an empty line, so that the second line of a list's item is no code.
INDENTED = re.compile(r"(?<=\n\n)(?:(?: {4}.*)?\n)+")
SPAN = re.compile(r"`([^`\n]+)`")
SUFFIXES = (".yaml", ".yml", ".py", ".txt", ".service", ".ckpt", ".slp", ".mp4")
# Files that a command of the docs makes, or that a user has: `my.yaml`, `models/my_model.ckpt`.
MADE = re.compile(r"(?:\.venv/|demo/|dist/|keys/|results|scores/|/(?:etc|var|opt|dev)/|(?:models/)?my[._])")
FOLDERS = ("benchmarks/", "clients/", "configs/", "daemon/", "deploy/", "docs/", "examples/", "tests/")


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a page, as its words."""

    where: str
    variables: tuple[str, ...]  # A=b in front of it
    words: tuple[str, ...]
    printed: str | None  # the line below it, if it begins with the program's name
    is_whole: bool  # False: it may be the name of a command in a sentence, without its arguments


def blocks(text: str) -> list[str]:
    """The indented blocks of a page, and the fenced ones without a language."""
    fenced = [body for language, body in FENCED.findall(text) if language in ("", "sh", "bash", "console")]
    return [*fenced, *INDENTED.findall(FENCED.sub("\n", text))]


def command(where: str, line: str, below: str | None, *, is_whole: bool) -> Command | None:
    """The command on a line; None if the line is none."""
    line = line.strip().removeprefix("$ ")
    if not re.match(rf"(?:\S+=\S* )*(?:\S*/)?(?:{'|'.join([*PROGRAMS, *OTHERS])})(?: |$)", line):
        return None
    words = shlex.split(line, comments=True)
    program = next(i for i, word in enumerate(words) if "=" not in word)
    printed = below if below is not None and below.startswith(words[program] + ": ") else None
    return Command(where, tuple(words[:program]), tuple(words[program:]), printed, is_whole)


def commands_of(path: Path) -> list[Command]:
    text = path.read_text(encoding="utf-8")
    where = str(path.relative_to(ROOT))
    found = []
    for block in blocks(text):
        lines = [line.strip() for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
        for line, below in zip(lines, [*lines[1:], None], strict=True):
            found.append(command(where, line, below, is_whole=True))
    spans = SPAN.findall(FENCED.sub("", text))
    found += [command(where, span, None, is_whole=False) for span in spans if " " in span]
    return [each for each in found if each is not None]


COMMANDS = [each for path in PAGES for each in commands_of(path)]


def of(*programs: str) -> list[Command]:
    return [each for each in COMMANDS if Path(each.words[0]).name in programs]


def named(each: Command) -> str:
    return f"{each.where}: {' '.join(each.words)}"


def parse(app: typer.Typer, words: tuple[str, ...], *, is_whole: bool) -> dict[str, Any]:
    """Parse a command line as the program does, without running it.

    Raises:
        UsageError: an unknown command or option, or a missing argument.
    """
    program: Any = typer.main.get_command(app)
    # Options that act while they are parsed would write into the home folder.
    assert not {"--install-completion", "--show-completion"} & set(words)
    context = program.make_context(words[0], list(words[1:]), resilient_parsing=not words[1:])
    arguments = [*getattr(context, "_protected_args", ()), *context.args]
    while arguments:
        name, program, arguments = program.resolve_command(context, arguments)
        is_group = hasattr(program, "resolve_command")
        try:
            context = program.make_context(name, arguments, parent=context)
        except Exception as error:
            if is_whole or type(error).__name__ not in ("MissingParameter", "NoArgsIsHelpError"):
                raise
            return {}
        arguments = [*getattr(context, "_protected_args", ()), *context.args] if is_group else []
    return dict(context.params)


def settings(each: Command) -> list[str]:
    """The overrides `a.b.c=value` of a command, in its options and its environment."""
    words = each.words
    pairs = list(pairwise(words))
    variables = [*each.variables, *(value for option, value in pairs if option == "-e")]
    environment = dict(variable.split("=", 1) for variable in variables)
    overrides = [value for option, value in pairs if option == "--set" and "…" not in value]
    return [*environment_overrides(environment), *overrides]


def test_the_search_finds_commands_of_all_pages() -> None:
    assert len(of("trackd")) > 40
    assert {"docs/deployment.md", "docs/getting-started.md", "docs/security.md", "README.md"} <= {
        each.where for each in COMMANDS
    }
    assert any(len(each.words) > 10 for each in COMMANDS), "continued lines are one command"


@pytest.mark.parametrize("each", of(*PROGRAMS), ids=named)
def test_a_command_has_only_known_names_and_options(each: Command) -> None:
    with suppress(typer.Exit):  # of --version
        parse(PROGRAMS[Path(each.words[0]).name], each.words, is_whole=each.is_whole)


@pytest.mark.parametrize("each", [each for each in COMMANDS if settings(each)], ids=named)
def test_the_settings_of_a_command_are_valid_or_refused_as_printed(each: Command) -> None:
    refusal = None
    try:
        check_config(with_overrides({}, settings(each)))
    except ConfigError as error:
        refusal = f"{each.words[0]}: {error}"
    assert refusal == each.printed


@pytest.mark.parametrize("each", of("make"), ids=named)
def test_a_target_is_in_the_makefile(each: Command) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(each.words[1:]) <= set(targets)


@pytest.mark.parametrize("each", [each for each in of("python") if each.words[1].endswith(".py")], ids=named)
def test_a_script_knows_its_options(each: Command) -> None:
    source = (ROOT / each.words[1]).read_text(encoding="utf-8")
    assert [word for word in each.words[2:] if word.startswith("-") and f'"{word}"' not in source] == []


def packages_of(each: Command) -> list[str]:
    words = each.words[each.words.index("install") + 1 :]
    after_option = {i + 1 for i, word in enumerate(words) if word == "-c"}
    return [word for i, word in enumerate(words) if not word.startswith("-") and i not in after_option]


@pytest.mark.parametrize("each", of("pip"), ids=named)
def test_pip_installs_from_the_clone_or_a_dependency(each: Command) -> None:
    """trackd and trackd-client are on no index, so a command names their folders."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text())
    own = tables["tool"]["hatch"]["metadata"]["hooks"]["custom"]["dependencies"]
    extras = [name for extra in tables["project"]["optional-dependencies"].values() for name in extra]
    dependencies = {re.split(r"[^\w.-]", name)[0] for name in [*own, *extras]}
    for package in packages_of(each):
        if MADE.match(package):
            continue
        folder, extra = re.fullmatch(r"([^\[]+)(?:\[(\w+)\])?", package).groups()  # type: ignore[union-attr]
        if not folder.startswith("."):
            assert folder in dependencies - {"trackd", "trackd-client"}, package
            continue
        of_folder = tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]
        assert extra is None or extra in of_folder["optional-dependencies"], package


def files_in(words: tuple[str, ...]) -> list[str]:
    """The words that name files: of the clone, of the user, or made by another command."""
    found = [re.sub(r"\[\w+\]$", "", word.rpartition("=")[2]) for word in words[1:]]
    return [word for word in found if re.fullmatch(r"[\w./*-]+", word) and ("/" in word or word.endswith(SUFFIXES))]


@pytest.mark.parametrize("each", [each for each in COMMANDS if files_in(each.words)], ids=named)
def test_a_file_of_a_command_is_in_the_clone_or_made_by_one(each: Command) -> None:
    missing = [word for word in files_in(each.words) if not MADE.match(word) and not any(ROOT.glob(word.lstrip("./")))]
    assert missing == []


@pytest.mark.parametrize("path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda path: path.name)
def test_a_configuration_names_only_files_that_make_demo_writes(path: Path) -> None:
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    dataset = (tree.get("dataset") or {}).get("test_dataset") or {}
    written = re.findall(r"^  \S.*? {2,}(demo/\S+)$", (ROOT / "docs/getting-started.md").read_text(), re.MULTILINE)
    named = [name for key in ("slp_files", "video_files", "det_files", "gt_files") for name in dataset.get(key, [])]
    assert [name for name in named if name.removeprefix("../") not in written] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_path_in_a_sentence_is_in_the_clone(path: Path) -> None:
    text = FENCED.sub("", path.read_text(encoding="utf-8"))
    new = set(re.findall(r"`([^`\s]+)`:\n\n```python", path.read_text(encoding="utf-8")))  # contributing's examples
    names = {span.rstrip("/") for span in SPAN.findall(text) if span.startswith(FOLDERS) and " " not in span}
    assert [name for name in sorted(names - new) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_indented_yaml_is_a_valid_configuration(path: Path) -> None:
    for block in blocks(path.read_text(encoding="utf-8")):
        if re.match(r"\s*(?:ckpt_path|out_dir|tracker|dataset|model|daemon|stream|limits|security):", block):
            check_config(yaml.safe_load(block))


def test_a_number_with_an_exponent_is_a_number_as_the_page_says() -> None:
    assert "`1e-3`, `1.0e-3` and `0.001` are the same number" in (ROOT / "docs/configuration.md").read_text()
    assert [parse_override(f"a={text}")[1] for text in ("1e-3", "1.0e-3", "0.001")] == [0.001] * 3


def test_the_files_of_the_unit_are_made_by_the_commands_of_the_page() -> None:
    unit = (ROOT / "deploy/systemd/trackd.service").read_text()
    made = set()
    for each in of("install"):
        *sources, last = [word for word in each.words[1:] if word.startswith(("/", "configs/", "docs/", "deploy/"))]
        if "-t" in each.words:  # the folder is named first
            folder, patterns = sources[0], [*sources[1:], last]
            made |= {f"{folder}/{path.name}" for pattern in patterns for path in ROOT.glob(pattern)}
        else:
            made.add(last)
    documentation = re.findall(r"^Documentation=file:(\S+)$", unit, re.MULTILINE)
    configuration = re.findall(r"^ExecStart=\S+ serve (\S+)$", unit, re.MULTILINE)
    assert len(documentation) == len(configuration) == 1
    assert {*documentation, *configuration} <= made


def test_an_unknown_option_and_an_unknown_command_are_found() -> None:
    for line in ("trackd serve --st a=b", "trackd frobnicate", "trackd-client watch --one", "trackd track"):
        each = command("here", line, None, is_whole=True)
        assert each is not None
        with pytest.raises(Exception, match=r"(?i)no such|missing") as caught:
            parse(PROGRAMS[each.words[0]], each.words, is_whole=True)
        assert hasattr(caught.value, "format_message"), "an error of the command line, not of this test"
