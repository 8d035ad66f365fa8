"""The `actions` of a rules file: every key, its range and its error text."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from trackd_client.configuration import ConfigError, Section, nearest, validate
from trackd_client.excerpt import yaml_excerpt
from trackd_client.triggers.templates import JsonTemplate, Template, TemplateError

MOST_ACTIONS = 64
# Fields that may be part of a topic or an address: names of tracks are free text.
IN_ADDRESS = ("stream", "rule", "when", "track", "other", "zone", "line", "direction")

DEFAULT_ARGS: list[str | int | float | bool] = ["{stream}", "{track}", "{frame_index}", "{x}", "{y}", "{value}"]
Timeout = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]


class ActionSettings(Section):
    """The keys of every action."""

    kind: str
    queue: Annotated[int, Field(ge=1, le=65_536)] = 256  # messages that wait for a slow receiver; more are not sent


class MessageAction(ActionSettings):
    """An action that sends a text: a template, or JSON whose texts are templates."""

    message: str | None = None
    json_: Any = Field(default=None, validation_alias="json")

    @field_validator("message")
    @classmethod
    def _is_template(cls, text: str | None) -> str | None:
        return text if text is None else _template(text)

    @field_validator("json_")
    @classmethod
    def _is_json(cls, tree: Any) -> Any:
        try:
            JsonTemplate(tree)
        except TemplateError as error:
            raise ValueError(str(error)) from None
        return tree

    @model_validator(mode="after")
    def _has_one_text(self) -> MessageAction:
        if self.message is not None and self.json_ is not None:
            raise ValueError("message and json exclude each other; give one of them")
        return self


def host_and_port(text: str) -> tuple[str, int]:
    """Return the two parts of `host:port` or `[address]:port`.

    Raises:
        ValueError: the text is neither.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
        raise ValueError('should be a host and a port from 1 to 65535, such as "127.0.0.1:9000"')
    return host, int(port)


def _address(text: str) -> str:
    host_and_port(text)
    return text


class UdpAction(MessageAction):
    """A UDP datagram."""

    kind: Literal["udp"]
    to: str

    _to = field_validator("to")(_address)


class OscAction(ActionSettings):
    """An OSC message over UDP."""

    kind: Literal["osc"]
    to: str
    address: str = "/trackd/{rule}"
    args: list[str | int | float | bool] = Field(default=DEFAULT_ARGS)

    _to = field_validator("to")(_address)

    @field_validator("address")
    @classmethod
    def _is_address(cls, text: str) -> str:
        if not text.startswith("/"):
            raise ValueError('should begin with a slash, such as "/trackd/{rule}"')
        return _template(text, only=IN_ADDRESS)

    @field_validator("args")
    @classmethod
    def _are_templates(cls, args: list[str | int | float | bool]) -> list[str | int | float | bool]:
        for arg in args:
            if isinstance(arg, str):
                _template(arg)
        return args


class HttpAction(MessageAction):
    """An HTTP request."""

    kind: Literal["http"]
    url: str
    method: Literal["POST", "PUT"] = "POST"
    headers: dict[str, str] = Field(default={})
    timeout_s: Timeout = 2.0

    @field_validator("url")
    @classmethod
    def _is_http(cls, text: str) -> str:
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError('should be an address such as "http://127.0.0.1:8000/hook"')
        return text


class MqttAction(MessageAction):
    """An MQTT publication."""

    kind: Literal["mqtt"]
    broker: str
    topic: str = "trackd/{stream}/{rule}"
    qos: Literal[0, 1, 2] = 0
    retain: bool = False
    username: str | None = None
    password_file: str | None = None
    timeout_s: Timeout = 5.0

    _broker = field_validator("broker")(_address)

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, text: str) -> str:
        if not text or "+" in text or "#" in text:
            raise ValueError("should be a topic without the wildcards + and #")
        return _template(text, only=IN_ADDRESS)


class SerialAction(MessageAction):
    """Bytes on a serial line."""

    kind: Literal["serial"]
    port: str = Field(min_length=1)
    baud: Annotated[int, Field(ge=50, le=10_000_000)] = 115_200
    timeout_s: Timeout = 1.0
    newline: bool = True  # end each message with a line feed


class ZmqAction(MessageAction):
    """A ZeroMQ message: `[topic, message]` of PUB, `[message]` of PUSH."""

    kind: Literal["zmq"]
    endpoint: str
    socket: Literal["pub", "push"] = "pub"
    bind: bool = False
    topic: str = "{rule}"

    @field_validator("endpoint")
    @classmethod
    def _is_endpoint(cls, text: str) -> str:
        if not text.startswith(("tcp://", "ipc://")):
            raise ValueError('should be an endpoint such as "tcp://127.0.0.1:5600"')
        return text

    @field_validator("topic")
    @classmethod
    def _is_topic(cls, text: str) -> str:
        return _template(text, only=IN_ADDRESS)


class CommandAction(ActionSettings):
    """A program with a list of arguments; no shell reads them."""

    kind: Literal["command"]
    args: list[str] = Field(min_length=1)
    timeout_s: Timeout = 10.0

    @field_validator("args")
    @classmethod
    def _is_a_program(cls, args: list[str]) -> list[str]:
        if shutil.which(args[0]) is None:
            raise ValueError(f"should begin with a program; {args[0]!r} is none that can be run")
        for arg in args[1:]:
            _template(arg)
        return args


class PrintAction(MessageAction):
    """A line on standard output."""

    kind: Literal["print"]


_KINDS: tuple[type[ActionSettings], ...] = (
    UdpAction, OscAction, HttpAction, MqttAction, SerialAction, ZmqAction, CommandAction, PrintAction,
)  # fmt: skip
MODELS: dict[str, type[ActionSettings]] = {
    kind.model_fields["kind"].annotation.__args__[0]: kind  # type: ignore[union-attr]
    for kind in _KINDS
}


def read_actions(tree: Mapping[str, Any]) -> dict[str, ActionSettings]:
    """Return the actions of a rules file by name.

    Raises:
        ConfigError: one line about the first error.
    """
    section = tree.get("actions")
    if not isinstance(section, dict) or not section:
        raise ConfigError(
            f"actions should be a section, such as {{show: {{kind: print}}}}; got {yaml_excerpt(section)}"
        )
    if len(section) > MOST_ACTIONS:
        raise ConfigError(f"actions should have at most {MOST_ACTIONS} actions; got {len(section)}")
    return {name: _action(name, action) for name, action in section.items()}


def _action(name: Any, tree: Any) -> ActionSettings:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"actions should have names; got {yaml_excerpt(name)}")
    if not isinstance(tree, dict):
        raise ConfigError(f"actions.{name} should be a section, such as {{kind: print}}; got {yaml_excerpt(tree)}")
    if "kind" not in tree:
        raise ConfigError(f"actions.{name}.kind: is required; known: {', '.join(sorted(MODELS))}")
    kind = tree["kind"]
    if not isinstance(kind, str) or kind not in MODELS:
        raise ConfigError(f"actions.{name}.kind: unknown; {nearest(str(kind), MODELS)}; got {yaml_excerpt(kind)}")
    return validate(MODELS[kind], tree, f"actions.{name}")


def _template(text: str, only: tuple[str, ...] | None = None) -> str:
    try:
        Template(text, only=only)
    except TemplateError as error:
        raise ValueError(str(error)) from None
    return text
