"""What the paper keeps on record about the twin: the code's hash, verdicts in its profiles."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_paper import cli, places, twin_tables
from mlscale_paper.twin_records import CLAIMS, VALIDATION, record_hash, write_comparisons, write_verdicts
from mlscale_paper.twin_tables import published, speed_table
from mlscale_twin.code_hash import code_hash
from mlscale_twin.profile import FOLDER, Compared, read_profile
from mlscale_twin.simulate import simulate

STEP = ClosedLoop(
    duration_s=160.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=50, clients=14)), think_mean_s=0.76
)


def test_each_record_has_its_own_hash() -> None:
    assert record_hash(CLAIMS) == record_hash(CLAIMS)
    assert len({code_hash(), record_hash(CLAIMS), record_hash(VALIDATION)}) == 3


def test_a_profile_names_the_runs_it_was_validated_against(tmp_path: Path) -> None:
    before, hash_before = read_profile("torchserve"), record_hash(VALIDATION)
    shutil.copy(FOLDER / "torchserve.json", tmp_path)
    verdicts = ("equivalent", "different", "equivalent")
    rows = [
        {
            "environment": "torchserve",
            "n": 8,
            "verdict": verdict,
            "not_claimed": verdict if verdict == "different" else "",
        }
        for verdict in verdicts
    ]
    compared = {"what": "hold-out runs", "runs": 8, "ratios": {"mean_response_s": (0.9, 1.2)}}
    record = {"verdicts": rows, "compared": {"torchserve": compared}}
    write_verdicts(record, [simulate("torchserve", schedule=STEP)], tmp_path)
    noted = read_profile(tmp_path / "torchserve.json")
    assert noted.validated.startswith("held against 8 live runs until 20")
    assert noted.validated.endswith(": 2 equivalent, 0 inconclusive, 1 different of 3 figures, 2 claimed")
    assert noted.error_of("mean_response_s") == "twin / live 0.90 to 1.20 (8 hold-out runs)"
    assert noted.error_of("t_slo_s") == "not compared in this figure"
    assert read_profile("ecs").error_of("mean_response_s") == "never compared with live runs"
    assert noted.sha256 == before.sha256
    assert noted == before.model_copy(update={"validated": noted.validated, "compared": noted.compared})
    assert record_hash(VALIDATION) == hash_before


def test_validated_profiles_say_how_far_the_twin_is_from_the_hold_out() -> None:
    compared = json.loads((places.reference() / VALIDATION).read_text())["compared"]
    for environment, values in compared.items():
        assert read_profile(environment).compared == Compared.model_validate(values)
        assert read_profile(environment).validated.startswith("held against")


@pytest.mark.parametrize("share", [6, pytest.param(1, marks=pytest.mark.proof)])
def test_other_profiles_say_how_far_the_twin_is_from_the_runs_of_their_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    """Of all these runs the twin is as far as recorded, of some of them at most as far."""
    some = [run for run in published("core", "rehearsal") if run.info.valid][::share]
    monkeypatch.setattr(twin_tables, "published", lambda *cells: some)
    for name in ("eks", "k3s"):
        shutil.copy(FOLDER / f"{name}.json", tmp_path)
    ((file, compared),) = write_comparisons(tmp_path).items()
    assert file.stem == "eks", "k3s is validated"
    shipped = read_profile("eks").compared
    assert shipped is not None
    runs = sum(run.info.environment == "eks" for run in some)
    assert (compared.what, compared.runs) == (shipped.what, runs)
    assert runs > 1
    for figure, (low, high) in compared.ratios.items():
        least, most = shipped.ratios[figure]
        assert 0.99 * least < low < high < 1.01 * most, figure
    if share == 1:
        assert runs == shipped.runs
        assert compared.ratios == {key: pytest.approx(ratios, rel=0.01) for key, ratios in shipped.ratios.items()}
    assert read_profile("eks").sha256 == read_profile(file).sha256


def test_an_answer_costs_as_much_under_light_load_as_under_much() -> None:
    """Within the margin of service time, as METHOD section 8 says; Ray Serve's polls are modelled, and excepted."""
    runs = [run for run in published("core", "rehearsal") if run.info.valid]
    table = speed_table(runs).set_index("environment")
    for environment in ("torchserve", "k3s", "eks"):
        low, high = re.findall(r"[\d.]+", table.loc[environment, "loaded / light"])[1:]
        assert 0.9 < float(low) < float(high) < 1.1, environment


@pytest.mark.proof
@pytest.mark.parametrize(("name", "command"), [(VALIDATION, cli.validate), (CLAIMS, cli.claims)])
def test_a_record_is_reproduced(
    name: str, command: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The validation by the published hold-out, and the paper's claims."""
    file = places.reference() / name
    if not file.exists():
        pytest.skip(f"no {name} is published")
    recorded = json.loads(file.read_text())
    assert recorded["code_sha256"] == record_hash(name), "the record is of another version of the code: write it again"
    written: dict[str, Any] = {}

    def keep(_: str, record: Mapping[str, Any]) -> Path:
        written.update(json.loads(json.dumps(record)))
        return tmp_path

    monkeypatch.setattr("mlscale_paper.twin_records.write_record", keep)
    command(recorded["draws"])
    del recorded["code_sha256"]
    pairs = zip(leaves(recorded), leaves(written), strict=True)
    assert [(path, old, new) for (path, old), (_, new) in pairs if not same(old, new)][:10] == []


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(child, f"{path}/{key}")
    else:
        yield path, value


def same(a: Any, b: Any) -> bool:
    """Within 1e-9, since other machines round differently."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
