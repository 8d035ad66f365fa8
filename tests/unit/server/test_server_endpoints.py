"""Which addresses may be bound: none beyond loopback without keys or a token, unless the configuration asks for it."""

from __future__ import annotations

from typing import Any

import pytest

from trackd.config import check_config
from trackd.server.access.endpoints import check_addresses, is_loopback, make_folder
from trackd_client.configuration import ConfigError

CURVE = {"curve": True, "server_secret_key_file": "s", "authorized_clients_dir": "c"}


def check(endpoint: str, security: dict[str, Any], http: str | None = None) -> None:
    check_addresses(check_config({"daemon": {"endpoints": {"control": endpoint}, "http": http}, "security": security}))


@pytest.mark.parametrize(
    ("endpoint", "security", "text"),
    [
        ("tcp://0.0.0.0:1", {}, "loopback"),
        ("tcp://*:1", {}, "loopback"),
        ("tcp://192.0.2.1:1", {}, "loopback"),
        ("ipc://@name", {}, "abstract"),
        ("inproc://x", CURVE, "inproc has no keys"),
        ("ipc://*", CURVE, "needs a path"),
    ],
)
def test_an_address_that_would_admit_anybody_is_refused_and_named(endpoint, security, text):
    with pytest.raises(ConfigError, match=r"daemon\.endpoints\.control") as caught:
        check(endpoint, security)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "security"),
    [
        ("tcp://127.0.0.1:*", {}),
        ("tcp://[::1]:1", {}),
        ("ipc:///run/x", {}),
        ("inproc://x", {}),
        ("tcp://0.0.0.0:1", CURVE),
        ("tcp://0.0.0.0:1", {"insecure": True}),
    ],
)
def test_loopback_and_addresses_with_keys_are_accepted(endpoint, security):
    check(endpoint, security)


def test_http_beyond_loopback_needs_a_token_or_an_insecure_configuration():
    for address in ("0.0.0.0:1", "nonsense", ":1", "127.0.0.1:70000", "127.0.0.1:x"):
        with pytest.raises(ConfigError, match=r"daemon\.http"):
            check("inproc://x", {}, address)
    for security in ({"http_token_file": "t"}, {"insecure": True}):
        check("inproc://x", security, "0.0.0.0:1")


def test_the_folder_of_an_ipc_socket_must_belong_to_its_user_alone(tmp_path):
    config = check_config({})
    make_folder("ingest", f"ipc://{tmp_path}/a/b/ingest", config)
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "a/b").chmod(0o750)
    with pytest.raises(ConfigError, match="mode 0700; got 0750"):
        make_folder("ingest", f"ipc://{tmp_path}/a/b/ingest", config)


@pytest.mark.parametrize(("host", "loopback"), [("localhost", True), ("127.9.9.9", True), ("::1", True), ("*", False)])
def test_a_host_is_loopback_by_its_address(host, loopback):
    assert is_loopback(host) is loopback
