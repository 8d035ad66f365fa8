"""Which web pages may open the viewer's socket: only those that this daemon has served itself.

A browser lets every web page open a WebSocket to any address, loopback included. It sends the page's own address in
`Origin`, and a page cannot change it. A page under a name that was made to resolve to this machine (DNS rebinding) has
the same `Origin` and `Host`, so `Host` must be one of the daemon's own names too.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit


def refusal(host: str | None, origin: str | None, bound: str, names: Iterable[str] = ()) -> str | None:
    """Return why a request must be refused; None where it may be answered.

    Args:
        host: the `Host` header.
        origin: the `Origin` header.
        bound: the address of this machine at which the connection arrived.
        names: further names of this machine, `viewer.hosts`.
    """
    if not host or not origin:
        return "a Host and an Origin header are needed"
    name = _name(host)
    if name is None or not (name in {"localhost", bound, *(known.lower() for known in names)} or _is_loopback(name)):
        return f"Host is {host[:100]!r}, which is no name of this daemon; viewer.hosts lists further ones"
    if origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        return f"Origin is {origin[:100]!r}, which is not the page of Host {host[:100]!r}"
    return None


def _name(host: str) -> str | None:
    """Return the name or address in a `Host` header, without its port."""
    if any(character in host for character in "/@?#\\ "):
        return None
    try:
        parts = urlsplit(f"//{host}")
        parts.port  # noqa: B018 (raises where it is no port)
    except ValueError:
        return None
    return parts.hostname


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
