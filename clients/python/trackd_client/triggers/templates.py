"""Messages with fields in braces: `{track} entered {zone}`.

Only `{field}` with the name of a field is replaced. There are no attributes, indices, conversions or formats, so a
rules file cannot reach anything else. `{{field}}` stays as `{field}`, and every other brace stays as it is, so JSON
needs no escapes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any

from trackd_client.configuration import nearest
from trackd_client.excerpt import excerpt
from trackd_client.triggers.firing import FIELDS, Firing

_FIELD = re.compile(r"\{\{([a-z_]+)\}\}|\{([A-Za-z_][A-Za-z0-9_.!:\[\]]*)\}")
MOST_TEMPLATE = 4096  # characters


class TemplateError(ValueError):
    """A template that names an unknown field, or is too long."""


class Template:
    """A text with fields.

    Args:
        text: the template.
        but: fields that must not be used here.
        only: the fields that may be used; None: all.

    Raises:
        TemplateError: it names an unknown field, or is too long.
    """

    def __init__(self, text: str, *, but: Collection[str] = (), only: Collection[str] | None = None) -> None:
        if len(text) > MOST_TEMPLATE:
            raise TemplateError(f"should have at most {MOST_TEMPLATE} characters, and has {len(text)}")
        known = [name for name in (FIELDS if only is None else only) if name not in but]
        self._pieces: list[str] = []  # text, field, text, field, ..., text
        end, text_before = 0, ""
        for found in _FIELD.finditer(text):
            text_before += text[end : found.start()]
            end = found.end()
            if found[1] is not None:
                text_before += f"{{{found[1]}}}"
                continue
            if found[2] not in known:
                raise TemplateError(f"has an unknown field, {found[0]}: {nearest(found[2], known)}")
            self._pieces += [text_before, found[2]]
            text_before = ""
        self._pieces.append(text_before + text[end:])

    @property
    def field(self) -> str | None:
        """The field that is the whole template; None for any other."""
        return self._pieces[1] if len(self._pieces) == 3 and not self._pieces[0] and not self._pieces[2] else None

    def text(self, firing: Firing) -> str:
        """Return the text with its fields filled in; a field without a value is empty."""
        if len(self._pieces) == 1:
            return self._pieces[0]
        return "".join(
            _as_text(getattr(firing, piece)) if place % 2 else piece for place, piece in enumerate(self._pieces)
        )

    def value(self, firing: Firing) -> Any:
        """Return the value of the field that is the whole template, with its type, or else the text."""
        if self.field is None:
            return self.text(firing)
        value = getattr(firing, self.field)
        return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonTemplate:
    """A JSON value whose texts are templates; a text that is one field becomes its number.

    Args:
        tree: maps, lists, texts, numbers, true, false and null.

    Raises:
        TemplateError: a text in it is no template, or a value is no JSON.
    """

    def __init__(self, tree: Any) -> None:
        self._tree = _compiled(tree)

    def text(self, firing: Firing) -> str:
        """Return the JSON with its fields filled in, on one line."""
        return json.dumps(_filled(self._tree, firing), separators=(",", ":"), ensure_ascii=False)


def as_map(firing: Firing) -> dict[str, Any]:
    """Return the fields that have a value, for JSON."""
    values = ((name, getattr(firing, name)) for name in FIELDS)
    return {
        name: value
        for name, value in values
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def _compiled(tree: Any, depth: int = 8) -> Any:
    if depth == 0:
        raise TemplateError("should be nested at most 8 deep")
    if isinstance(tree, str):
        return Template(tree)
    if isinstance(tree, dict):
        return {str(key): _compiled(value, depth - 1) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_compiled(value, depth - 1) for value in tree]
    if tree is None or isinstance(tree, bool | int) or (isinstance(tree, float) and math.isfinite(tree)):
        return tree
    raise TemplateError(f"should hold JSON's values only; got {excerpt(tree)}")


def _filled(tree: Any, firing: Firing) -> Any:
    if isinstance(tree, Template):
        return tree.value(firing)
    if isinstance(tree, dict):
        return {key: _filled(value, firing) for key, value in tree.items()}
    return [_filled(value, firing) for value in tree] if isinstance(tree, list) else tree


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".") if math.isfinite(value) else ""
    return str(value)
