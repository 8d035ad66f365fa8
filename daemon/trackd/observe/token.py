"""The bearer token of HTTP requests, from the file that `security.http_token_file` names."""

from __future__ import annotations

import hmac
from pathlib import Path

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trackd.config import SecurityConfig, at
from trackd_client.configuration import ConfigError
from trackd_client.transport.curve import KeyFileError, check_private

# Not every probe can send a token. Without one these paths answer with their status code alone, which is one bit.
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
# The files of the viewer hold no data. A browser cannot send a token with a socket; its first message holds it.
VIEWER_SOCKET = "/viewer/socket"
_VIEWER_FILES = "/static/"
_MIN_CHARACTERS = 16
_MAX_FILE_BYTES = 4096


def read_token(config: SecurityConfig, base: Path | None = None) -> str | None:
    """Read the token that the configuration names; None where it names none.

    Raises:
        ConfigError: the file cannot be read, other users can read it, or it holds no valid token.
    """
    if config.http_token_file is None:
        return None
    path = at(config.http_token_file, base)
    try:
        check_private(path)
        with path.open("rb") as file:
            token = file.read(_MAX_FILE_BYTES).decode().strip()
    except (KeyFileError, OSError) as error:
        raise ConfigError(f"security.http_token_file: {error}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"security.http_token_file: {path}: a token must be text") from None
    if len(token) < _MIN_CHARACTERS or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"security.http_token_file: {path}: a token must be {_MIN_CHARACTERS} ASCII characters or more, "
            f"without blanks; got {len(token)}"
        )
    return token


class TokenGuard:
    """Passes on requests with the token. The others get the status code of the health paths, and nothing else.

    Each path that the application serves is behind it, also one that is added later. The viewer's socket checks the
    token itself.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on one request, or refuse it."""
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if hmac.compare_digest(given, self._expected) or _is_viewers(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, _without_body(send))
        elif scope["type"] == "http":
            refusal = JSONResponse({"error": "a bearer token is needed"}, 401, {"WWW-Authenticate": "Bearer"})
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


def _is_viewers(scope: Scope) -> bool:
    path: str = scope["path"]
    if scope["type"] == "websocket":
        return path == VIEWER_SOCKET
    return scope["type"] == "http" and (path == "/" or path.startswith(_VIEWER_FILES))


def _without_body(send: Send) -> Send:
    """Remove the body, which holds the reason of a fault: only clients with the token get it."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [(b"content-length", b"0")]}
        elif message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return sent
