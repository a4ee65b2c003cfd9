"""What the figures of boot times show, read back from them."""

from __future__ import annotations

from typing import Any

import pytest

from mlscale.analysis.boot_time_response import NO_MACHINES, boot_time_rows
from mlscale.analysis.response import horizon_of
from mlscale.plots.boots import boot_parts, boot_response, boot_trajectories
from mlscale.plots.style import plotted
from mlscale.runs import Run
from synthetic_runs import Shape, make_run

LEVEL_S = 0.3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("boots")
    labels: dict[str, Any] = {"environment": "eks", "mode": "rehearsal", "level": "container+machine"}
    found = [make_run(folder / "plain", shape=Shape(detection_s=9.0, clients=(2, 18)), environment="k3s")]
    for boot_s in (60.0, 5.0, 30.0):
        scaling = {"app": {"cpu_cores": 0.3, "max_replicas": 4, "boot": f"{boot_s:g}s", "buffer_replicas": 0}}
        shape = Shape(boot_s=boot_s, detection_s=9.0, clients=(2, 18))
        found.append(make_run(folder / f"{boot_s:g}", shape=shape, scaling=scaling, **labels))
    return found


def test_trajectories_run_from_the_shortest_boot_to_the_longest(runs: list[Run]) -> None:
    axes = boot_trajectories(runs, boot_time_rows(runs, LEVEL_S), LEVEL_S)
    shown = plotted(axes)
    words = [panel.get_title(loc="left").partition(" (")[0] for panel in axes]
    assert words == ["room always there", "boot 5s", "boot 30s", "boot 60s"]
    assert list(dict.fromkeys(shown["variant"])) == [NO_MACHINES, *words[1:]]
    assert axes[-1].get_xlim()[1] == max(horizon_of(run) for run in runs)
    means = shown[shown["run_id"] == "mean"]
    late = means[means["t_s"] == 50.0].set_index("variant")["mean_s"]
    assert late["boot 60s"] > LEVEL_S > late["boot 5s"]
    assert [[text.get_text() for text in panel.texts] for panel in axes] == [[], *[["REHEARSAL"]] * 3]


def test_the_bars_and_the_line_are_of_the_rows(runs: list[Run]) -> None:
    rows = boot_time_rows(runs, LEVEL_S)
    bars = plotted(boot_parts(rows)).set_index("variant")
    assert bars.loc["boot 60s", "machine_s"] == pytest.approx(rows.set_index("variant").loc["boot 60s", "machine_s"])
    waited, free = boot_response(rows)
    assert sorted(plotted(waited)["t_slo_s"]) == sorted(rows.loc[rows["variant"] != NO_MACHINES, "t_slo_s"])
    assert plotted(free)["variant"].tolist() == [NO_MACHINES]
    assert "Rehearsal: each second of boot makes the recovery " in waited.figure.get_suptitle()
    assert len(boot_response(rows[rows["variant"] != NO_MACHINES])) == 1
