"""The landing page: it runs, its links lead somewhere, and JupyterLab opens on it without news."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import time
import urllib.request

import nbformat
from lab_notebooks import NOTEBOOKS
from nbclient import NotebookClient

START = NOTEBOOKS / "00_start.ipynb"
CHECKOUT = NOTEBOOKS.parent
WAIT_S = 120


def test_the_start_page_runs_and_shows_the_sandbox() -> None:
    notebook = nbformat.read(START, as_version=4)
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    ).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)


def test_its_doors_are_short_and_lead_somewhere() -> None:
    texts = [cell.source for cell in nbformat.read(START, as_version=4).cells if cell.cell_type == "markdown"]
    doors = {text.splitlines()[0].removeprefix("## "): text for text in texts if text.startswith("## ")}
    for name in ("Learn", "Measure", "Decide"):
        assert len([line for line in doors[name].splitlines() if line.strip()]) <= 10
    links = re.findall(r"\]\(([^)]+)\)", "\n".join(texts))
    assert len(links) > 12
    assert not [link for link in links if not (NOTEBOOKS / link).exists()]
    linked = {link for link in links if link.endswith(".ipynb")}
    assert linked == {path.name for path in NOTEBOOKS.glob("*.ipynb")} - {START.name}


def test_make_lab_starts_for_this_user_without_news() -> None:
    """With the Makefile's own command, whoever runs it (root included)."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(8)
    options = f"--no-browser --ip=127.0.0.1 --port={port} --IdentityProvider.token={token}"
    command = ["make", "--silent", "-o", "setup", "lab", f"LAB_OPTIONS={options}"]
    server = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}/lab/api/settings/@jupyterlab/apputils-extension:notification?token={token}"
        settings = _read(address, server)
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)
    defaults = settings["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false"
    assert defaults["checkForUpdates"]["default"] is False


def _read(address: str, server: subprocess.Popen[bytes]) -> dict[str, dict[str, dict[str, dict[str, object]]]]:
    end_s = time.monotonic() + WAIT_S
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return dict(json.load(answer))
        except OSError:
            assert server.poll() is None, "it ended by itself"
            assert time.monotonic() < end_s, f"no answer within {WAIT_S} s"
            time.sleep(0.5)
