"""YAML configuration: load, override, check, and report errors.

The daemon and the client read the same files: DREEM's inference YAML with additional sections of trackd. This module
holds the shared code: `Section`, the base of every configuration model, and the functions that turn a file, `--set`
overrides and `TRACKD__A__B` variables into one checked value or into one line of error text.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from trackd_client.excerpt import yaml_excerpt

ENVIRONMENT_PREFIX = "TRACKD__"
MAX_FILE_BYTES = 4 * 1024 * 1024
MOST_SHOWN = 80  # characters of a value in an error text
_LONGEST_WORD = 64  # compared with known words; the time grows with its length

S = TypeVar("S", bound="Section")
Tree = dict[str, Any]


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but `1e-3` is a number and `None` is null, as users of DREEM write them.

    YAML 1.1 requires a dot in `1.0e-3`, and only knows `null`, `~` and an empty value.
    """


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"None$"), ["N"])


class ConfigError(ValueError):
    """An invalid configuration. Its text is one line that states what would be right."""


class Section(BaseModel):
    """Base of the configuration models: frozen, strict about types, closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)


def load_yaml(path: str | Path) -> Tree:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, unreadable, too large, not YAML, or not a mapping.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ConfigError(f"{path}: a configuration file has at most {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        tree = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {_yaml_reason(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: must hold sections, such as tracker: {{max_tracks: 5}}; got {yaml_excerpt(tree, MOST_SHOWN)}"
        )
    return tree


def _yaml_reason(error: Exception) -> str:
    """Say where a text is not YAML, and why: the parser's own text quotes the line and Python's name of the input."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or not problem:
        return "its values lie too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
    context = getattr(error, "context", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {f'{context}: ' if context else ''}{problem}"


def find_path(path: str, key: str, base: Path | None = None, kind: str = "file") -> Path:
    """Return the existing file or folder that a path in a configuration names.

    An absolute path is used as it is. A relative path is tried below `base`, the working directory and
    `$TRACKD_SHARED`, in this order.

    Args:
        path: the path as written in the configuration.
        key: the key of the path, for the error text.
        base: the folder of the configuration file, if there is one.
        kind: "file" or "folder", for the error text.

    Raises:
        ConfigError: nothing of that name exists; the text lists the folders that were searched.
    """
    shared = os.environ.get("TRACKD_SHARED")
    folders = [*([base] if base else []), Path.cwd(), *([Path(shared)] if shared else [])]
    wanted = Path(path).expanduser()
    for folder in folders:
        if (folder / wanted).exists():  # an absolute `wanted` replaces the folder
            return folder / wanted
    tried = "" if wanted.is_absolute() else f" in {', '.join(str(folder) for folder in folders)}"
    raise ConfigError(f"{key}: no such {kind}: {path}{tried}")


def parse_override(text: str) -> tuple[list[str], Any]:
    """Split `a.b.c=value` into its key path and its YAML-parsed value."""
    keys, separator, value = text.partition("=")
    path = keys.strip().split(".")
    if not separator or not all(path):
        raise ConfigError(f"--set takes a.b.c=value; got {text!r}")
    try:
        return path, yaml.load(value, Loader=_Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--set {keys}: value is not valid YAML: {value!r}") from None


def environment_overrides(environment: Mapping[str, str]) -> list[str]:
    """Return `TRACKD__A__B=value` variables as `a.b=value` overrides, in the order of their names."""
    return [
        f"{name[len(ENVIRONMENT_PREFIX) :].lower().replace('__', '.')}={environment[name]}"
        for name in sorted(environment)
        if name.startswith(ENVIRONMENT_PREFIX)
    ]


def with_overrides(tree: Tree, overrides: Iterable[str]) -> Tree:
    """Return a copy of `tree` with each `a.b.c=value` set. Missing sections are created."""
    for text in overrides:
        path, value = parse_override(text)
        tree = _set(tree, path, value, text)
    return tree


def _set(tree: Any, path: list[str], value: Any, text: str) -> Tree:
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"--set {text}: {path[0]!r} lies below a value that is not a section")
    head, *rest = path
    return {**tree, head: _set(tree.get(head), rest, value, text) if rest else value}


def validate(model: type[S], tree: Any, where: str = "") -> S:
    """Return `tree` as a `model` value.

    Args:
        model: the section's model.
        tree: the content of the YAML.
        where: a key path or file name to put before the keys in error texts.

    Raises:
        ConfigError: one line about the first error: its key, what would be right, and the value found.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_error_text(model, error.errors(include_url=False)[0], where)) from None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a phrase with the known words nearest to `name`, for the end of an error text."""
    known = sorted(known)
    close = difflib.get_close_matches(name[:_LONGEST_WORD], known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(repr(word) for word in close)}?"
    return f"known: {', '.join(known)}"


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return the key names of a section, aliases included."""
    names = []
    for name, field in model.model_fields.items():
        names.append(name)
        if isinstance(field.validation_alias, str) and field.validation_alias != name:
            names.append(field.validation_alias)
    return names


# What pydantic says in Python's words, by the type of the error.
_PLAIN = {
    "list_type": "should be a list, such as [a, b]",
    "string_type": "should be a text",
    "invalid_key": "has a key that is not a text",
    "string_too_short": "should not be empty",
    "too_short": "should not be empty",
}
# pydantic's names of the alternatives of a value, which it puts between the keys.
_ALTERNATIVES = re.compile(r"(function-|list\[|literal\[).*|str|int|float|bool")
_SECTION_ERRORS = ("model_type", "dict_type", "model_attributes_type")


def _error_text(model: type[BaseModel], detail: ErrorDetails, where: str) -> str:
    keys = [str(key) for key in detail["loc"] if not _ALTERNATIVES.fullmatch(str(key))]
    if detail["type"] == "invalid_key":  # its place ends with the key and a mark of pydantic
        keys = [str(key) for key in detail["loc"][:-2]]
    path = ".".join([where, *keys] if where else keys)
    value = detail["input"]
    if not path and detail["type"] == "invalid_key":
        path = "the file"
    if detail["type"] == "extra_forbidden":
        owner = _model_at(model, detail["loc"][:-1])
        return f"{path}: unknown key; {nearest(keys[-1], known_keys(owner))}"
    if detail["type"] == "missing":
        return f"{path}: is required"
    if detail["type"] in _SECTION_ERRORS:
        message = f"should be a section, such as {_example(_model_at(model, detail['loc']))}"
    elif detail["type"] in _PLAIN:
        message = _PLAIN[detail["type"]]
    else:
        message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
        message = message[:1].lower() + message[1:]
    if detail["type"] == "value_error" and isinstance(value, dict | BaseModel):
        return f"{path}: {message}" if path else message  # it names the keys of the section that do not fit
    shown = yaml_excerpt(value, MOST_SHOWN)
    return f"{path} {message}; got {shown}" if path else f"{message}; got {shown}"


def _example(section: type[BaseModel]) -> str:
    """Return a section with its first key, as YAML."""
    name, field = next(iter(section.model_fields.items()))
    default = field.get_default(call_default_factory=True)
    if field.is_required() or default is None or isinstance(default, BaseModel):
        return f"{{{name}: ...}}"
    return f"{{{name}: {yaml_excerpt(default)}}}"


def _model_at(model: type[BaseModel], location: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the section at `location` below `model`, or the nearest section above it."""
    for key in location:
        field = model.model_fields.get(str(key)) or next(
            (f for f in model.model_fields.values() if f.validation_alias == key), None
        )
        if field is None:
            continue
        candidates = [field.annotation, *get_args(field.annotation)]
        for candidate in candidates:
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                model = candidate
                break
    return model
