"""`udp` and `osc`: one datagram for each firing, sent at once by the receiving thread."""

from __future__ import annotations

import re
import socket
from typing import Any

from trackd_client.actions.action import Action, ActionFailed, Text, optional
from trackd_client.actions.settings import OscAction, UdpAction, host_and_port
from trackd_client.errors import TrackdError
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.templates import Template

_INT32 = 2**31
_NOT_IN_OSC = re.compile(r"[\s#*,?\[\]{}]")  # has a meaning in addresses, or none


class Datagrams:
    """A UDP socket that never waits.

    Args:
        to: `host:port`; the host is looked up once.

    Raises:
        TrackdError: the host has no address.
    """

    def __init__(self, to: str) -> None:
        host, port = host_and_port(to)
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        except OSError as error:
            raise TrackdError(f"{to}: the host has no address: {error}") from None
        # It is not connected: a receiver that is not there yet would make every second send fail.
        self._socket = socket.socket(found[0], socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._to = found[4]

    def send(self, data: bytes) -> None:
        """Send a datagram.

        Raises:
            ActionFailed: the system's buffer is full.
        """
        try:
            self._socket.sendto(data, self._to)
        except BlockingIOError:
            raise ActionFailed("the system's send buffer is full") from None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class Udp(Action):
    """Sends the text as a datagram."""

    is_immediate = True

    def __init__(self, settings: UdpAction) -> None:
        self._text = Text(settings)
        self._datagrams = Datagrams(settings.to)

    def send(self, firing: Firing) -> None:
        """Send a datagram."""
        self._datagrams.send(self._text(firing).encode())

    def close(self) -> None:
        """Close the socket."""
        self._datagrams.close()


class Osc(Action):
    """Sends an OSC message; numbers stay numbers."""

    is_immediate = True

    def __init__(self, settings: OscAction) -> None:
        self._builder = optional("pythonosc.osc_message_builder", "osc").OscMessageBuilder
        self._address = Template(settings.address)
        self._args = [Template(arg) if isinstance(arg, str) else arg for arg in settings.args]
        self._datagrams = Datagrams(settings.to)

    def send(self, firing: Firing) -> None:
        """Send an OSC message. A field without a value is nil."""
        message = self._builder(_NOT_IN_OSC.sub("_", self._address.text(firing)))
        for arg in self._args:
            value = arg.value(firing) if isinstance(arg, Template) else arg
            message.add_arg(value, _osc_type(value))
        self._datagrams.send(message.build().dgram)

    def close(self) -> None:
        """Close the socket."""
        self._datagrams.close()


def _osc_type(value: Any) -> str:
    """Return the type tag. The library would send an integer from 2**31 on as one of 32 bits."""
    if value is None:
        return "N"
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, int):
        return "i" if -_INT32 <= value < _INT32 else "h"
    return "f" if isinstance(value, float) else "s"
