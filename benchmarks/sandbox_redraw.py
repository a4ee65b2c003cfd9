"""How soon the sandbox is redrawn after a key moves a slider, in a real browser.

    python benchmarks/sandbox_redraw.py

Needs Chromium and ``make bench-extra``. Starts JupyterLab on an address of this machine, opens a notebook with the
widget, focuses a slider by keyboard alone, and measures from each key press to the first frame that shows the new
figure. Prints one line of JSON for each environment; ``--picture FILE`` takes a screenshot at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
from playwright.sync_api import Page, sync_playwright

WAIT_MS = 240_000
SETTINGS = Path(__file__).parents[1] / "packages/lab/jupyterlab"
# Resolves with the ms from the key press to the frame after the figure with another number was put in place.
MEASURE = """
() => new Promise((resolve, reject) => {
  const drawn = () => document.querySelector('svg[data-drawn]')?.getAttribute('data-drawn');
  const before = drawn();
  let pressed_ms = 0;
  const observer = new MutationObserver(() => {
    if (pressed_ms && drawn() && drawn() !== before) {
      observer.disconnect();
      requestAnimationFrame(() => resolve(performance.now() - pressed_ms));
    }
  });
  observer.observe(document.body, {childList: true, subtree: true});
  document.addEventListener('keydown', () => { pressed_ms = performance.now(); }, {once: true, capture: true});
  setTimeout(() => { observer.disconnect(); reject(new Error('not redrawn within 20 s')); }, 20000);
})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--environments", nargs="+", default=["torchserve", "rayserve", "k3s", "eks", "ecs"])
    parser.add_argument("--moves", type=int, default=60)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    if browser_path is None:
        sys.exit("no Chromium on PATH (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        for name in given.environments:
            write_notebook(Path(scratch) / f"{name}.ipynb", name)
        server, address, token = start_lab(Path(scratch))
        try:
            browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 1500})
            page.set_default_timeout(WAIT_MS)
            for name in given.environments:
                page.goto(f"{address}/lab/tree/{name}.ipynb?token={token}&reset")
                times_ms = redraw_times_ms(page, given.moves)
                quantiles = {f"p{q}_ms": round(float(np.quantile(times_ms, q / 100)), 1) for q in (50, 95, 100)}
                host = {"host_load": round(os.getloadavg()[0], 1)}
                print(json.dumps({"environment": name, "moves": len(times_ms), **quantiles, **host}), flush=True)
            if given.picture:
                page.screenshot(path=given.picture)
        finally:
            server.terminate()
            server.wait(120)


def write_notebook(file: Path, environment: str) -> None:
    made = nbformat.v4.new_notebook()
    source = f"from mlscale_lab import Sandbox\nSandbox(a=({environment!r}, 'matched'), b=({environment!r}, 'shipped'))"
    made.cells = [nbformat.v4.new_code_cell(source)]
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(made, file)


def start_lab(folder: Path) -> tuple[subprocess.Popen[bytes], str, str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    command = [
        str(Path(sys.executable).parent / "jupyter"), "lab", "--allow-root", "--no-browser", "--ip=127.0.0.1",
        f"--port={port}", f"--IdentityProvider.token={token}", f"--LabApp.app_settings_dir={SETTINGS}",
        f"--ServerApp.root_dir={folder}",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api?token={token}", timeout=1).close()
            return server, address, token
        except OSError:
            if server.poll() is not None:
                break
            time.sleep(0.5)
    server.kill()
    sys.exit("JupyterLab did not start")


def redraw_times_ms(page: Page, moves: int) -> list[float]:
    page.wait_for_selector(".jp-Cell .cm-content")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    for _ in range(40):  # JupyterLab ignores keys, or asks back, until all of its extensions and the kernel are there
        page.wait_for_timeout(3000)
        if page.locator(".jp-Dialog").count():
            page.keyboard.press("Enter")
            continue
        page.click(".jp-Cell .cm-content")
        page.keyboard.press("Control+Enter")
        page.wait_for_timeout(3000)
        if page.locator(".jp-InputPrompt").first.inner_text().strip() not in ("[ ]:", ""):
            break
    page.wait_for_selector("svg[data-drawn]")
    slider = page.locator(".widget-hslider .noUi-handle").nth(1)
    slider.focus()
    times_ms: list[float] = []
    for place in range(moves):
        key = "ArrowRight" if place % 6 < 3 else "ArrowLeft"
        page.evaluate(f"() => {{ window.result = ({MEASURE})(); }}")
        page.keyboard.press(key)
        times_ms.append(float(page.evaluate("() => window.result")))
    return times_ms


if __name__ == "__main__":
    main()
