"""`http`: a request for each firing."""

from __future__ import annotations

import urllib.error
import urllib.request

from trackd_client.actions.action import Action, ActionFailed, Text
from trackd_client.actions.settings import HttpAction
from trackd_client.triggers.firing import Firing

_MOST_ANSWER = 65_536  # bytes that are read of an answer


class Http(Action):
    """Sends the text as the body of a POST or PUT request."""

    def __init__(self, settings: HttpAction) -> None:
        self._settings = settings
        self._text = Text(settings)
        kind = "application/json" if settings.message is None else "text/plain; charset=utf-8"
        self._headers = {"Content-Type": kind, **settings.headers}

    def send(self, firing: Firing) -> None:
        """Send a request and wait for its answer."""
        settings = self._settings
        request = urllib.request.Request(
            settings.url, self._text(firing).encode(), self._headers, method=settings.method
        )
        try:
            with urllib.request.urlopen(request, timeout=settings.timeout_s) as answer:
                answer.read(_MOST_ANSWER)
        except urllib.error.HTTPError as error:
            error.close()
            raise ActionFailed(f"the server answers {error.code} {error.reason}") from None
