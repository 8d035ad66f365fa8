"""The kinds of actions: a new one is a file, its settings, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trackd_client.actions.action import Action
from trackd_client.actions.command import Command, Print
from trackd_client.actions.datagrams import Osc, Udp
from trackd_client.actions.http import Http
from trackd_client.actions.mqtt import Mqtt
from trackd_client.actions.serial_line import SerialLine
from trackd_client.actions.settings import ActionSettings
from trackd_client.actions.zeromq import Zmq
from trackd_client.errors import TrackdError

ACTIONS: dict[str, Callable[[Any], Action]] = {
    "udp": Udp,
    "osc": Osc,
    "http": Http,
    "mqtt": Mqtt,
    "serial": SerialLine,
    "zmq": Zmq,
    "command": Command,
    "print": Print,
}


def open_action(name: str, settings: ActionSettings) -> Action:
    """Open an action's connection.

    Raises:
        TrackdError: it cannot be opened, or a package is not installed.
    """
    try:
        return ACTIONS[settings.kind](settings)
    except OSError as error:
        raise TrackdError(f"actions.{name}: cannot be opened: {error}") from None
    except TrackdError as error:
        raise TrackdError(f"actions.{name}: {error.message}") from None
