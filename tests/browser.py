"""A real browser for tests: Chromium, steered by its driver over W3C WebDriver's HTTP interface."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket
from typing import Any, TypeVar

import pytest

T = TypeVar("T")
needs_browser = pytest.mark.skipif(
    shutil.which("chromedriver") is None, reason="no browser: apt-get install chromium chromium-driver"
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that the standard gives to a reference to an element


def free_port() -> int:
    """A port that nothing listens on."""
    with socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Browser:
    """One window. ``wait_s``: how long `wait` goes on asking."""

    def __init__(self, session: str, wait_s: float) -> None:
        self._session = session
        self._wait_s = wait_s

    def open(self, address: str) -> None:
        """Go to an address, and wait until it has loaded."""
        call(f"{self._session}/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a JavaScript function returns; ``arguments`` are its ``arguments``."""
        return call(f"{self._session}/execute/sync", {"script": script, "args": arguments})

    def wait(self, script: str, *arguments: Any) -> Any:
        """The first truthy value that `run` returns."""
        return until(lambda: self.run(script, *arguments), self._wait_s, script)

    def click(self, selector: str) -> None:
        """Scroll to the first element that a CSS selector finds, and click into its middle."""
        found = call(f"{self._session}/element", {"using": "css selector", "value": selector})
        call(f"{self._session}/element/{found[_ELEMENT]}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into an element."""
        found = call(f"{self._session}/element", {"using": "css selector", "value": selector})
        call(f"{self._session}/element/{found[_ELEMENT]}/value", {"text": text})

    def picture(self, file: Path) -> None:
        """Write a PNG of what the window shows."""
        file.write_bytes(base64.b64decode(call(f"{self._session}/screenshot")))


@contextmanager
def browser(folder: Path, width: int = 1280, height: int = 800, wait_s: float = 120.0) -> Iterator[Browser]:
    """A headless Chromium that keeps what it writes in ``folder``."""
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: call(f"http://127.0.0.1:{port}/status")["ready"], wait_s, "chromedriver")
        arguments = ["--headless=new", f"--user-data-dir={folder}", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--no-sandbox"] * (os.geteuid() == 0)  # Chromium refuses to run as root in its sandbox
        options = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        made = call(f"http://127.0.0.1:{port}/session", {"capabilities": {"alwaysMatch": options}})
        session = f"http://127.0.0.1:{port}/session/{made['sessionId']}"
        # A window can't be narrower than 500 px; what a page sees can.
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        call(f"{session}/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})
        try:
            yield Browser(session, wait_s)
        finally:
            call(session, method="DELETE")
    finally:
        driver.terminate()
        driver.wait(30)


def call(address: str, body: Any = None, method: str | None = None) -> Any:
    """The value that the driver answers with. Raises urllib's HTTPError with the driver's message as its reason."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        error.msg = json.load(error)["value"]["message"].partition("\n")[0]
        raise


def until(ask: Callable[[], T], wait_s: float, what: str) -> T:
    """The first truthy answer; refused connections count as none."""
    end_s = time.monotonic() + wait_s
    while True:
        try:
            answer = ask()
        except urllib.error.URLError as error:
            if isinstance(error, urllib.error.HTTPError):
                raise
        else:
            if answer:
                return answer
        assert time.monotonic() < end_s, f"not within {wait_s:g} s: {what}"
        time.sleep(0.1)
