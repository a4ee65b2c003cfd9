"""Results of long computations with the twin, stored with the published runs: its validation, its errors in
comparisons, the paper's claims."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.atomic import write_text
from mlscale.measurement.measure import Progress
from mlscale.notebook.manifest import Simulated
from mlscale.notebook.show import remark
from mlscale.runs import Run
from mlscale_paper import places
from mlscale_twin.profile import Compared
from mlscale_twin.profile_files import read_profile, write_profile
from mlscale_twin.studies.validation import compare_profile

VALIDATION: Final = "validation.json"
CLAIMS: Final = "claims.json"
CONTRASTS: Final = "contrasts.json"
RECORDS: Final = (VALIDATION, CLAIMS, CONTRASTS)
_COMMANDS: Final = {VALIDATION: "validate", CLAIMS: "claims", CONTRASTS: "claims"}
# The runs that a profile without a validation is compared with.
FITTED: Final = "published runs, to which the profile was fitted"
# Larger relative changes of a number are reported: other machines round differently.
_ROUNDING: Final = 1e-9


def read_record(name: str) -> dict[str, Any] | None:
    """The record with this name; where there is none, None and a remark that names the command which writes it."""
    file = places.reference() / name
    if file.exists():
        return dict(json.loads(file.read_text()))
    remark(f"There is no record: `mlscale experiment {_COMMANDS[name]}` writes it, which takes some minutes.")
    return None


def simulated_from(name: str) -> Simulated:
    """A record as the source of a figure."""
    file = places.reference() / name
    text = file.read_bytes()
    return Simulated(f"data/reference/{name}", json.loads(text)["draws"], hashlib.sha256(text).hexdigest())


def validation_of(runs: Sequence[Run]) -> dict[str, Any] | None:
    """The validation on record if it is about these runs; else None, and a remark."""
    record = read_record(VALIDATION)
    if record is not None and record["runs"] != sorted(run.info.run_id for run in runs):
        remark("The recorded validation is of other runs, so it is omitted.")
        return None
    return record


def write_record(name: str, values: Mapping[str, Any]) -> list[str]:
    """Stores a record with the published runs; returns what moved since the one before (`moved`)."""
    file = places.reference() / name
    before = json.loads(file.read_text()) if file.exists() else {}
    write_text(file, json.dumps(values, indent=1) + "\n")
    return moved(before, json.loads(file.read_text()))


def moved(before: Any, after: Any, place: str = "") -> list[str]:
    """A line for each value in which two records differ by more than rounding: its place, before and after."""
    if isinstance(before, dict) and isinstance(after, dict):
        parts = [(key, before.get(key), after.get(key)) for key in dict.fromkeys([*before, *after])]
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        parts = [(_label(new, number), old, new) for number, (old, new) in enumerate(zip(before, after, strict=True))]
    else:
        return [] if _same(before, after) else [f"{place}: {before} -> {after}"]
    return [line for key, old, new in parts for line in moved(old, new, f"{place}/{key}")]


def _label(row: Any, number: int) -> str:
    """What a row of a table is about, in place of its number."""
    names = ("environment", "setup", "claim", "what", "figure", "twin", "number", "setting", "side", "run_id")
    texts = [row[name] for name in names if isinstance(row.get(name), str)] if isinstance(row, dict) else []
    return ", ".join(texts) or str(number)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def note_in_profiles(
    record: Mapping[str, Any],
    held_out: Sequence[Run],
    fitted: Sequence[Run],
    folder: Path,
    progress: Progress | None = None,
) -> None:
    """Writes into each profile of the folder how far the twin was from live runs: of a validated environment, those of
    the hold-out, with the verdict, which figures of simulated runs show; of another, those that it was fitted to."""
    for file in sorted(folder.glob("*.json")):
        profile = read_profile(file)
        name = profile.environment
        own = [run for run in fitted if run.info.environment == name]
        if name in record["compared"]:
            compared = Compared.model_validate(record["compared"][name])
            last = max(run.info.wall_start for run in held_out if run.info.environment == name)
            changes = {"validated": _verdict(record, name, f"{last:%Y-%m-%d}"), "compared": compared}
        elif own:
            changes = {"compared": compare_profile(profile, own, FITTED, progress=progress)}
        else:
            continue
        write_profile(profile.model_copy(update=changes), file)


def _verdict(record: Mapping[str, Any], environment: str, until: str) -> str:
    rows = pd.DataFrame(record["verdicts"]).query("environment == @environment")
    counts = rows["verdict"].value_counts()
    counted = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("equivalent", "inconclusive", "different"))
    claimed = int((rows["not_claimed"] == "").sum())
    return (
        f"held against {rows['n'].max()} live runs until {until}: {counted} of {len(rows)} figures, {claimed} claimed"
    )
