"""Published runs are smaller and say the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlscale.analysis.host_use import host_use
from mlscale.analysis.resources import cpu_by_role, throttling
from mlscale.analysis.summary import summarise
from mlscale.analysis.validity import judge
from mlscale.runs import ClosedLoop, MlscaleError, ResourceSample, Role, Run, load_run, load_runs
from mlscale.runs.schedule import ClosedStage
from mlscale_experiment.attempts import State, claim
from mlscale_experiment.protocol import Bodies, write_protocol
from mlscale_paper import publish as module
from mlscale_paper.design import plan
from mlscale_paper.protocol import default_protocol
from mlscale_paper.publish import compact, experiment_in, publish_runs
from synthetic_runs import Shape, info, make_experiment, requests_frame, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("runs")
    return make_experiment(root, {"torchserve": Shape(), "rayserve": Shape(service_s=0.13)}, blocks=2)


def test_what_is_published_gives_the_same_numbers(runs: list[Run], tmp_path: Path) -> None:
    root = runs[0].path.parents[1]
    reference = publish_runs(runs, root, tmp_path / "reference")
    published = load_runs(reference)
    assert [run.path.relative_to(reference) for run in published] == sorted(run.path.relative_to(root) for run in runs)
    assert {run.info.run_id: run.info for run in published} == {run.info.run_id: run.info for run in runs}
    before, after = (
        summarise(sorted(each, key=lambda run: run.info.run_id), 0.6).set_index("run_id").select_dtypes("number")
        for each in (runs, published)
    )
    pd.testing.assert_frame_equal(before, after, rtol=2e-3, atol=2e-4, check_dtype=False)


def test_clients_that_join_at_the_step_are_published_at_the_step(tmp_path: Path) -> None:
    t0_s = 45.1
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=t0_s, clients=12))
    schedule = ClosedLoop(duration_s=165.0, stages=stages, think_mean_s=0.45)
    requests = requests_frame([10.1, *[t0_s] * 10], 0.1, load_stage=np.array([0, *[1] * 10], dtype=np.int32))
    run = write_run(tmp_path / "run", requests, info(step_s=t0_s, schedule=schedule))
    published = pd.read_parquet(compact(run, tmp_path / "small") / "requests.parquet")
    assert list(published["intended_s"][1:]) == [t0_s] * 10
    assert published["intended_s"][0] == pytest.approx(10.1, abs=2**-17)


# What uses CPU, and from when on it is sampled.
SUBJECTS: dict[str, tuple[Role, float]] = {
    "load_generator": ("load_generator", -30.0),
    "data_plane": ("data_plane", -30.0),
    "replica-1": ("replica", -30.0),
    "replica-2": ("replica", 52.3),
}


def sampled(path: Path, seed: int) -> Run:
    """A run whose samples come every half second, late now and then, some rates of which are unknown, as each subject's
    first. How busy its host is, and by whom, is drawn: whether it was the limit hangs on every sample."""
    rng = np.random.default_rng(seed)
    times = -30.0 + np.cumsum(rng.uniform(0.45, 0.55, 400) + (rng.random(400) < 0.02) * rng.uniform(0, 3, 400))
    own, others = rng.uniform(0.2, 0.55), rng.uniform(0.0, 0.9)
    samples, used = [], rng.uniform(0.0, others, len(times))
    for subject, (role, from_s) in SUBJECTS.items():
        mine = times >= from_s
        rates = rng.uniform(0.0, 2 * own, len(times)) * mine
        used += rates
        rates[rng.random(len(times)) < 0.01] = np.nan
        rates[np.argmax(mine)] = np.nan
        for number, (t_s, cores) in enumerate(zip(times[mine], rates[mine], strict=True)):
            quota = (10.0 * number, 4.0 * number, 0.031 * number) if role == "replica" else ()
            samples.append(ResourceSample(float(t_s), "app", subject, role, float(cores), 1e8, *quota))
    for t_s, cores in zip(times, np.minimum(used, 2.0), strict=True):
        samples.append(ResourceSample(float(t_s), "app", "host", "host", float(cores), 1e9, stolen_cores=0.05 * others))
    requests = requests_frame(np.sort(rng.uniform(0, 160, 600)), rng.uniform(0.05, 0.4, 600))
    return write_run(path, requests, info(run_id=path.name), samples)


def test_a_copy_is_judged_like_the_run_and_has_its_cpu_seconds(tmp_path: Path) -> None:
    verdicts = set()
    for seed in (0, 1, 2, 4, 6, 7):  # two of each verdict
        run = sampled(tmp_path / f"run-{seed}", seed)
        copy = load_run(compact(run, tmp_path / f"copy-{seed}"))
        verdicts.add((judge(run).host_bound, judge(run).disturbed))
        assert judge(copy) == judge(run)
        pd.testing.assert_frame_equal(host_use(copy), host_use(run), rtol=0, atol=1e-4)
        for from_s, to_s in [(0.0, 165.0), (45.0, 165.0), *((float(k), float(k + 1)) for k in (45, 52, 59))]:
            used, theirs = (cpu_by_role(each.resources, from_s, to_s) for each in (run, copy))
            pd.testing.assert_frame_equal(used, theirs, rtol=0, atol=1e-4 * (to_s - from_s))
            told, again = (throttling(each.resources, from_s, to_s) for each in (run, copy))
            assert again == pytest.approx(told, abs=1e-4, nan_ok=True)
    assert len(verdicts) == 3, "a verdict that is always the same tests nothing"


def test_publishing_again_replaces_the_whole(runs: list[Run], tmp_path: Path) -> None:
    root = runs[0].path.parents[1]
    publish_runs(runs, root, tmp_path / "reference")
    (tmp_path / "reference/claims.json").write_text("{}")
    publish_runs(runs[:1], root, tmp_path / "reference")
    assert len(load_runs(tmp_path / "reference")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]
    assert (tmp_path / "reference/claims.json").read_text() == "{}", "what took long to compute stays"


def test_too_much_is_refused_and_what_was_there_stays(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = runs[0].path.parents[1]
    publish_runs(runs[:1], root, tmp_path / "reference")
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    with pytest.raises(MlscaleError, match="more than"):
        publish_runs(runs, root, tmp_path / "reference")
    assert len(load_runs(tmp_path / "reference")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


def test_without_a_run_what_was_there_stays(runs: list[Run], tmp_path: Path) -> None:
    root = runs[0].path.parents[1]
    publish_runs(runs[:1], root, tmp_path / "reference")
    with pytest.raises(MlscaleError, match="no run was measured"):
        publish_runs([], root, tmp_path / "reference")
    assert len(load_runs(tmp_path / "reference")) == 1


def test_an_experiment_is_found_as_it_was_measured(tmp_path: Path) -> None:
    protocol = default_protocol(Bodies(folder="photos/load", count=1))
    write_protocol(tmp_path / "protocol.json", protocol, tmp_path)
    identity: dict[str, str | int | list[str]] = {"protocol": protocol.sha256(), "seed": 3}
    claim(tmp_path, identity)
    with pytest.raises(MlscaleError, match="no cell was measured"):
        experiment_in(tmp_path)
    (tmp_path / "holdout").mkdir()
    held_out = experiment_in(tmp_path)
    assert {run.cell for run in held_out.plan} == {"holdout"}
    assert {run.environment for run in held_out.plan} == {"torchserve", "rayserve", "k3s", "eks"}
    for name in ("block-02", "block-01.bak"):
        (tmp_path / "core" / name).mkdir(parents=True)
    claim(tmp_path, {**identity, "environments": ["torchserve"]})
    both = experiment_in(tmp_path)
    assert (both.environments, both.blocks, both.seed) == (("torchserve",), 2, 3)
    (tmp_path / "experiment.json").write_text("{}")
    with pytest.raises(MlscaleError, match="no experiment was measured"):
        experiment_in(tmp_path)


def test_an_environment_that_the_hold_out_left_out_is_not_missed(runs: list[Run]) -> None:
    planned = plan(["torchserve", "rayserve"], ["core", "holdout"], 1, default_protocol(Bodies(folder="p", count=1)))
    begun = next(run for run in planned if run.cell == "holdout" and run.environment == "torchserve")
    states = [State(each, (runs[0],) if each == begun else (), (), 3) for each in planned]
    wanted = [state.planned for state in module._required(states)]
    assert wanted == [run for run in planned if run.cell == "core" or run.environment == "torchserve"]
