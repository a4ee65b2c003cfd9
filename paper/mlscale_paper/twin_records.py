"""Records of long computations about the twin, kept beside the published runs with the hash of their code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.atomic import write_text
from mlscale.notebook.figures import remark
from mlscale.notebook.manifest import Simulated
from mlscale.runs import Run
from mlscale_paper import places
from mlscale_twin.code_hash import code_hash
from mlscale_twin.profile import read_profile

VALIDATION: Final = "validation.json"
CLAIMS: Final = "claims.json"
RECORDS: Final = (VALIDATION, CLAIMS)


def record_hash(record: str) -> str:
    """Hash of the code behind ``record``."""
    from mlscale_paper import claims, freeze
    from mlscale_twin.studies import validation

    judges = {VALIDATION: (validation, freeze), CLAIMS: (claims,)}[record]
    frozen = places.twin_file()
    data = frozen.read_bytes() if record == VALIDATION and frozen.exists() else b""
    return code_hash([Path(module.__file__ or "") for module in judges], data)


def read_record(name: str) -> dict[str, Any] | None:
    """The record of a long computation, if the present code wrote it; else None, and a remark names the command that
    writes it."""
    command = {
        VALIDATION: "`mlscale experiment validate`, which needs a hold-out,",
        CLAIMS: "`mlscale experiment claims`",
    }[name]
    file = places.reference() / name
    record = dict(json.loads(file.read_text())) if file.exists() else None
    if record is not None and record["code_sha256"] == record_hash(name):
        return record
    finding = "Nothing is on record" if record is None else "What is on record is of another version of the code"
    remark(f"{finding}: {command} writes it, in some minutes.")
    return None


def drawn_from(name: str) -> Simulated:
    """A record, as a figure's source."""
    file = places.reference() / name
    text = file.read_bytes()
    return Simulated(f"data/reference/{name}", json.loads(text)["draws"], hashlib.sha256(text).hexdigest())


def record_of(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The validation on record, if it is about these runs; else None, with a remark."""
    record = read_record(VALIDATION)
    if record is not None and record["runs"] != sorted(run.info.run_id for run in runs):
        remark("The validation on record is about other runs; it is left out.")
        return None
    return record


def note_verdicts(record: Mapping[str, Any], runs: Sequence[Run], profiles: Path) -> None:
    """Note in each profile of the folder the runs that it was validated with, and the verdict; figures of simulated
    runs show it."""
    for environment, rows in pd.DataFrame(record["verdicts"]).groupby("environment"):
        last = max(run.info.wall_start for run in runs if run.info.environment == environment)
        counts = rows["verdict"].value_counts()
        counts_text = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("equivalent", "inconclusive", "different"))
        statement = (
            f"held against {rows['n'].max()} live runs until {last:%Y-%m-%d}: {counts_text} of {len(rows)} figures"
        )
        file = profiles / f"{environment}.json"
        profile = read_profile(file).model_copy(update={"validated": statement})
        write_text(file, profile.model_dump_json(indent=2, exclude_none=True) + "\n")


def write_record(name: str, content: Mapping[str, Any]) -> Path:
    """Write a record beside the published runs, with the hash of the code."""
    file = places.reference() / name
    write_text(file, json.dumps({"code_sha256": record_hash(name), **content}, indent=1) + "\n")
    return file
