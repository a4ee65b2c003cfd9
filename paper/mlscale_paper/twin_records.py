"""Results of long computations with the twin, stored with the published runs and the hash of their code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.atomic import write_text
from mlscale.measurement.measure import Progress
from mlscale.notebook.manifest import Simulated
from mlscale.notebook.show import remark
from mlscale.runs import MlscaleError, Run
from mlscale_paper import places
from mlscale_twin.code_hash import code_hash
from mlscale_twin.profile import Compared, Profile, read_profile

VALIDATION: Final = "validation.json"
CLAIMS: Final = "claims.json"
# The runs that shipped profiles are compared with: no validation, since they were fitted to the same runs.
FITTED: Final = "published runs, to which the profile was fitted"
RECORDS: Final = (VALIDATION, CLAIMS)


def record_hash(record: str) -> str:
    """Hash of the code behind ``record``."""
    from mlscale_paper import claims, freeze
    from mlscale_twin.studies import validation

    verdict_modules = {VALIDATION: (validation, freeze), CLAIMS: (claims,)}[record]
    frozen = places.twin_file()
    data = frozen.read_bytes() if record == VALIDATION and frozen.exists() else b""
    return code_hash([Path(module.__file__ or "") for module in verdict_modules], data)


def read_record(name: str) -> dict[str, Any] | None:
    """The record with this name if it is of the present code; else None, and a remark that names the command which
    writes it."""
    command = {
        VALIDATION: "`mlscale experiment validate`, which needs a hold-out,",
        CLAIMS: "`mlscale experiment claims`",
    }[name]
    file = places.reference() / name
    record = dict(json.loads(file.read_text())) if file.exists() else None
    if record is not None and record["code_sha256"] == record_hash(name):
        return record
    what = "There is no record" if record is None else "The record is from another version of the code"
    remark(f"{what}: {command} writes it, which takes some minutes.")
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


def write_verdicts(record: Mapping[str, Any], runs: Sequence[Run], profiles: Path) -> None:
    """Writes into each profile of the folder by which runs it was validated, the verdict, which figures of simulated
    runs show, and how far the twin was from these runs, which replaces the comparison with the runs of the fit."""
    for environment, rows in pd.DataFrame(record["verdicts"]).groupby("environment"):
        last = max(run.info.wall_start for run in runs if run.info.environment == environment)
        counts = rows["verdict"].value_counts()
        counts_text = ", ".join(f"{counts.get(name, 0)} {name}" for name in ("equivalent", "inconclusive", "different"))
        validated = (
            f"held against {rows['n'].max()} live runs until {last:%Y-%m-%d}: {counts_text} of {len(rows)} figures, "
            f"{int((rows['not_claimed'] == '').sum())} claimed"
        )
        file = profiles / f"{environment}.json"
        compared = Compared.model_validate(record["compared"][environment])
        _write_profile(file, read_profile(file).model_copy(update={"validated": validated, "compared": compared}))


def write_comparisons(profiles: Path, progress: Progress | None = None) -> dict[Path, Compared]:
    """Writes into each profile of the folder how far the twin is from the published runs of its environment, to which
    it was fitted; returns what was written, by file. Validated profiles keep their comparison with the hold-out."""
    from mlscale_paper.twin_tables import published
    from mlscale_twin.studies.validation import compare_profile

    live = [run for run in published("core", "rehearsal") if run.info.valid]
    written = {}
    for file in sorted(profiles.glob("*.json")):
        profile = read_profile(file)
        runs = [run for run in live if run.info.environment == profile.environment]
        if runs and profile.validated == Profile.model_fields["validated"].default:
            compared = compare_profile(profile, runs, FITTED, progress=progress)
            _write_profile(file, profile.model_copy(update={"compared": compared}))
            written[file] = compared
    return written


def _write_profile(file: Path, profile: Profile) -> None:
    write_text(file, profile.model_dump_json(indent=2, exclude_none=True) + "\n")


def check_same(name: str, values: Mapping[str, Any]) -> None:
    """Raise MlscaleError unless the record with this name holds these values, to the last digit. (Apart from the noise
    floor, which is of the live runs alone, and which no verdict uses.)"""
    file = places.reference() / name
    held = {key: value for key, value in json.loads(file.read_text()).items() if key != "code_sha256"}
    if json.dumps(_without_noise(held)) != json.dumps(_without_noise(values)):
        what = "the present code gives other results than those recorded"
        raise MlscaleError(what, str(file), "restore the code, or freeze again and measure new hold-out runs")


def _without_noise(record: Mapping[str, Any]) -> dict[str, Any]:
    verdicts = [{**verdict, "noise": None} for verdict in record.get("verdicts", ())]
    return {**record, "verdicts": verdicts}


def write_record(name: str, values: Mapping[str, Any]) -> Path:
    """Stores a record with the published runs, with the hash of the code."""
    file = places.reference() / name
    write_text(file, json.dumps({"code_sha256": record_hash(name), **values}, indent=1) + "\n")
    return file
