"""A hash of the code behind a simulated figure, unaffected by wording and by moving modules."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlscale.analysis import idle_while_queued
from mlscale.environments import worker_controller
from mlscale_twin.cloud import read_cloud
from mlscale_twin.profile import profile_names, read_profile

# Parts of this package that no simulated run depends on.
_EXCLUDED: Final = ("strategy", "studies", "plots", "cli.py", "__init__.py")


def code_hash(verdict_modules: Iterable[Path] = (), data: bytes = b"") -> str:
    """Hash of everything that simulated runs depend on: the twin, its policies and profiles, and how figures are
    computed. Independent of docstrings, comments, imports and module paths.

    Args:
        verdict_modules: modules that derive verdicts from the runs, for a record of verdicts. data: their input.
    """
    root = Path(__file__).parent
    own = [file for file in root.rglob("*.py") if file.relative_to(root).parts[0] not in _EXCLUDED]
    used = [Path(module.__file__ or "") for module in (worker_controller, idle_while_queued)]
    sources = sorted(_normalised(file.read_text()) for file in (*own, *used, *verdict_modules))
    digest = hashlib.sha256("\0".join(sources).encode())
    for name in profile_names():
        digest.update(f"\0{name}\0{read_profile(name).sha256}".encode())
    digest.update(read_cloud().model_dump_json().encode())
    digest.update(data)
    return digest.hexdigest()


def _normalised(source: str) -> str:
    """The program without docstrings, comments and imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.If):
            node.body = [child for child in node.body if not _is_bare_string(child) and not _is_import(child)]
    return ast.dump(tree)


def _is_bare_string(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring of anything."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)
