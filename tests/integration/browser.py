"""Headless Chromium, driven through the DevTools protocol: one browser, any number of pages."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

START_S = 40.0
CALL_S = 60.0
KEYS = {
    " ": ("Space", 32), "ArrowLeft": ("ArrowLeft", 37), "ArrowUp": ("ArrowUp", 38), "ArrowRight": ("ArrowRight", 39),
    "ArrowDown": ("ArrowDown", 40), "Escape": ("Escape", 27), "Delete": ("Delete", 46), "Backspace": ("Backspace", 8),
}  # fmt: skip


def chromium() -> str | None:
    """Return the path of Debian's Chromium, or None."""
    return shutil.which("chromium")


class Browser:
    """A Chromium process of its own. Needs `websockets`.

    Args:
        profile: an empty folder for the browser's files.
    """

    def __init__(self, profile: Path) -> None:
        from websockets.sync.client import connect

        command = [
            chromium() or "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", "--hide-scrollbars", "--disable-background-timer-throttling",
            "--disable-renderer-backgrounding", "--remote-debugging-port=0", f"--user-data-dir={profile}",
            "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + START_S
        while not (port_file.exists() and len(port_file.read_text().splitlines()) == 2):
            if time.monotonic() > deadline or self._process.poll() is not None:
                self._process.kill()
                raise AssertionError(f"Chromium has not started within {START_S} s")
            time.sleep(0.05)
        port, path = port_file.read_text().splitlines()
        self._connected = connect(f"ws://127.0.0.1:{port}{path}", max_size=None, open_timeout=START_S)
        self._socket = self._connected.__enter__()
        self._numbers = itertools.count(1)
        self._pages: dict[str, Page] = {}

    def call(self, method: str, params: dict[str, Any] | None = None, session: str | None = None) -> dict[str, Any]:
        """Send a command and return its result.

        Raises:
            AssertionError: the browser refused it.
        """
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params or {}}
        if session is not None:
            message["sessionId"] = session
        self._socket.send(json.dumps(message))
        while True:
            received = json.loads(self._socket.recv(CALL_S))
            if received.get("id") == number:
                assert "error" not in received, f"{method}: {received['error']}"
                return received["result"]
            self._note(received)

    def _note(self, event: dict[str, Any]) -> None:
        page = self._pages.get(event.get("sessionId", ""))
        if page is not None:
            page.note(event["method"], event["params"])

    def open(self, url: str, width: int = 1280, height: int = 800, scheme: str = "light", ratio: float = 1) -> Page:
        """Open a page of a size."""
        context = self.call("Target.createBrowserContext")["browserContextId"]  # storage of its own
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = Page(self, session, target)
        self._pages[session] = page
        for domain in ("Runtime", "Log", "Page"):
            page.call(f"{domain}.enable")
        page.resize(width, height, ratio)
        page.call("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        page.call("Page.navigate", {"url": url})
        return page

    def close(self) -> None:
        """End the browser."""
        try:
            self.call("Browser.close")
            self._connected.__exit__(None, None, None)
            self._process.wait(10)
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait(10)


class Page:
    """One tab. `faults` are its exceptions and the errors in its console; network failures are not among them."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser = browser
        self._session = session
        self._target = target
        self.faults: list[str] = []

    def call(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a command to the tab."""
        return self._browser.call(method, params, self._session)

    def note(self, method: str, params: dict[str, Any]) -> None:
        """Keep what went wrong in the page."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.faults.append(details.get("exception", {}).get("description") or details["text"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            self.faults.append(f"console.{params['type']}: {params['args']}")
        elif method == "Log.entryAdded":
            entry = params["entry"]
            # A refused connection is reported by the browser itself; the page cannot prevent it.
            if entry["level"] == "error" and entry["source"] != "network":
                self.faults.append(entry["text"])

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript; a promise is awaited."""
        result = self.call(
            "Runtime.evaluate",
            {"expression": expression, "awaitPromise": True, "returnByValue": True, "userGesture": True},
        )
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise AssertionError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    def wait(self, expression: str, timeout_s: float = 20.0) -> Any:
        """Evaluate JavaScript until it is true; return its value."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.run(expression)):
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {expression}; {self.faults}"
            time.sleep(0.03)
        return value

    def wait_for(self, selector: str, timeout_s: float = 20.0) -> None:
        """Wait until an element exists."""
        self.wait(f"document.querySelector({json.dumps(selector)}) !== null", timeout_s)

    @property
    def state(self) -> dict[str, Any]:
        """What the page draws: `window.trackdViewer.state`."""
        return self.run("window.trackdViewer.state")

    def wait_state(
        self, condition: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 20.0
    ) -> dict[str, Any]:
        """Return the first state that satisfies a condition."""
        deadline = time.monotonic() + timeout_s
        while True:
            state = self.run("window.trackdViewer?.state")
            if state is not None and condition(state):
                return state
            assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}; {state}; {self.faults}"
            time.sleep(0.03)

    def click(self, x: float, y: float) -> None:
        """Click at a point of the window."""
        self.call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1})

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Move the mouse with its button held from one point of the window to another, in some steps."""
        (x, y), (to_x, to_y) = start, end
        event = {"button": "left", "buttons": 1, "clickCount": 1}
        self.call("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": x, "y": y})
        self.call("Input.dispatchMouseEvent", {"type": "mousePressed", "x": x, "y": y, **event})
        for part in (0.3, 0.7, 1):
            at = {"x": x + part * (to_x - x), "y": y + part * (to_y - y)}
            self.call("Input.dispatchMouseEvent", {"type": "mouseMoved", **at, **event})
        self.call("Input.dispatchMouseEvent", {"type": "mouseReleased", "x": to_x, "y": to_y, **event})

    def click_on(self, selector: str) -> None:
        """Click on the middle of an element."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'nearest'});"
            " const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        self.click(*box)

    def type(self, text: str) -> None:
        """Type a text into the element that has the focus."""
        self.call("Input.insertText", {"text": text})

    def press(self, key: str) -> None:
        """Press a key, by its name in KeyboardEvent.key."""
        code, number = KEYS.get(key, (f"Key{key.upper()}", ord(key.upper()[0])))
        if key == "Enter":
            code, number = "Enter", 13
        event = {"key": key, "code": code, "windowsVirtualKeyCode": number}
        text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", {"type": "keyDown", **event, **text})
        self.call("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def resize(self, width: int, height: int, ratio: float = 1) -> None:
        """Give the page another size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600},
        )

    def screenshot(self, path: Path, *, whole: bool = False, quality: int | None = None) -> None:
        """Write what is seen, or the whole page, as PNG or JPEG."""
        kind = {"format": "jpeg", "quality": quality} if quality else {"format": "png"}
        data = self.call("Page.captureScreenshot", {**kind, "captureBeyondViewport": whole})["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Close the tab."""
        self._browser.call("Target.closeTarget", {"targetId": self._target})
        self._browser._pages.pop(self._session, None)
