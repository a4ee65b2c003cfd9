"""Student notebooks with answers put in, executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SOLUTIONS = Path(__file__).parent / "solutions"
NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
LABS = sorted(path.stem for path in SOLUTIONS.glob("lab_*.py"))
_BLANK = re.compile(r"^(\w+) = None  # .+$", re.MULTILINE)


def answers(lab: str) -> dict[str, str]:
    """The teacher's answers: name -> Python source."""
    source = (SOLUTIONS / f"{lab}.py").read_text()
    return {
        target.id: ast.unparse(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def blanks(lab: str) -> list[str]:
    """The names that a student has to fill in, in order."""
    return [name for cell in _read(lab).cells if cell.cell_type == "code" for name in _BLANK.findall(cell.source)]


@contextmanager
def kernel() -> Iterator[NotebookClient]:
    """A kernel for several notebooks: what one of them has imported need not be loaded again."""
    client = NotebookClient(
        nbformat.v4.new_notebook(), timeout=300, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    with client.setup_kernel():
        yield client


def executed(
    lab: str, given: Mapping[str, str], folder: Path, *, skip: str = "", client: NotebookClient | None = None
) -> nbformat.NotebookNode:
    """The executed notebook. ``given``: source by name, for the blanks. ``folder``: where its answers are kept.
    ``skip``: cells with this text are left out. Without answers, cells may end in the one line that asks for them.
    ``client``: of a `kernel`, which forgets the names of notebooks before; None: one of its own."""
    notebook = _read(lab)
    notebook.cells = [
        cell for cell in notebook.cells if cell.cell_type == "code" and not (skip and skip in cell.source)
    ]
    filled_in(notebook, given)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"%reset -f\n%cd -q {folder}"))
    with nullcontext(client) if client else kernel() as used:
        used.nb = notebook
        used.allow_errors = not given
        for place, cell in enumerate(notebook.cells):
            used.execute_cell(cell, place)
    return notebook


def filled_in(notebook: nbformat.NotebookNode, given: Mapping[str, str]) -> nbformat.NotebookNode:
    """The notebook, its blanks filled in. ``given``: source by name."""
    for cell in notebook.cells:
        cell.source = _BLANK.sub(lambda found: f"{found[1]} = {given.get(found[1], 'None')}", cell.source)
    return notebook


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """What the checks said, as text, in order."""
    texts = (
        output.data.get("text/html", "")
        for cell in notebook.cells
        for output in cell.outputs
        if output.output_type == "execute_result"
    )
    return [text for text in texts if 'role="status"' in text]


def _read(lab: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{lab}.ipynb", as_version=4)
