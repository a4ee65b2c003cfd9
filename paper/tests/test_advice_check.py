"""The live check of an advice: the plan, and its verdicts on runs of a simulated framework."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlscale.loadgen.schedule_files import read_recording
from mlscale.plots.style import plotted
from mlscale.reporting.render import to_markdown
from mlscale.runs import MlscaleError, Trace
from mlscale_experiment.attempts import IDENTITY, State
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.protocol import Bodies
from mlscale_paper import advice_check as module
from mlscale_paper import places
from mlscale_paper.advice_check import (
    FILE,
    check_advice,
    interval,
    judge,
    make_plan,
    plan_of,
    surely_better,
)
from mlscale_paper.advice_published import document, read
from mlscale_paper.plots.advice_check import predicted_and_measured
from mlscale_paper.protocol import default_protocol
from mlscale_paper.publish import publish_advice
from mlscale_paper.results import filled
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.objective import Figures, Objective
from synthetic_runs import Shape, make_run

OBJECTIVE = Objective(p95_s=1.0)
CHOICES = [
    {"traffic": "code", "environment": "torchserve", "name": f"torchserve-{name}", "policy": "fixed",
     "scaling": {"cpu_cores": 0.3}, "twin": {"slow": slow, "failed": 0.0, "usd_per_month": usd}}
    for name, slow, usd in (("advised", 0.0, 3.0), ("other-1", 0.2, 2.0), ("other-2", 0.3, 1.0))
]  # fmt: skip
TRAFFIC = {"code": {"schedule": {"loop": "open", "duration_s": 60.0, "rate": {"shape": "constant", "rate_rps": 2.0}}}}
CHOSEN: dict[str, Any] = {"p95_s": 1.0, "blocks": 3, "traffic": TRAFFIC, "choices": CHOICES}


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    protocol = default_protocol(Bodies(folder="photos", count=1))
    places = {"root": tmp_path, "figures": tmp_path, "bodies": tmp_path, "notebooks": {}}
    names, identity = ("torchserve",), {"protocol": protocol.sha256()}
    return Experiment(names, names, ("core",), 3, plan=(), protocol=protocol, identity=identity, **places)


def test_every_setting_once_in_each_block_in_another_order(experiment: Experiment) -> None:
    plan = plan_of(CHOSEN, experiment.seed)
    assert len(plan) == 3 * len(CHOICES)
    for block in (1, 2, 3):
        mine = [run for run in plan if run.block == block]
        assert {run.variant for run in mine} == {f"code-{choice['name']}" for choice in CHOICES}
        assert [run.position for run in mine] == [1, 2, 3]
    assert len({tuple(run.variant for run in plan if run.block == block) for block in (1, 2, 3)}) > 1
    assert len({run.folder for run in plan}) == len(plan)


def test_a_plan_is_a_piece_of_the_trace_that_the_host_can_serve(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SETTINGS", 40)
    times = np.sort(np.random.default_rng(0).uniform(0, 600, 6000))
    trace = tmp_path / "traffic_day.csv"
    trace.write_text("time_s\n" + "\n".join(f"{t_s:.3f}" for t_s in times) + "\n")
    own, shipped = tmp_path / "own.json", read_profile("torchserve")
    own.write_text(shipped.model_copy(update={"what": "this host"}).model_dump_json())
    plan = make_plan(experiment, [trace], 60.0, [own], lambda step, share: None)
    assert plan["profiles"] == {"own.json": read_profile(own).sha256}
    piece = plan["traffic"]["day"]
    assert piece["seconds"] == 60.0
    rates = [step["rate_rps"] for step in piece["schedule"]["rate"]["steps"]]
    assert max(rates) <= 1.3 * experiment.protocol.open_step_rps
    inside = read_recording(Trace(file=str(trace))).times_s
    inside = inside[(inside >= piece["from_s"]) & (inside < piece["from_s"] + 60)]
    assert sum(rates) * 10 == pytest.approx(len(inside) * piece["factor"], rel=0.02)
    names = [choice["name"] for choice in plan["choices"]]
    assert names[0] == "torchserve-advised"
    assert 2 <= len(names) <= 5
    assert all(choice["scaling"]["max_replicas"] <= experiment.protocol.replicas for choice in plan["choices"])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 0.0])
def test_a_piece_of_no_length_is_one_line(experiment: Experiment, seconds: float) -> None:
    with pytest.raises(MlscaleError, match="is not a duration"):
        check_advice(experiment, [], seconds)


def test_files_that_would_be_taken_for_the_same_are_refused(experiment: Experiment) -> None:
    with pytest.raises(MlscaleError, match="both be called 'load'"):
        check_advice(experiment, [Path("mon/load.csv"), Path("tue/load.csv")], 60.0)
    with pytest.raises(MlscaleError, match=r"both be called 'own\.json'"):
        check_advice(experiment, [], 60.0, [Path("one/own.json"), Path("two/own.json")])


def test_a_plan_is_of_what_it_was_made_for(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [{key: value for key, value in choice.items() if key != "traffic"} for choice in CHOICES]
    monkeypatch.setattr(module, "_choices", lambda *args: made)
    monkeypatch.setattr(module, "measure_missing", lambda planned, states, bar: states)
    days = []
    for day, gap_s in (("mon", 0.1), ("tue", 0.2)):
        days.append(tmp_path / day / "load.csv")
        days[-1].parent.mkdir()
        days[-1].write_text("time_s\n" + "\n".join(f"{gap_s * place:.1f}" for place in range(1000)) + "\n")
    for _ in range(2):
        assert list(check_advice(experiment, days[:1], 60.0)["verdict"]) == ["not measured"]
    own = tmp_path / "own.json"
    own.write_text(read_profile("torchserve").model_dump_json())
    changed: list[tuple[str, Experiment, Path, float, list[Path]]] = [
        ("--blocks", replace(experiment, blocks=2), days[0], 60.0, []),
        ("--environments", replace(experiment, environments=("torchserve", "k3s")), days[0], 60.0, []),
        ("--profile", experiment, days[0], 60.0, [own]),
        ("traces or --seconds", experiment, days[1], 60.0, []),
        ("traces or --seconds", experiment, days[0], 50.0, []),
    ]
    for named, other, trace, seconds, profiles in changed:
        with pytest.raises(MlscaleError, match=f"planned with other {named}"):
            check_advice(other, [trace], seconds, profiles)
    for broken in ("{", "{}", "[1]"):
        (tmp_path / "advice-check" / FILE).write_text(broken)
        with pytest.raises(MlscaleError, match=rf"{FILE}: broken"):
            check_advice(experiment, days[:1], 60.0)


def figures(slow: float, usd: float) -> Figures:
    return Figures(slow=slow, mean_s=0.3, sd_s=0.1, failed=0.0, usd_per_month=usd, replicas=2.0, peak=3)


def test_better_is_what_no_interval_leaves_in_doubt() -> None:
    fast = {block: figures(0.01, 5.0 + 0.1 * block) for block in range(3)}
    slow = {block: figures(0.5 + 0.02 * block, 2.0) for block in range(3)}
    cheap = {block: figures(0.02, 3.0 + 0.1 * block) for block in range(3)}
    assert surely_better(fast, slow, OBJECTIVE)
    assert not surely_better(slow, fast, OBJECTIVE)
    assert surely_better(cheap, fast, OBJECTIVE), "both meet the objective, so the cost decides"
    noisy = {0: figures(0.01, 1.0), 1: figures(0.01, 9.0), 2: figures(0.01, 5.0)}
    assert not surely_better(noisy, fast, OBJECTIVE)
    assert not surely_better(fast, noisy, OBJECTIVE)
    low, high = interval([1.0, 2.0, 3.0])
    assert (low, high) == (pytest.approx(2 - 4.303 / 3**0.5, abs=1e-3), pytest.approx(2 + 4.303 / 3**0.5, abs=1e-3))


def states(tmp_path: Path, experiment: Experiment, service_s: dict[str, float]) -> list[State]:
    made = []
    for run in plan_of(CHOSEN, experiment.seed):
        name = run.variant.removeprefix("code-torchserve-")
        shape = replace(Shape(baseline_s=20.0, horizon_s=40.0), service_s=service_s[name])
        scaling: dict[str, Any] = {"app": {"cpu_cores": 0.3, "min_replicas": 1}}
        live = make_run(tmp_path / run.folder, seed=run.block, shape=shape, scaling=scaling, environment="torchserve")
        made.append(State(run, (live,), (), 3))
    return made


def test_the_verdict_names_who_beats_the_advice(tmp_path: Path, experiment: Experiment) -> None:
    good = {"advised": 0.05, "other-1": 0.6, "other-2": 0.7}
    (row,) = judge(states(tmp_path / "good", experiment, good), CHOSEN).to_dict("records")
    assert row["verdict"] == "among the best two"
    assert row["wrong ranks"] == "none"
    bad = {"advised": 0.7, "other-1": 0.05, "other-2": 0.05}
    (row,) = judge(states(tmp_path / "bad", experiment, bad), CHOSEN).to_dict("records")
    assert row["verdict"] == "beaten by 2"
    assert "other-1 beats advised" in row["wrong ranks"]
    (row,) = judge([], CHOSEN).to_dict("records")
    assert row["verdict"] == "not measured"


def test_what_is_published_is_judged_and_drawn_alike(tmp_path: Path) -> None:
    root, own = tmp_path / "advice-check", tmp_path / "own.json"
    own.write_text(read_profile("torchserve").model_dump_json())
    chosen = {**CHOSEN, "profiles": {"own.json": read_profile(own).sha256}}
    service_s = {"advised": 0.05, "other-1": 0.6, "other-2": 0.7}
    for run in plan_of(chosen, 0):
        base_s = service_s[run.variant.removeprefix("code-torchserve-")]
        shape = replace(Shape(baseline_s=20.0, horizon_s=40.0), service_s=base_s * (1 + 0.02 * run.block))
        settings: dict[str, Any] = {"app": {"cpu_cores": 0.3, "min_replicas": 1}}
        make_run(root / run.folder / "attempt-0", shape=shape, scaling=settings, environment="torchserve")
    (root / FILE).write_text(json.dumps(chosen))
    (root / IDENTITY).write_text('{"seed": 0}')
    with pytest.raises(MlscaleError, match="made with other profiles"):
        publish_advice(root, [], tmp_path / "advice")
    copy = read(publish_advice(root, [own], tmp_path / "advice"))
    assert [state.done for state in copy.states] == [True] * 9
    pd.testing.assert_frame_equal(copy.judged(), read(root).judged(), rtol=1e-3)
    settings_table = copy.settings()
    pd.testing.assert_frame_equal(settings_table, read(root).settings(), rtol=1e-3)
    shown = plotted(predicted_and_measured(settings_table, copy.judged(), copy.limit_s))
    (kept,) = (tmp_path / "advice/profiles").iterdir()
    again = read(publish_advice(root, [kept], tmp_path / "advice"))
    assert len(again.runs) == 9, "published again with the profiles that lie in the folder"
    assert kept.read_text() == own.read_text()
    assert list(shown["name"]) == [choice["name"] for choice in CHOICES]
    assert list(shown["twin"]) == [100 * choice["twin"]["slow"] for choice in CHOICES]  # type: ignore[index]


def test_the_page_says_what_the_published_check_says() -> None:
    page = places.checkout() / "docs/strategy.md"
    assert filled(page, "advice", to_markdown(document())) == page.read_text()
