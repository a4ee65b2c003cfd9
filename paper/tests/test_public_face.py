"""What notebooks import is public: names that the packages themselves list."""

from __future__ import annotations

import ast
import inspect
import json
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("mlscale", "mlscale_aws", "codereader", "mlscale_lab", "mlscale_twin", "mlscale_paper", "onenode")


@pytest.mark.parametrize("notebook", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_public_names_alone(notebook: Path) -> None:
    cells = json.loads(notebook.read_text())["cells"]
    source = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    imported = False
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] in OURS]
            assert all("." not in name for name in names), names
            imported |= "mlscale" in names
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in OURS:
            public = import_module(str(node.module).partition(".")[0]).__all__
            assert node.module in OURS, f"{node.module} is internal"
            assert {alias.name for alias in node.names} <= set(public)
            imported |= node.module == "mlscale_lab"
    assert imported, "by what mlscale offers"


@pytest.mark.parametrize("package", [*OURS[:-1], "mlscale.analysis"])
def test_every_public_name_is_there(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert (getattr(value, "__doc__", None) or "").strip() or not callable(value), f"{name} says what it is"
        if inspect.isfunction(value):
            assert len(inspect.signature(value).parameters) <= 8, f"{name}: the rest belongs into an object of options"


def test_the_page_about_the_api_lists_every_name() -> None:
    page = (ROOT / "docs/api.md").read_text()
    missing = [name for name in import_module("mlscale").__all__ if f"`{name}`" not in page]
    assert missing == []
