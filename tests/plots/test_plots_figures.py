"""Every figure is drawn, and the numbers that it shows are the runs' numbers."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgb

from experiment_runs import LEVEL_S, SHAPES
from mlscale import figures
from mlscale.analysis import design
from mlscale.analysis.inference import compare
from mlscale.analysis.moving import moving
from mlscale.analysis.resources import SERVING
from mlscale.analysis.summary import summarise
from mlscale.figures import estimation, resources, response, sigma, timeline, trajectory
from mlscale.plots.captions import caption
from mlscale.plots.style import NOT_VALID, colour, in_order, plain_log_ticks, plotted
from mlscale.runs import MlscaleError, Run, Validity
from mlscale_paper.plots.predictions import claim_ratios
from synthetic_runs import Shape, info, make_run, requests_frame, write_run

mpl.use("agg")

SIMULATED: dict[str, Any] = {
    "mode": "simulated",
    "facts": {"profile": {"what": "of a test", "validated": "not validated"}},
}


@pytest.fixture(scope="module")
def rows(experiment: list[Run]) -> pd.DataFrame:
    return summarise(experiment, LEVEL_S)


@pytest.fixture(scope="module")
def own(experiment: list[Run]) -> list[Run]:
    return [run for run in experiment if run.info.aa_label != "B"]


@pytest.fixture(scope="module")
def table(rows: pd.DataFrame) -> pd.DataFrame:
    return compare(rows)


def _texts(figure: Any) -> str:
    return " | ".join(text.get_text() for text in figure.findobj(mpl.text.Text))


def test_every_figure_can_be_written(
    experiment: list[Run], own: list[Run], rows: pd.DataFrame, table: pd.DataFrame
) -> None:
    drawn = [
        trajectory(own, LEVEL_S),
        estimation(experiment, LEVEL_S, rows=rows, table=table),
        response(experiment, LEVEL_S, rows=rows),
        resources(own, LEVEL_S, rows=rows),
        sigma(experiment, LEVEL_S, rows=rows),
        timeline(experiment[0], LEVEL_S),
    ]
    for number, figure in enumerate(drawn):
        for kind in ("pdf", "png")[: 1 if number else 2]:
            out = io.BytesIO()
            figure.savefig(out, format=kind)
            assert out.tell() > 5000
        assert len(plotted(figure))


def test_importing_the_plots_takes_little_more_than_pandas_and_matplotlib() -> None:
    code = (
        "import sys\n"
        "from mlscale.plots import captions, estimates, parts, spreads, style, timelines, trajectories, usage\n"
        "print(*{'scipy', 'seaborn', 'IPython', 'aiohttp'} & sys.modules.keys())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_figures_do_not_pile_up(own: list[Run]) -> None:
    before = mpl.pyplot.get_fignums()
    trajectory(own, LEVEL_S)
    assert mpl.pyplot.get_fignums() == before


def test_trajectory_shows_the_moving_mean_of_each_run(own: list[Run]) -> None:
    axes = trajectory(own, LEVEL_S).axes
    numbers = plotted(axes[0])
    assert set(numbers.environment) == {"torchserve"}
    run = next(run for run in own if run.info.environment == "torchserve")
    shown = numbers[(numbers.run_id == run.info.run_id) & (numbers.view == "done")]
    expected = moving(run.requests, at_s=run.info.step_s + shown.t_s.to_numpy())
    np.testing.assert_allclose(shown.mean_s, expected.mean_s)
    np.testing.assert_allclose(shown.sd_s, expected.sd_s)
    drawn = axes[0].lines[0].get_xydata()
    np.testing.assert_allclose(drawn[:, 1], shown.mean_s)


def test_trajectory_medians_and_replicas(own: list[Run]) -> None:
    figure = trajectory(own, LEVEL_S)
    numbers = plotted(figure.axes[1])
    single = numbers[(numbers.run_id != "median") & (numbers.view == "done")]
    middle = numbers[(numbers.run_id == "median") & (numbers.view == "done")]
    np.testing.assert_allclose(middle.mean_s, single.groupby("t_s").mean_s.median())
    replicas = plotted(figure.axes[3])
    assert replicas[replicas.t_s == replicas.t_s.max()].ready.unique().tolist() == [4.0]
    assert replicas[replicas.t_s < 0].ready.dropna().unique().tolist() == [1.0]
    assert "2 → 12 clients" in _texts(figure)
    assert "L = 0.3 s" in _texts(figure)
    assert "Back under L = 0.3 s after the load step: TorchServe + controller after " in _texts(figure)


def test_a_recovery_that_never_came_is_said(tmp_path: Path) -> None:
    shape = Shape(baseline_s=20.0, horizon_s=30.0, replicas=1)
    axes = trajectory([make_run(tmp_path / "r", shape=shape)], LEVEL_S)
    assert "never under L for 5 s\nover L " in _texts(axes)
    assert "TorchServe + controller not within 30 s" in _texts(axes)


def test_trajectory_needs_a_step(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", requests_frame(np.arange(0, 165, 0.1), 0.1), info(step_s=None))
    with pytest.raises(MlscaleError, match="load step"):
        trajectory([run])


DRAW: dict[str, Callable[[list[Run]], Any]] = {
    "trajectory": figures.trajectory,
    **{
        name: partial(getattr(figures, name), level_s=LEVEL_S)
        for name in ("response", "sigma", "resources", "estimation", "boot_parts", "boot_response")
    },
    "variants": lambda runs: figures.variants({"a": runs}, ["k3s"], LEVEL_S),
    "cold_starts": figures.cold_starts,
    "sharing": figures.sharing,
    "inference_by_period": figures.inference_by_period,
}


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_of_no_run_is_one_line(name: str) -> None:
    with pytest.raises(MlscaleError, match="no run is given"):
        DRAW[name]([])


@pytest.mark.parametrize("name", DRAW.keys() - {"cold_starts", "sigma"})
def test_a_figure_of_a_load_test_s_run_is_one_line(name: str, tmp_path: Path) -> None:
    load_test = info(step_s=None, environment="none", level="none", arm="none", scaling={})
    run = write_run(tmp_path / "r", requests_frame(np.arange(0, 165, 0.1), 0.1), load_test)
    with pytest.raises(MlscaleError):
        DRAW[name]([run])


def test_estimation_shows_runs_and_the_tables_effects(
    experiment: list[Run], rows: pd.DataFrame, table: pd.DataFrame
) -> None:
    figure = estimation(experiment, LEVEL_S, rows=rows, table=table)
    axes = np.reshape(figure.axes, (2, 3))
    values = plotted(axes[1, 0])
    np.testing.assert_allclose(np.sort(values.value), np.sort(rows.mean_response_s))
    effect = plotted(axes[0, 0]).iloc[0]
    dot = axes[0, 0].lines[2].get_xydata()[0]
    assert dot[0] == pytest.approx(effect.ratio)
    assert effect.ratio == pytest.approx(table[table.endpoint == "P1"].ratio.iloc[0])
    text = _texts(figure)
    assert f"{effect.ratio:.2f} [{effect.low:.2f}, {effect.high:.2f}], p < 0.001" in text
    assert f"Mean response after the load step: TorchServe + controller {effect.ratio:.2f} times Ray Serve" in text
    band = axes[0, 0].collections[0].get_paths()[0].get_extents()
    assert (band.x0, band.x1) == pytest.approx((effect.aa_low, effect.aa_high))
    for panel in axes[1]:
        low, high = panel.get_ylim()
        assert sum(low <= tick <= high for tick in panel.get_yticks()) >= 3


def test_estimation_without_intervals_or_comparability(experiment: list[Run], rows: pd.DataFrame) -> None:
    one = rows[rows.block == 1]
    assert "no interval (1 block)" in _texts(estimation(experiment, LEVEL_S, rows=one))
    bad = rows.copy()
    bad.loc[bad.environment == "rayserve", "valid"] = [False] * 3 + [True] * 6
    figure = estimation(experiment, LEVEL_S, rows=bad)
    axes = np.reshape(figure.axes, (2, 3))
    assert _texts(figure).count("not comparable: 3 of 9 runs of Ray Serve were invalid") == 1
    assert not axes[0, 0].collections, "no band where there is no ratio"
    assert not axes[0, 0].lines
    crosses = [line for line in axes[1, 0].lines if line.get_marker() == "x"]
    assert sum(len(line.get_xdata()) for line in crosses) == 3


def test_an_environment_without_a_valid_run_stays_grey_and_says_why(own: list[Run], rows: pd.DataFrame) -> None:
    why = "host-bound: 12 % of the time over 90 % busy (at most 5 %)"
    look = Validity(valid=False, host_bound=True, pre_scaled=False, reasons=(why,))
    runs = [own[0], next(run for run in own if run.info.environment != own[0].info.environment)]
    bad = replace(runs[1], info=runs[1].info.model_copy(update={"validity": look}))
    quick = rows[rows.run_id.isin([run.info.run_id for run in runs])].assign(block=1, aa_label=None)
    lost = quick.run_id == bad.info.run_id
    quick = quick.assign(valid=~lost, reasons=np.where(lost, why, ""))
    assert set(design.runs_for_figures(quick).run_id) == set(quick.run_id)
    reason = "not valid: host-bound, 12 % of the time over 90 % busy"
    for figure in (trajectory([runs[0], bad], LEVEL_S), response(runs, LEVEL_S, rows=quick)):
        assert reason in _texts(figure).replace("\n", " ")
        assert NOT_VALID in {line.get_color() for panel in figure.axes for line in panel.lines}
    assert "not comparable: 1 of 1 run of" in _texts(estimation(runs, LEVEL_S, rows=quick))
    assert reason in _texts(timeline(bad, LEVEL_S)).replace("\n", " ")
    (cost,) = resources([runs[0], bad], LEVEL_S, rows=quick).axes
    assert NOT_VALID in {to_hex(bar.get_facecolor()).upper() for bar in cost.patches}


def test_invalid_runs_are_dashed_and_enter_no_median(own: list[Run]) -> None:
    mine = [run for run in own if run.info.environment == "rayserve"][:3]
    look = Validity(valid=False, host_bound=True, pre_scaled=False, reasons=("host-bound",))
    some = [*mine[:2], replace(mine[2], info=mine[2].info.model_copy(update={"validity": look}))]
    figure = trajectory(some, LEVEL_S)
    shown, without = plotted(figure.axes[0]), plotted(trajectory(mine[:2], LEVEL_S).axes[0])
    assert set(shown.run_id) - set(without.run_id) == {mine[2].info.run_id}
    middles = [numbers.query("run_id == 'median' and view == 'done'").mean_s for numbers in (shown, without)]
    np.testing.assert_allclose(*middles)
    assert figure.axes[0].lines[2].get_linestyle() == "--"
    assert "Ray Serve\nn = 2, 1 invalid" in _texts(figure)
    assert "invalid runs, not in the median" in _texts(figure)
    assert "1 of 3 runs of Ray Serve were invalid" in _texts(figure)


def test_the_recovery_is_marked_on_the_curve_that_it_is_about(own: list[Run]) -> None:
    panel = trajectory(own, LEVEL_S).axes[0]
    (mark,) = [line for line in panel.lines if line.get_marker() == "v"]
    curve = plotted(panel).query("run_id == 'median' and view == 'intended'")
    ((at, height),) = mark.get_xydata()
    assert height == pytest.approx(np.interp(at, curve.t_s, curve.mean_s))


def test_response_parts_show_each_run_and_mark_censored_ones(experiment: list[Run], rows: pd.DataFrame) -> None:
    cut = rows.copy()
    cut.loc[0, ["t_slo_s", "t_slo_censored"]] = [35.0, True]
    axes = response(experiment, LEVEL_S, rows=cut)
    numbers = plotted(axes)
    detection = numbers[(numbers.milestone == "detection_s") & (numbers.environment == "rayserve")]
    np.testing.assert_allclose(detection.value_s, rows[rows.environment == "rayserve"].detection_s)
    assert numbers[numbers.censored].value_s.tolist() == [35.0]
    assert "censored at H" in _texts(axes)
    assert "censored at H" not in _texts(response(experiment, LEVEL_S, rows=rows))
    assert "machine" not in _texts(axes)


def test_resources_add_up_by_role(own: list[Run], rows: pd.DataFrame) -> None:
    (cost,) = resources(own, LEVEL_S, rows=rows).axes
    numbers = plotted(cost)
    ray = numbers.query("environment == 'rayserve' and run_id == 'mean' and span == ''")
    expected = 1000 * rows[rows.environment == "rayserve"].cpu_per_answer_s.mean()
    assert ray.cpu_ms.sum() == pytest.approx(expected)
    assert sum(bar.get_width() for bar in cost.patches[6:9]) == pytest.approx(ray.cpu_ms.sum())


def test_steady_state_stands_beside_start_ups_where_it_is_known(own: list[Run], rows: pd.DataFrame) -> None:
    columns = ["cpu_per_answer_s", *(f"cpu_per_answer_{role}_s" for role in SERVING)]
    more = rows.assign(**{f"{column[:-1]}steady_s": 0.5 * rows[column] for column in columns})
    (cost,) = resources(own, LEVEL_S, rows=more).axes
    sums = plotted(cost).query("run_id == 'mean'").groupby(["environment", "span"]).cpu_ms.sum()
    np.testing.assert_allclose(2 * sums.xs("steady_", level="span"), sums.xs("", level="span"))
    assert [label.get_text() for label in cost.get_yticklabels()][-2:] == [
        "Ray Serve, with start-ups",
        "Ray Serve, steady state",
    ]


def test_the_bar_is_sigma_over_all_windows_and_its_parts_sum_to_it(experiment: list[Run], rows: pd.DataFrame) -> None:
    figure = sigma(experiment, LEVEL_S, rows=rows.assign(windows_split_share=0.75))
    numbers = plotted(figure)
    np.testing.assert_allclose(numbers.groupby("environment")["share"].sum(), 1.0)
    for name, mine in rows.groupby("environment"):
        sigma_s = float(np.sqrt(mine["sigma_total_s2"].mean()))
        drawn = numbers[(numbers["environment"] == name) & numbers["part"].notna()]
        np.testing.assert_allclose(drawn["sigma_s"], sigma_s)
        assert f"{1000 * sigma_s:.0f} ms" in _texts(figure)
        assert any(bar.get_width() == pytest.approx(1000 * sigma_s) for bar in figure.axes[0].patches)
    assert "75 % of windows split; 50 % of quota periods throttled" in _texts(figure)


def test_a_bar_that_could_not_be_split_has_its_length_all_the_same(experiment: list[Run], rows: pd.DataFrame) -> None:
    parts = ["sigma_within_replicas_s2", "sigma_between_replicas_s2", "sigma_bodies_s2", "sigma_trend_s2"]
    unsplit = rows.assign(windows_split_share=0.0, **dict.fromkeys(parts, np.nan))
    axes = sigma(experiment, LEVEL_S, rows=unsplit)
    assert plotted(axes)["share"].isna().all()
    assert (plotted(axes)["sigma_s"] > 0).all()
    assert "not split" in _texts(axes)


def test_claims_have_one_verdict_each_and_what_decides() -> None:
    values: dict[str, Any] = {"ratio": 1.9, "low": 0.9, "high": 3.0, "exact_low": 1.5, "exact_high": 2.5}
    rows = [
        {"claim": claim, "what": what, "figure": figure, "verdict": verdict, "right": right, **values}
        for claim, what, figure, verdict, right in (
            ("F1", "K3s and ECS on EC2", "mean", "implied", 0.99),
            ("F1", "K3s and ECS on EC2", "spread", "undecided", 0.8),
            ("F3", "ECS on EC2 and EKS with Karpenter", "mean", "contradicted", 0.01),
            ("F4", "locally: TorchServe and K3s", "mean", "implied", 1.0),
        )
    ]
    verdicts = {"F1": "undecided", "F3": "contradicted", "F4": "contradicted"}
    axes = claim_ratios({"rows": rows, "verdicts": verdicts}, {"F4": "measured live: 1.9"})
    text = _texts(axes.figure)
    assert "Simulated: F1 undecided, F3 contradicted, F4 contradicted" in text
    assert "K3s and ECS on EC2, spread" in text
    assert "ECS on EC2 and EKS with Karpenter, mean; measured live: 1.9" in text, "F4 fails by F3"
    assert list(plotted(axes)["claim"]) == ["F1", "F3", "F3"]
    marks = [line for line in axes.lines if line.get_marker() not in ("None", None, "")]
    assert [list(mark.get_data(orig=True)[0]) for mark in marks] == [[1.9]] * 3, "one row a claim"


def test_marks_of_the_mode_lie_behind_the_data(tmp_path: Path) -> None:
    panel = trajectory([make_run(tmp_path / "r", **SIMULATED)], LEVEL_S).axes[0]
    (mark,) = [text for text in panel.texts if text.get_gid() == "mode"]
    assert mark.get_zorder() < min(artist.get_zorder() for artist in [*panel.lines, *panel.collections])


def test_timeline_shows_failures(tmp_path: Path) -> None:
    shape = Shape(baseline_s=20.0, horizon_s=30.0, failure_share=0.02)
    run = make_run(tmp_path / "r", shape=shape)
    failures = int((run.requests.status != "ok").sum())
    assert f"{failures} failures (count as 30 s)" in _texts(timeline(run, LEVEL_S))


def test_a_run_with_next_to_nothing_in_it_is_drawn(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", requests_frame([50.0], 0.1), info())
    for figure in (timeline(run, 0.5), trajectory([run], 0.5)):
        figure.savefig(io.BytesIO(), format="png")


DRAWN: list[Callable[[list[Run], pd.DataFrame], Any]] = [
    lambda runs, rows: trajectory(runs, LEVEL_S),
    lambda runs, rows: timeline(runs[0], LEVEL_S),
    lambda runs, rows: response(runs, LEVEL_S, rows=rows),
    lambda runs, rows: resources(runs, LEVEL_S, rows=rows),
    lambda runs, rows: sigma(runs, LEVEL_S, rows=rows),
]


@pytest.mark.parametrize("draw", DRAWN)
def test_simulated_runs_are_marked_and_live_ones_are_not(
    tmp_path: Path, own: list[Run], rows: pd.DataFrame, draw: Any
) -> None:
    run = make_run(tmp_path / "r", shape=SHAPES["rayserve"], environment="rayserve", **SIMULATED)
    assert "SIMULATED" in _texts(draw([run], summarise([run], LEVEL_S)))
    assert "SIMULATED" not in _texts(draw(own[:2], rows))


def test_caption_names_host_quota_mode_cell_and_numbers(experiment: list[Run]) -> None:
    text = caption(experiment, note="A note.")
    for words in (
        "Live on Some CPU @ 2.5 GHz, 2 of 2 cores",
        "0.3 core per replica, 100 ms quota period",
        "processes, not containers",
        "Cell core: arm matched, closed loop, fresh connections",
        "18 runs in 6 blocks",
        "A note.",
    ):
        assert words in text
    assert caption([]) == "No runs."


def test_a_caption_claims_no_quota_that_was_not_in_force(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", facts={"sandbox": {"limited": False}})
    assert "no CPU quota: replicas share all cores" in caption([run])
    assert "quota period" not in caption([run])


def test_a_caption_without_runs() -> None:
    assert caption([], note="Theory") == "Theory."


def test_colours_are_fixed_and_stay_apart_for_the_colour_blind() -> None:
    assert colour("mine") == colour("mine")
    # Machado, Oliveira and Fernandes (2009), severity 1: protan, deutan, tritan.
    views = {
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    }
    for view in views.values():
        seen = {
            name: np.clip(np.asarray(view) @ np.asarray(to_rgb(c)) ** 2.2, 0, 1) ** (1 / 2.2)
            for name, c in ((name, colour(name)) for name in ("torchserve", "rayserve", "k3s", "ecs", "eks"))
        }
        for a, b in combinations(seen, 2):
            assert np.linalg.norm(seen[a] - seen[b]) > 0.11, (a, b)


def test_environments_keep_their_order() -> None:
    assert in_order(["eks", "mine", "torchserve", "eks"]) == ["torchserve", "eks", "mine"]


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.1), (0.45, 1.2), (0.3, 3.0), (0.05, 20.0), (0.001, 1000.0)])
def test_ticks_of_a_logarithmic_axis_are_round_and_enough(low: float, high: float) -> None:
    axes = mpl.figure.Figure().subplots()
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    plain_log_ticks(axes.xaxis)
    ticks = axes.get_xticks()
    assert len(ticks) >= 3
    assert all(low <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick) for tick in ticks)


def test_axes_that_were_not_drawn_here_have_no_numbers() -> None:
    with pytest.raises(ValueError, match="no axes"):
        plotted(mpl.figure.Figure().subplots())
