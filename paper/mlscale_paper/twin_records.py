"""What long computations about the twin wrote beside the published runs, and of which code it speaks."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale_paper import places
from mlscale.notebook.figures import remark
from mlscale.notebook.manifest import Simulated
from mlscale_paper.protocol import write_text
from mlscale.runs import Run
from mlscale_twin.profile import FOLDER, profile_names, read_profile

VALIDATION: Final = "validation.json"
CLAIMS: Final = "claims.json"
RECORDS: Final = (VALIDATION, CLAIMS)
_JUDGED_BY: Final = {VALIDATION: ("validation.py", "freeze.py"), CLAIMS: ("claims.py",)}


def code_hash(record: str | None = None) -> str:
    """Of everything that simulated figures depend on, the twin, the policies, how figures are taken; with ``record``
    also how its verdicts are made. Not of words, and not of where a module lies."""
    root = Path(__file__).parents[1]
    files = [*(root / "simulator").rglob("*.py"), *(root / "policies").rglob("*.py")]
    files += [
        root / "environments/worker_controller.py",
        root / "analysis/likeness.py",
        root / "analysis/overlooked.py",
    ]
    files += [root / "experiment" / name for name in (*(_JUDGED_BY[record] if record else ()), "simulate.py")]
    whole = hashlib.sha256()
    for file in sorted(files, key=lambda each: each.stem):
        whole.update(f"{file.stem}\0{_meaning(file.read_text())}\0".encode())
    for name in profile_names():
        whole.update(f"{name}\0{read_profile(name).sha256}\0".encode())
    if record == VALIDATION:
        whole.update(places.twin_file().read_bytes() if places.twin_file().exists() else b"")
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


def read_record(name: str) -> dict[str, Any] | None:
    """What a long computation wrote beside the published runs, where it is of this code; else None, and a line that
    says which command writes it."""
    command = {
        VALIDATION: "`mlscale experiment validate`, which needs a hold-out,",
        CLAIMS: "`mlscale experiment claims`",
    }[name]
    file = places.reference() / name
    record = dict(json.loads(file.read_text())) if file.exists() else None
    if record is not None and record["code_sha256"] == code_hash(name):
        return record
    what = "Nothing is on record" if record is None else "What is on record is of another version of the code"
    remark(f"{what}: {command} writes it, in some minutes.")
    return None


def drawn_from(name: str) -> Simulated:
    """A record as what a figure shows."""
    file = places.reference() / name
    text = file.read_bytes()
    return Simulated(f"data/reference/{name}", json.loads(text)["draws"], hashlib.sha256(text).hexdigest())


def record_of(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The validation on record, where it is about these runs; else None, and a line says so."""
    record = read_record(VALIDATION)
    if record is not None and record["runs"] != sorted(run.info.run_id for run in runs):
        remark("The validation on record is about other runs; it is left out.")
        return None
    return record


def note_verdicts(record: Mapping[str, Any], runs: Sequence[Run]) -> None:
    """Say in each profile by which runs it was validated, with what verdict: figures of simulated runs show it."""
    for environment, rows in pd.DataFrame(record["verdicts"]).groupby("environment"):
        last = max(run.info.wall_start for run in runs if run.info.environment == environment)
        counts = rows["verdict"].value_counts()
        told = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("equivalent", "inconclusive", "different"))
        said = f"held against {rows['n'].max()} live runs until {last:%Y-%m-%d}: {told} of {len(rows)} figures"
        profile = read_profile(str(environment)).model_copy(update={"validated": said})
        write_text(FOLDER / f"{environment}.json", profile.model_dump_json(indent=2, exclude_none=True) + "\n")


def write_record(name: str, found: Mapping[str, Any]) -> Path:
    """Put it beside the published runs, with the hash of the code."""
    file = places.reference() / name
    write_text(file, json.dumps({"code_sha256": code_hash(name), **found}, indent=1) + "\n")
    return file
