"""What the figures of boot times show, read back from them."""

from __future__ import annotations

from typing import Any

import pytest

from mlscale.analysis.boot_time_response import NO_MACHINES, boot_time_rows
from mlscale.figures import boot_parts, boot_response, timeline
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


def test_the_bars_and_the_line_are_of_the_rows(runs: list[Run]) -> None:
    rows = boot_time_rows(runs, LEVEL_S)
    bars = plotted(boot_parts(runs, LEVEL_S)).set_index("variant")
    assert bars.loc["boot 60s", "machine_s"] == pytest.approx(rows.set_index("variant").loc["boot 60s", "machine_s"])
    figure = boot_response(runs, LEVEL_S, rows=rows)
    waited, free = figure.axes
    assert sorted(plotted(waited)["t_slo_s"]) == sorted(rows.loc[rows["variant"] != NO_MACHINES, "t_slo_s"])
    assert plotted(free)["variant"].tolist() == [NO_MACHINES]
    assert "Rehearsal: each second of boot makes the recovery " in figure.get_suptitle()
    assert len(boot_response(runs, LEVEL_S, rows=rows[rows["variant"] != NO_MACHINES]).axes) == 1


def test_machines_stand_under_the_run_that_waited_for_them(runs: list[Run]) -> None:
    plain, waited = (timeline(run, LEVEL_S).axes for run in runs[:2])
    assert [panel.get_ylabel() for panel in plain] == ["response time (s)", "replicas", "cores in use"]
    assert [panel.get_ylabel() for panel in waited[3:]] == ["machines"]
    machines = plotted(waited[3])
    assert machines["booting"].max() > 0
    assert machines.iloc[-1][["booting", "joining"]].sum() == 0
    assert machines["ready"].iloc[-1] > 0
