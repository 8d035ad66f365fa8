"""`mqtt`: a publication for each firing, by paho-mqtt."""

from __future__ import annotations

from pathlib import Path

from trackd_client.actions.action import Action, ActionFailed, Text, optional
from trackd_client.actions.settings import MqttAction, host_and_port
from trackd_client.configuration import ConfigError
from trackd_client.triggers.firing import Firing
from trackd_client.triggers.templates import Template

_KEEP_ALIVE_S = 15


class Mqtt(Action):
    """Publishes the text. The library connects, and connects again, on a thread of its own."""

    def __init__(self, settings: MqttAction) -> None:
        paho = optional("paho.mqtt.client", "mqtt")
        self._settings = settings
        self._text = Text(settings)
        self._topic = Template(settings.topic)
        self._client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        if settings.username is not None:
            self._client.username_pw_set(settings.username, _password(settings.password_file))
        self._client.reconnect_delay_set(1, 5)
        self._client.max_queued_messages_set(settings.queue)
        self._client.connect_async(*host_and_port(settings.broker), keepalive=_KEEP_ALIVE_S)
        self._client.loop_start()

    def send(self, firing: Firing) -> None:
        """Publish, and wait until the message is written, or acknowledged for a qos above 0."""
        settings = self._settings
        info = self._client.publish(
            self._topic.text(firing), self._text(firing), qos=settings.qos, retain=settings.retain
        )
        try:
            info.wait_for_publish(settings.timeout_s)
        except (RuntimeError, ValueError) as error:
            raise ActionFailed(f"the broker at {settings.broker} is not connected: {error}") from None
        if not info.is_published():
            raise ActionFailed(f"the broker at {settings.broker} did not take it within {settings.timeout_s:g} s")

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()


def _password(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"password_file: {path} cannot be read: {error}") from None
