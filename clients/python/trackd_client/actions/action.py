"""The contract of an action, and its text."""

from __future__ import annotations

import importlib
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from trackd_client.actions.settings import MessageAction
from trackd_client.errors import TrackdError
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.templates import JsonTemplate, Template, as_map


class ActionFailed(Exception):  # noqa: N818
    """A message could not be sent. The text is one line."""


class Action(ABC):
    """Sends firings to one receiver.

    `send` is called by one thread: by the receiving thread if `is_immediate`, else by a thread of its own.
    """

    is_immediate: ClassVar[bool] = False  # `send` never waits

    @abstractmethod
    def send(self, firing: Firing) -> None:
        """Send a firing.

        Raises:
            ActionFailed: it was not sent.
            OSError: the same.
        """

    def close(self) -> None:  # noqa: B027 (most have nothing to close)
        """Release the connection."""


class Text:
    """The text of an action: its own template, or the message of the rule, or all fields as JSON."""

    def __init__(self, settings: MessageAction) -> None:
        self._template: Template | JsonTemplate | None = None
        if settings.json_ is not None:
            self._template = JsonTemplate(settings.json_)
        elif settings.message is not None:
            self._template = Template(settings.message)

    def __call__(self, firing: Firing) -> str:
        """Return the text of a firing."""
        if self._template is not None:
            return self._template.text(firing)
        if firing.message is not None:
            return firing.message
        return json.dumps(as_map(firing), separators=(",", ":"), ensure_ascii=False)


def optional(module: str, extra: str) -> Any:
    """Import a module that an extra of the client installs.

    Raises:
        TrackdError: it is not installed; the text names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise TrackdError(
            f"{error.name} is not installed; the extra {extra} has it: pip install 'trackd-client[{extra}]'"
        ) from None
