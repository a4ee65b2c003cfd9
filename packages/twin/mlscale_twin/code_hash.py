"""A hash of the code behind a simulated figure, unaffected by wording and by moving modules."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mlscale.analysis import overlooked
from mlscale.environments import worker_controller
from mlscale_twin.profile import profile_names, read_profile

# Parts of this package that no simulated run depends on.
_NOT_OF_IT: Final = ("studies", "plots", "cli.py")


def code_hash(judges: Iterable[Path] = (), data: bytes = b"") -> str:
    """Hash of everything that simulated runs depend on: the twin, its policies and profiles, and how figures are
    computed. Independent of docstrings, comments, imports and module paths.

    Args:
        judges: modules that derive verdicts from the runs, for a record of verdicts. data: their input.
    """
    root = Path(__file__).parent
    own = [file for file in root.rglob("*.py") if file.relative_to(root).parts[0] not in _NOT_OF_IT]
    used = [Path(module.__file__ or "") for module in (worker_controller, overlooked)]
    meanings = sorted(_meaning(file.read_text()) for file in (*own, *used, *judges))
    whole = hashlib.sha256("\0".join(meanings).encode())
    for name in profile_names():
        whole.update(f"\0{name}\0{read_profile(name).sha256}".encode())
    whole.update(data)
    return whole.hexdigest()


def _meaning(source: str) -> str:
    """The program without docstrings, comments and imports."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.If):
            node.body = [each for each in node.body if not _is_text(each) and not _is_import(each)]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring of anything."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)
