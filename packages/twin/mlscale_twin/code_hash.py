"""Which code a simulated figure comes from: a hash that survives new words and moved modules."""

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
    """Of everything that simulated runs depend on: the twin, the policies, the profiles, how figures are taken. Not of
    words, nor of where a module lies.

    Args:
        judges: modules that turn the runs into verdicts, where a record of those is named. data: that they read.
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
    """A string that stands alone: a docstring, of whatever."""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Import | ast.ImportFrom)
