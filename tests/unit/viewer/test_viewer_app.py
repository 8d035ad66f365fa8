"""The viewer's files, and who may open it."""

from __future__ import annotations

import asyncio

import pytest

from trackd.config import ViewerConfig, check_config
from trackd.observe.token import TokenGuard
from trackd.server.access.viewer import admission
from trackd.viewer.app import page_address, static_files, viewer_routes
from trackd.viewer.hub import Hub
from trackd.viewer.page import Admission
from trackd_client.configuration import ConfigError

TOKEN = "a-token-of-the-tests"


def answer(app, path: str, kind: str = "http", headers: tuple = ()) -> tuple[int | None, dict[str, str], bytes]:
    """Return status, headers and body of an ASGI application's answer to one GET."""
    sent: list[dict] = []

    async def receive() -> dict:
        return {"type": f"{kind}.connect" if kind == "websocket" else "http.request"}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": kind, "path": path, "raw_path": path.encode(), "method": "GET", "headers": list(headers),
        "query_string": b"", "root_path": "", "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent)
    found = {name.decode(): value.decode() for name, value in start.get("headers", ())}
    return start.get("status"), found, body


def viewer():
    from starlette.applications import Starlette

    return Starlette(routes=viewer_routes(ViewerConfig(), Hub(), Admission(TOKEN, False, False)))


def test_the_page_and_its_files_have_the_headers_of_a_strict_page():
    for path in ("/", "/static/index.html"):
        status, headers, body = answer(viewer(), path)
        assert status == 200
        assert body.startswith(b"<!doctype html>")
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["cache-control"] == "no-cache"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "unsafe" not in headers["content-security-policy"]
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["../app.py", "..", "", "index.html/", "/etc/passwd", "nothing.js", "../static/index.html"]
)
def test_a_name_that_is_no_file_of_the_page_is_not_found(name):
    assert answer(viewer(), f"/static/{name}")[0] == 404


def test_the_address_of_the_page_is_one_that_a_browser_on_this_machine_can_open():
    assert page_address("127.0.0.1:9570") == "http://127.0.0.1:9570/"
    assert page_address("0.0.0.0:80") == "http://127.0.0.1:80/"
    assert page_address("[::]:80") == "http://[::1]:80/"
    assert page_address("192.168.1.5:80") == "http://192.168.1.5:80/"


def test_every_file_of_the_page_has_a_media_type():
    files = static_files()
    assert "index.html" in files
    assert all(content and media_type != "application/octet-stream" for content, media_type in files.values())


@pytest.mark.parametrize(("path", "is_open"), [("/", True), ("/static/index.html", True), ("/metrics", False)])
def test_with_a_token_the_files_of_the_page_need_none_and_other_paths_do(path, is_open):
    assert (answer(TokenGuard(viewer(), TOKEN), path)[0] == 401) is not is_open


def test_with_a_token_the_guard_leaves_the_socket_of_the_viewer_to_its_first_message_and_closes_others():
    guard = TokenGuard(viewer(), TOKEN)
    assert answer(guard, "/viewer/socket", "websocket")[0] == 403  # by its Host and Origin
    assert answer(guard, "/other", "websocket")[0] is None


def test_where_a_token_is_configured_a_page_needs_it_to_read_and_may_act_with_it():
    rule = Admission(TOKEN, True, True)
    assert rule.control(TOKEN)
    for wrong in (None, "", TOKEN + "x", TOKEN[:-1], "ä", "\udc80"):
        with pytest.raises(PermissionError, match="token"):
            rule.control(wrong)


def of(**changes) -> Admission:
    return admission(check_config(changes), None)


def test_without_a_token_a_page_may_act_where_every_local_user_may():
    assert of() == Admission(None, True, True)
    assert of(daemon={"http": "[::1]:9570"}).acts


def test_without_a_token_a_page_on_another_address_may_only_read():
    assert of(daemon={"http": "0.0.0.0:9570"}, security={"insecure": True}) == Admission(None, True, False)


def test_without_a_token_a_page_gives_no_more_than_the_sockets_do():
    secured = {"curve": True, "server_secret_key_file": "f", "authorized_clients_dir": "d"}
    assert of(security=secured) == Admission(None, False, False)
    sockets = {"tracks": "ipc:///run/t/tracks", "control": "ipc:///run/t/control"}
    assert of(daemon={"endpoints": sockets}) == Admission(None, False, False)
    assert of(daemon={"endpoints": {"control": "ipc:///run/t/control"}}) == Admission(None, True, False)
    with pytest.raises(PermissionError, match="http_token_file"):
        Admission(None, False, False).control(None)


@pytest.mark.parametrize("host", ["rig.example:80", "http://rig", "", 5, "a b"])
def test_a_host_of_the_configuration_is_a_name_without_a_port(host):
    with pytest.raises(ConfigError, match="host"):
        check_config({"viewer": {"hosts": [host]}})
