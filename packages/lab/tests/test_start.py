"""The landing page: it runs, JupyterLab opens on it without news, and each of its links opens there."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_notebooks import NOTEBOOKS
from nbclient import NotebookClient

from browser import Browser, browser, free_port, needs_browser, until

START = NOTEBOOKS / "00_start.ipynb"
CHECKOUT = NOTEBOOKS.parent
WAIT_S = 120
LINK = re.compile(r"\]\(([^)]+)\)")
LINKS = ".jp-RenderedMarkdown a:not(.jp-InternalAnchorLink)"
# The text of every heading on the screen, without signs.
HEADINGS = "[...document.querySelectorAll('h1')].map(each => each.innerText.replace(/[^\\w]+/gu, ' ').trim())"


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
    links = LINK.findall("\n".join(texts))
    assert len(links) > 12
    assert not [link for link in links if not (NOTEBOOKS / link).exists()]
    linked = {link for link in links if link.endswith(".ipynb")}
    assert linked == {path.name for path in NOTEBOOKS.glob("*.ipynb")} - {START.name}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address, with a blank for the path, at which the Makefile's own command starts JupyterLab, for whoever runs
    it (root included). It saves nothing, since a notebook that is only opened would be changed."""
    own = tmp_path_factory.mktemp("jupyterlab")
    (own / "@jupyterlab/docmanager-extension").mkdir(parents=True)
    (own / "@jupyterlab/docmanager-extension/plugin.jupyterlab-settings").write_text('{"autosave": false}')
    places = {"JUPYTERLAB_SETTINGS_DIR": str(own), "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces")}
    port, token = free_port(), secrets.token_hex(8)
    options = f"--no-browser --ip=127.0.0.1 --port={port} --IdentityProvider.token={token}"
    command = ["make", "--silent", "-o", "setup", "lab", f"LAB_OPTIONS={options}"]
    server = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | places,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield f"http://127.0.0.1:{port}{{}}?token={token}"
    finally:
        os.killpg(server.pid, 15)
        server.wait(60)


def test_make_lab_starts_for_this_user_without_news(lab: str) -> None:
    address = lab.format("/lab/api/settings/@jupyterlab/apputils-extension:notification")
    defaults = until(lambda: _json(address), WAIT_S, address)["schema"]["properties"]
    assert defaults["fetchNews"]["default"] == "false"
    assert defaults["checkForUpdates"]["default"] is False


@needs_browser
def test_each_of_its_links_opens_in_jupyterlab(lab: str, tmp_path: Path) -> None:
    texts = "".join(cell.source for cell in nbformat.read(START, as_version=4).cells if cell.cell_type == "markdown")
    links = LINK.findall(texts)
    assert any(link.startswith("../docs/") for link in links)
    until(lambda: _json(lab.format("/api")), WAIT_S, "JupyterLab")
    with browser(tmp_path, width=3000) as window:  # room for the tabs of all of them
        window.open(lab.format("/"))
        window.wait(f"return document.querySelectorAll({LINKS!r}).length == {len(links)}")
        opened = [follow(window, place) for place in range(len(links))]
    assert opened == [(NOTEBOOKS / link).resolve().relative_to(CHECKOUT).as_posix() for link in links]


def follow(window: Browser, place: int) -> str:
    """Click a link of the start page; the file of the checkout whose heading was shown then, from the start page."""
    window.wait(f"const link = document.querySelectorAll({LINKS!r})[{place}]; link?.click(); return link")
    name = str(window.wait("return location.href.match('/lab/tree/(?!notebooks/00_start)([^?]+)')?.[1]"))
    text = (CHECKOUT / name).read_text()
    if name.endswith(".ipynb"):
        text = "".join(json.loads(text)["cells"][0]["source"])
    heading = re.sub(r"\W+", " ", text.partition("\n")[0]).strip()
    window.wait(f"return {HEADINGS}.includes(arguments[0])", heading)
    window.click("#jp-main-dock-panel .lm-TabBar-tab")
    window.wait("return location.href.includes('/lab/tree/notebooks/00_start')")
    return name


def _json(address: str) -> dict[str, Any]:
    with urllib.request.urlopen(address, timeout=5) as answer:
        return dict(json.load(answer))
