"""The figures of the Kubernetes notebook, and the caption that names the cluster."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from mlscale.analysis.coldstart import PHASES
from mlscale.analysis.sharing import new_replica_share
from mlscale.environments.kubernetes.facts import hpa_defaults
from mlscale.figures import cold_starts, inference_by_period, sharing
from mlscale.plots import coldstart
from mlscale.plots.captions import caption
from mlscale.plots.style import display_name, plotted
from mlscale.runs import Run
from synthetic_runs import info, make_run

FACTS = {
    "distribution": "upstream Kubernetes (mlscale's one-node cluster)",
    "version": "v1.34.4",
    "hpa": hpa_defaults(["--horizontal-pod-autoscaler-sync-period=5s"], "its process"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    short = {"app": {"cpu_cores": 0.3, "cpu_period_s": 0.01, "max_replicas": 4}}
    made = {"core": {}, "again": {"seed": 1}, "kept": {"connections": "kept"}, "short": {"scaling": short}}
    return {
        name: make_run(folder / name, environment="k3s", level="container", facts=FACTS, **changes)
        for name, changes in made.items()
    }


def test_phases_of_plot_and_analysis_are_the_same() -> None:
    assert tuple(coldstart.PHASES) == PHASES


def test_bars_of_a_cold_start(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {name: [1.0, float("nan")] for name in PHASES}
    named = {"subject": ["app-x7", "app-b2"], "run_id": "r", "readiness_period_s": 1.0, "created_s": [9.0, 0.0]}
    starts = pd.DataFrame({**named, **seconds, "total_s": 8.0})
    monkeypatch.setattr(coldstart, "cold_starts_of", lambda _: starts)
    (axes,) = cold_starts([runs["core"]]).axes
    numbers = plotted(axes)
    assert numbers.groupby("subject")["seconds"].sum().to_dict() == {"app-x7": 8.0, "app-b2": 0.0}
    words = [label.get_text() for label in axes.get_yticklabels()]
    assert words == ["probe every 1 s, pod 1", "probe every 1 s, pod 2"], "by creation, not by a generated name"
    assert axes.patches[1].get_width() == 1.0, "app-x7 was created last"
    monkeypatch.setattr(coldstart, "cold_starts_of", lambda _: starts.iloc[:0])
    assert plotted(cold_starts([runs["core"]])).empty


def test_shares_by_connections(runs: dict[str, Run]) -> None:
    (axes,) = sharing([runs["core"], runs["kept"]]).axes
    numbers = plotted(axes)
    assert set(numbers["connections"]) == {"fresh", "kept"}
    mine = numbers[numbers["connections"] == "fresh"]["share"]
    assert mine.tolist() == new_replica_share(runs["core"])["share"].tolist()
    assert axes.lines[0].get_ydata().tolist() == pytest.approx((100 * mine).tolist())


def test_several_runs_show_their_spread(runs: dict[str, Run]) -> None:
    (axes,) = sharing([runs["core"], runs["again"], runs["kept"]]).axes
    assert "fresh connections (n = 2)" in [text.get_text() for text in axes.get_legend().get_texts()]
    both = plotted(axes)[lambda rows: rows["connections"] == "fresh"].groupby("t_s")["share"]
    drawn = axes.collections[0].get_paths()[0].get_extents()
    assert (drawn.y0, drawn.y1) == pytest.approx((100 * both.min().min(), 100 * both.max().max()), abs=0.1)
    (periods,) = inference_by_period([runs["core"], runs["again"], runs["short"]]).axes
    assert plotted(periods)["period_ms"].tolist() == [100.0, 100.0, 10.0]
    label = periods.get_legend().get_texts()[0].get_text()
    assert f"± {1000 * plotted(periods)['sd_s'].iloc[:2].mean():.0f} ms (2 runs" in label


def test_spread_by_period(runs: dict[str, Run]) -> None:
    numbers = plotted(inference_by_period([runs["core"], runs["short"]]))
    assert numbers["period_ms"].tolist() == [100.0, 10.0]
    run = runs["core"]
    early = run.requests[(run.requests["status"] == "ok") & (run.requests["done_s"] < float(run.info.step_s or 0))]
    assert numbers["sd_s"].iloc[0] == pytest.approx(early["inference_s"].std(ddof=0))


def test_the_caption_names_the_cluster_its_version_and_its_defaults(runs: dict[str, Run]) -> None:
    text = caption([runs["core"], runs["kept"]])
    assert text.count("Kubernetes is upstream Kubernetes (mlscale's one-node cluster) v1.34.4") == 1
    assert "sync period 5 s, tolerance 0.1, downscale stabilisation 300 s" in text
    assert "documented defaults where it does not show them" in text
    assert "K3s" not in text + display_name("k3s"), "a run on another Kubernetes is not called a K3s run"


def test_the_caption_states_what_the_runs_set_and_not_the_default(tmp_path: Path) -> None:
    scaling = {"app": {"downscale_stabilisation_s": 30, "upscale_stabilisation_s": None}}
    run = make_run(tmp_path / "run", environment="k3s", level="container", facts=FACTS, scaling=scaling)
    text = caption([run])
    assert "downscale stabilisation 30 s" in text
    assert "300 s, initial readiness" in text, "what no setting stands for is the controller's"
    assert "downscale stabilisation 300 s" not in text


def test_a_caption_without_kubernetes_says_nothing_of_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "Kubernetes" not in caption([run])
    assert info().facts == {}
