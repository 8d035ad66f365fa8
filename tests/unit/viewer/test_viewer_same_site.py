"""Which web pages may open the viewer's socket."""

from __future__ import annotations

import pytest

from trackd.viewer.same_site import refusal


@pytest.mark.parametrize(
    "host", ["127.0.0.1:9570", "localhost:9570", "LOCALHOST:9570", "[::1]:9570", "127.8.9.1:9570", "localhost"]
)
def test_a_page_that_the_daemon_has_served_on_loopback_may(host):
    assert refusal(host, f"http://{host}", "127.0.0.1") is None


def test_a_page_behind_a_proxy_with_tls_may_under_a_name_of_the_configuration():
    assert refusal("rig.example", "https://rig.example", "127.0.0.1", ["Rig.Example"]) is None
    assert refusal("rig.example", "https://rig.example", "127.0.0.1") is not None


def test_the_address_at_which_the_connection_arrived_is_a_name_of_the_daemon():
    assert refusal("192.168.1.5:9570", "http://192.168.1.5:9570", "192.168.1.5") is None
    assert refusal("192.168.1.6:9570", "http://192.168.1.6:9570", "192.168.1.5") is not None


@pytest.mark.parametrize(
    "origin",
    [
        None, "", "null", "http://evil.example", "http://127.0.0.1:9571", "http://127.0.0.1", "file://",
        "http://127.0.0.1:9570.evil.example", "http://evil.example/127.0.0.1:9570", "ftp://127.0.0.1:9570",
        "http://evil@127.0.0.1:9570", "http://127.0.0.1:9570/",
    ],
)  # fmt: skip
def test_a_page_of_another_site_may_not(origin):
    assert refusal("127.0.0.1:9570", origin, "127.0.0.1") is not None


@pytest.mark.parametrize(
    "host",
    [
        None, "", "evil.example:9570", "127.0.0.1.evil.example:9570", "localhost.evil.example", "evil@127.0.0.1:9570",
        "evil.example/@127.0.0.1", "127.0.0.1:port", "[::1", "a b", "0x7f.1:9570",
    ],
)  # fmt: skip
def test_a_name_that_was_made_to_resolve_to_this_machine_is_refused(host):
    assert refusal(host, f"http://{host}", "127.0.0.1") is not None
