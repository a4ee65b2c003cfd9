"""What README says is computed from runs, and lands in its marked blocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlscale.analysis.inference import compare
from mlscale.analysis.steady import catch_up_and_steady
from mlscale.analysis.summary import summarise
from mlscale.reporting.render import to_markdown
from mlscale.runs import MlscaleError, Run, Validity
from mlscale_paper.results import filled, results, said, summary, twin
from synthetic_runs import Shape, make_experiment

BOUND = Validity(valid=False, host_bound=True, reasons=("host-bound: over 90% of the host's CPU",))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    shapes = {"torchserve": Shape(), "rayserve": Shape(service_s=0.13)}
    made: list[Run] = make_experiment(folder / "valid", shapes, blocks=6)
    return made + make_experiment(folder / "bound", {"k3s": Shape()}, blocks=6, aa=False, validity=BOUND)


@pytest.fixture(scope="module")
def found(runs: list[Run]) -> dict[str, Any]:
    rows = summarise(runs, 0.6)
    more = pd.DataFrame({"value": [1234.56, float("nan"), 0.12345]}, index=pd.Index(["a", "b", "c"], name="what"))
    return results(runs, rows, compare(rows), 0.6, catch_up_and_steady(rows), {"One more": more})


def rendered(found: dict[str, Any]) -> str:
    return to_markdown(said(found))


def test_what_is_stated_is_plain_data(found: dict[str, Any], runs: list[Run]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["invalid"] == {"k3s": {"host-bound": 6}}
    assert found["settings"]["max_replicas"] == [4]
    assert (found["runs"], found["blocks"]) == (len(runs), 6)
    assert [row["compared"] for row in found["environments"]] == [6, 6, 0]


def test_the_sentence_has_the_ratio_above_one_and_its_interval(found: dict[str, Any]) -> None:
    row = next(row for row in found["effects"] if (row["a"], row["endpoint"]) == ("torchserve", "P1"))
    assert row["ratio"] < 1
    ends = f"{1 / row['ratio']:.2f} times as long on Ray Serve as on TorchServe"
    interval = f"(95 % interval {1 / row['high']:.2f} to {1 / row['low']:.2f})"
    text = rendered(found).partition("\n\n")[0]
    assert ends in text
    assert interval in text
    assert "not comparable: 6 of 6 runs of Kubernetes (HPA) are invalid" in text


def test_what_of_the_difference_is_catching_up_and_what_steady_state_is_said(found: dict[str, Any]) -> None:
    of = {row["part"]: row for row in found["parts"] if row["pair"] == "torchserve / rayserve"}
    assert of["P1"]["difference_s"] == pytest.approx(
        of["catch-up"]["difference_s"] + of["steady state"]["difference_s"]
    )
    text = rendered(found).partition("\n\n")[0]
    assert f": of the {-of['P1']['difference_s']:.2f} s between them, " in text
    assert f"{abs(of['steady state']['difference_s']):.2f} s (" in text


def test_one_block_is_told_without_intervals(runs: list[Run]) -> None:
    rows = summarise([run for run in runs if run.info.block == 1 and run.info.valid], 0.6)
    told = rendered(results(runs, rows, compare(rows), 0.6, catch_up_and_steady(rows)))
    assert "catching up" not in told
    assert "too few blocks" in told


def test_caveats_and_the_noise_floor_stand_beside_the_ratios(found: dict[str, Any]) -> None:
    first, *others = found["effects"]
    text = rendered({**found, "effects": [first | {"notes": "but rayserve is over L for fewer seconds"}, *others]})
    assert "; but Ray Serve is over L for fewer seconds |" in text
    (floor,) = [line for line in text.splitlines() if line.startswith("*Noise floor")]
    assert f"P1 mean response {first['aa_low']:.2f} to {first['aa_high']:.2f}; " in floor
    (blocks,) = [line for line in text.splitlines() if line.startswith("*Ratio of one pair that these blocks find")]
    assert f"logarithm {first['aa_sd_log']:.3f} and {first['sd_log']:.3f}), " in blocks


def test_a_further_table_stands_below(found: dict[str, Any]) -> None:
    text = rendered(found)
    assert "**One more**\n\n| what | value |\n| --- | --- |\n| a | 1235 |\n| b |  |\n| c | 0.123 |" in text


def test_the_twin_has_a_row_for_each_environment() -> None:
    verdict = {"environment": "k3s", "n": 6, "low": 0.64, "high": 0.89}
    record = {
        "verdicts": [
            {**verdict, "figure": "mean_response_s", "verdict": "different", "not_claimed": "different"},
            {**verdict, "figure": "detection_s", "verdict": "equivalent", "not_claimed": ""},
            {**verdict, "figure": "t_slo_s", "verdict": "equivalent", "not_claimed": "less wrong not noticed"},
        ],
        "rivals": [{"environment": "k3s", "twin": 0.2, "M/M/c": 0.3, "regression": float("nan")}],
        "controls": [
            {"environment": "k3s", "twin": twin, "rejected": share}
            for twin, share in [("as it is", 0.9), ("wrong", 0.8), ("less wrong", 0.7)]
        ],
    }
    row = to_markdown(twin(record)).splitlines()[2]
    assert row == (
        "| Kubernetes (HPA) | 6 | 2 | 0 | mean response 0.64 to 0.89 | 1 of 2 (not: less wrong) | until the decision | "
        "missed | twin 0.20, M/M/c 0.30 |"
    )


def test_a_block_is_filled_and_nothing_else_changes(tmp_path: Path) -> None:
    text = "a\n<!-- twin: by x -->\nold\n<!-- end of twin -->\nb\n"
    file = tmp_path / "results.md"
    file.write_text(text)
    assert filled(file, "twin", "new\n") == text.replace("old", "new")
    file.write_text(text.replace("old", "new"))
    assert filled(file, "twin", "new\n") == file.read_text()
    with pytest.raises(MlscaleError, match=r"results\.md: 0 blocks of results"):
        filled(file, "results", "new\n")


def test_the_summary_is_the_beginning_and_says_where(found: dict[str, Any]) -> None:
    *beginning, where = to_markdown(summary(found)).rstrip().split("\n\n")
    assert rendered(found).startswith("\n\n".join(beginning))
    assert f"{found['runs']} runs in 6 blocks" in where
