"""`serial`: bytes on a serial line, by pyserial."""

from __future__ import annotations

from typing import Any

from trackd_client.actions.action import Action, Text, optional
from trackd_client.actions.settings import SerialAction
from trackd_client.triggers.firing import Firing


class SerialLine(Action):
    """Writes the text. The line is opened at the start, and again after an error."""

    def __init__(self, settings: SerialAction) -> None:
        self._serial = optional("serial", "serial")
        self._settings = settings
        self._text = Text(settings)
        self._line: Any = self._opened()

    def send(self, firing: Firing) -> None:
        """Write the text and wait until the system has sent it."""
        if self._line is None:
            self._line = self._opened()
        try:
            self._line.write((self._text(firing) + ("\n" if self._settings.newline else "")).encode())
            self._line.flush()
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the line."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _opened(self) -> Any:
        settings = self._settings
        return self._serial.Serial(settings.port, settings.baud, write_timeout=settings.timeout_s)
