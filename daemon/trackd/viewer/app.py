"""The viewer's part of the HTTP application: the page, its files, and its socket."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from trackd.config import ViewerConfig
from trackd.observe.token import VIEWER_SOCKET
from trackd.viewer import page, same_site
from trackd.viewer.hub import Hub
from trackd.viewer.page import Admission

_MOST_UNKNOWN = 16  # sockets that have not said hello yet; the oldest is closed for a new one
_HEADERS = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
}
_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "png": "image/png",
    "ico": "image/x-icon",
    "woff2": "font/woff2",
    "json": "application/json",
    "txt": "text/plain; charset=utf-8",
    "md": "text/plain; charset=utf-8",
}
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # a bind to all addresses is no address of a page
_OTHER_TYPE = "application/octet-stream"


def viewer_routes(config: ViewerConfig, hub: Hub, admission: Admission) -> list[BaseRoute]:
    """Return the routes of the viewer.

    Args:
        config: how many pages may be open, and under which names.
        hub: the hand-over to the daemon.
        admission: who may open it.
    """
    files = static_files()
    unknown: dict[WebSocket, None] = {}  # the sockets that have not said hello, oldest first

    def index(_: Request) -> Response:
        return _file(files, "index.html")

    def static(request: Request) -> Response:
        return _file(files, request.path_params["name"])

    async def socket(websocket: WebSocket) -> None:
        bound = str((websocket.scope.get("server") or ("",))[0])
        why = same_site.refusal(websocket.headers.get("host"), websocket.headers.get("origin"), bound, config.hosts)
        if why is not None:
            await websocket.receive()
            await websocket.send_denial_response(PlainTextResponse(why + "\n", 403))
            return
        await websocket.accept()
        if len(unknown) >= _MOST_UNKNOWN:
            oldest = next(iter(unknown))
            del unknown[oldest]
            await page.close(oldest, page.TOO_MANY, "too many sockets without hello")
        unknown[websocket] = None
        try:
            control = await page.admitted(websocket, admission)
        finally:
            unknown.pop(websocket, None)
        if control is None:
            return
        if len(hub.pages) >= config.pages:
            await page.refuse(websocket, page.TOO_MANY, f"viewer.pages allows {config.pages} open pages")
            return
        await page.serve(websocket, hub, control, config.fps)

    return [Route("/", index), Route("/static/{name:path}", static), WebSocketRoute(VIEWER_SOCKET, socket)]


def page_address(bound: str) -> str:
    """Return the page's address for a browser on this machine; `bound` is the `host:port` of the HTTP server."""
    host, _, port = bound.rpartition(":")
    return f"http://{_LOOPBACK.get(host, host)}:{port}/"


def static_files() -> dict[str, tuple[bytes, str]]:
    """Read the page's files; return their content and media type by the path below `static`."""
    files: dict[str, tuple[bytes, str]] = {}

    def read(folder: Traversable, prefix: str) -> None:
        for entry in folder.iterdir():
            if entry.is_dir():
                read(entry, f"{prefix}{entry.name}/")
            else:
                media_type = _TYPES.get(entry.name.rpartition(".")[2], _OTHER_TYPE)
                files[prefix + entry.name] = entry.read_bytes(), media_type

    read(resources.files("trackd.viewer") / "static", "")
    return files


def _file(files: dict[str, tuple[bytes, str]], name: str) -> Response:
    found = files.get(name)
    if found is None:
        return PlainTextResponse("not found\n", 404, _HEADERS)
    content, media_type = found
    return Response(content, headers={**_HEADERS, "Content-Type": media_type})
