"""What tests of the viewer's page in a browser have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from browser import Browser, Page
from daemon_process import DaemonProcess

from trackd.daemon import Daemon


@contextmanager
def opened_pages(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Give a function that opens the page of a daemon; at the end no page has had an error."""
    opened: list[Page] = []

    def open_page(daemon: DaemonProcess | Daemon, **options: Any) -> Page:
        page = browser.open(daemon.addresses["http"] + "/", **options)
        opened.append(page)
        return page

    yield open_page
    for page in opened:
        page.run("0")  # receives what the browser has still to report
        page.close()
    assert [fault for page in opened for fault in page.faults] == []


def shows(page: Page, stream: str, timeout_s: float = 40.0) -> dict[str, Any]:
    """Wait until a stream's picture is drawn."""
    selected = f"document.querySelector('[aria-current] .tile-name')?.textContent === {json.dumps(stream)}"
    page.wait("(window.trackdViewer?.state.seq ?? -1) >= 0", timeout_s)
    if page.state["stream"] != stream:
        page.run(f"[...document.querySelectorAll('.tile')].find(t => t.textContent.startsWith('{stream}')).click()")
        page.wait(selected, timeout_s)
    return page.wait_state(lambda state: state["stream"] == stream, f"a picture of {stream}", timeout_s)


def log_line(page: Page, text: str) -> str:
    """Wait until the list of events has a line that contains a text."""
    return page.wait(
        f"[...document.querySelectorAll('#log li')].map(line => line.textContent).find(line => line.includes({text!r}))"
    )


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the picture is in the window."""
    left, top = page.run("(({x, y}) => [x, y])(document.getElementById('picture').getBoundingClientRect())")
    view = page.state["view"]
    return left + view["left"] + x * view["scale"], top + view["top"] + y * view["scale"]
