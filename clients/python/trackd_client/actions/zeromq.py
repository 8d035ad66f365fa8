"""`zmq`: a message on a PUB or PUSH socket, sent at once by the receiving thread."""

from __future__ import annotations

from trackd_client.actions.action import Action, ActionFailed, Text
from trackd_client.actions.settings import ZmqAction
from trackd_client.transport.sending_socket import SendingSocket
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.templates import Template


class Zmq(Action):
    """Sends the text; PUB puts the topic before it."""

    is_immediate = True

    def __init__(self, settings: ZmqAction) -> None:
        self._text = Text(settings)
        self._topic = Template(settings.topic) if settings.socket == "pub" else None
        self._socket = SendingSocket(settings.endpoint, settings.socket, bind=settings.bind, queue=settings.queue)

    def send(self, firing: Firing) -> None:
        """Queue a message in ZeroMQ."""
        text = self._text(firing).encode()
        parts = [text] if self._topic is None else [self._topic.text(firing).encode(), text]
        if not self._socket.send(parts):
            raise ActionFailed("no receiver is connected, or its queue is full")

    def close(self) -> None:
        """Close the socket; queued messages may be sent for some more time."""
        self._socket.close()
