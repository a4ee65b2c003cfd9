"""JupyterLab in a real browser: labs that were answered wrongly, and the sandbox by keyboard and mouse."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_notebooks import LABS, NOTEBOOKS, answers, filled_in

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make bench-extra")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
WAIT_MS = 300_000
WRONG = ["['a']", "{'a': 1}", "10**400", "10**9", "(0, 25)", "'0,25'", "float('nan')", "True", "object()"]
SANDBOX = "from mlscale_lab import Sandbox\nSandbox(a=('torchserve', 'matched'), b=('torchserve', 'shipped'))"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, Path]]:
    """A page of a browser, the address of a JupyterLab, and its folder."""
    sys.path.append(str(NOTEBOOKS.parent / "benchmarks"))
    from sandbox_redraw import start_lab

    folder = tmp_path_factory.mktemp("lab")
    server, address, token = start_lab(folder)
    try:
        with sync_api.sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 800})
            page.set_default_timeout(WAIT_MS)
            page.goto(f"{address}/lab?token={token}&reset")
            yield page, address, folder
            browser.close()
    finally:
        server.terminate()
        server.wait(120)


def run_all(page: Any, address: str, file: Path) -> nbformat.NotebookNode:
    """Open a notebook, run all of it by the menu, and give what was saved once its last cell has run."""
    page.goto(f"{address}/lab/tree/{file.name}?reset")
    page.wait_for_selector(".jp-Cell .cm-content")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]')
    for _ in range(200):  # JupyterLab ignores the menu, or asks back, until all of its extensions are there
        page.wait_for_timeout(3000)
        if page.locator(".jp-Dialog").count():
            page.keyboard.press("Enter")
            continue
        prompts = {text.strip() for text in page.locator(".jp-InputPrompt").all_inner_texts()}
        if prompts <= {"[ ]:", ""}:
            page.click(".jp-Cell .cm-content")
            page.click(".lm-MenuBar-item:has-text('Run')")
            page.click(".lm-Menu-item[data-command='runmenu:run-all']")
            continue
        page.click("[data-command='docmanager:save']")
        page.wait_for_timeout(1000)
        saved = nbformat.read(file, as_version=4)
        if [cell for cell in saved.cells if cell.cell_type == "code"][-1].get("execution_count"):
            return saved
    pytest.fail(f"{file.name} did not run")


def write(file: Path, notebook: nbformat.NotebookNode) -> None:
    notebook.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(notebook, file)


@pytest.mark.parametrize("name", LABS)
def test_a_lab_takes_no_wrong_answer_and_every_right_one(lab: tuple[Any, str, Path], name: str) -> None:
    page, address, folder = lab
    given = answers(name)
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    notebook.cells = [cell for cell in notebook.cells if cell.cell_type == "code" and "Sandbox" not in cell.source]
    notebook.cells = [cell for cell in notebook.cells if "(run)" not in cell.source and "live" not in cell.source]
    tried = 0
    for cell in notebook.cells:
        (first, *_), called = cell.source.split("\n"), cell.source.rpartition("\n")[2]
        if called.startswith("check(") and " = None  #" in first:
            blank = first.partition(" ")[0]
            question = called.partition(", ")[0]
            own = question.startswith('check("own_')  # any number is kept, to be graded later
            wrong = [f"    display({question}, {answer}))" for answer in WRONG if not own or answer != "10**9"]
            cell.source = "\n".join([*(line.strip() for line in wrong), first, called])
            tried += len(wrong)
            assert blank in given
    file = folder / f"{name}.ipynb"
    write(file, filled_in(notebook, given))
    saved = run_all(page, address, file)
    assert not [output for cell in saved.cells for output in cell.get("outputs", ()) if output.output_type == "error"]
    html = [
        output.data["text/html"] for cell in saved.cells for output in cell.get("outputs", ()) if "data" in output
        if 'role="status"' in output.data.get("text/html", "")
    ]  # fmt: skip
    assert "Right." in html[-1], "all questions are done, whatever was tried before"
    refused = [text for text in html if "Not yet." in text]
    assert len(refused) == tried


def test_the_sandbox_is_set_by_keyboard_and_mouse_with_its_numbers_in_sight(lab: tuple[Any, str, Path]) -> None:
    page, address, folder = lab
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SANDBOX)])
    write(folder / "sandbox.ipynb", notebook)
    run_all(page, address, folder / "sandbox.ipynb")
    page.wait_for_selector("svg[data-drawn]")
    drawn = "() => Number(document.querySelector('svg[data-drawn]').dataset.drawn)"
    sizes = page.evaluate(
        "() => [...document.querySelectorAll('.mlscale-sandbox svg text')].map(e => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 11
    handle = page.locator(".mlscale-side .widget-hslider .noUi-handle[aria-label='A: max_replicas']")
    handle.wait_for(state="attached")
    handle.focus()
    before = page.evaluate(drawn)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"before => ({drawn})() > before", arg=before)
    bounds = page.evaluate(
        """() => { const box = e => e.getBoundingClientRect().toJSON();
        return {all: box(document.querySelector('.mlscale-sandbox')), handle: box(document.activeElement),
          table: box(document.querySelector('.mlscale-figure table'))}; }"""
    )
    assert bounds["all"]["top"] - 1 <= bounds["table"]["top"]
    assert bounds["table"]["bottom"] <= bounds["handle"]["top"] + 1, "the numbers stay in sight, and the handle, too"
    track = page.locator(".mlscale-side .widget-hslider:has([aria-label='A: max_replicas']) .noUi-target")
    box = track.bounding_box()
    assert box["width"] > 250
    before = page.evaluate(drawn)
    page.mouse.click(box["x"] + box["width"] * 0.1, box["y"] + box["height"] / 2)
    page.wait_for_function(f"before => ({drawn})() > before", arg=before)
    stops = page.evaluate(
        """() => [...document.querySelectorAll('.mlscale-sandbox .widget-slider')].map(
        e => e.querySelectorAll('[tabindex="0"], [contenteditable]:not([tabindex="-1"])').length)"""
    )
    assert set(stops) == {1}
    named = page.evaluate("() => [...document.querySelectorAll('.mlscale-sandbox .noUi-handle')].map(e => e.ariaLabel)")
    assert all(named)
    assert len(set(named)) == len(named)


def test_without_a_kernel_a_saved_sandbox_is_still_a_picture(lab: tuple[Any, str, Path]) -> None:
    page, address, folder = lab
    saved = nbformat.read(folder / "sandbox.ipynb", as_version=4)
    assert any("mlscale-still" in output.get("data", {}).get("text/html", "") for output in saved.cells[0].outputs)
    notebook = nbformat.from_dict(saved)
    write(folder / "reopened.ipynb", notebook)
    page.goto(f"{address}/lab/tree/reopened.ipynb?reset")
    page.wait_for_selector(".jp-Cell")
    picture = page.locator("img[alt^='SIMULATED']")
    picture.wait_for(state="attached")
    assert page.evaluate("() => document.querySelector('img[alt^=SIMULATED]').naturalWidth") > 100
