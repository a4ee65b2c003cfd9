"""Every figure: runs in, a matplotlib Figure out, with its caption as the figure's label (``figure.get_label()``).

``level_s`` is L, the highest moving mean that counts as good, s. ``rows`` is `mlscale.summarise` of the same runs,
computed here if omitted. `mlscale.plots` has the same plots as axes, for figures of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def trajectory(runs: Sequence[Run], level_s: float | None = None) -> Figure:
    """Moving mean and spread of the response, and replicas, around the step; a column per environment."""
    from mlscale.plots.trajectories import trajectory

    return _drawn(lambda: trajectory(runs, level_s), runs)


def timeline(run: Run, level_s: float | None = None, *, which: str = "") -> Figure:
    """One run: every response, replicas with their decisions, cores by role. ``which``: how it was chosen."""
    from mlscale.plots.timelines import timeline

    return _drawn(lambda: timeline(run, level_s, which=which), [run])


def machine_timeline(run: Run, level_s: float | None = None, *, which: str = "") -> Figure:
    """One run in which machines scale too: load, response, pods by state, machines by state."""
    from mlscale.plots.machines import joined_timeline

    return _drawn(lambda: joined_timeline(run, level_s, which=which), [run])


def response(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Milestones after the step: first decision, first replica, last needed replica, back under L."""
    from mlscale.plots.parts import response_parts

    return _drawn(lambda: response_parts(_rows(runs, level_s, rows)), runs)


def sigma(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Standard deviation of the response after the step, and what it is made of."""
    from mlscale.plots.spreads import sigma_parts

    return _drawn(lambda: sigma_parts(_rows(runs, level_s, rows)), runs)


def resources(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """CPU per correct answer by role, and cores in use around the step."""
    from mlscale.plots.usage import resources

    return _drawn(lambda: resources(runs, _rows(runs, level_s, rows)), runs)


def estimation(
    runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None, table: pd.DataFrame | None = None
) -> Figure:
    """Each pair's ratio with its intervals, and below it every run; a column per primary endpoint. ``table``: of
    `mlscale.compare`."""
    from mlscale.analysis.inference import compare
    from mlscale.plots.estimates import estimation

    def draw() -> Any:
        each = _rows(runs, level_s, rows)
        return estimation(each, compare(each) if table is None else table)

    return _drawn(draw, runs)


def survival(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Share of runs that are not yet back under L, against seconds since the step."""
    from mlscale.plots.survival import survival

    return _drawn(lambda: survival(_rows(runs, level_s, rows)), runs)


def cold_starts(runs: Sequence[Run]) -> Figure:
    """A bar per pod: the phases of its start."""
    from mlscale.analysis.coldstart import cold_starts_of
    from mlscale.plots.coldstart import cold_start

    return _drawn(lambda: cold_start(cold_starts_of(runs)), runs)


def sharing(runs: Sequence[Run]) -> Figure:
    """Share of answers from replicas created after the step, by kind of connection."""
    from mlscale.plots.sharing import sharing

    return _drawn(lambda: sharing(runs), runs)


def inference_by_period(runs: Sequence[Run]) -> Figure:
    """The server's own inference time before the step, by the CPU quota's period."""
    from mlscale.plots.periods import inference_by_period

    return _drawn(lambda: inference_by_period(runs), runs)


def variants(groups: Mapping[str, Sequence[Run]], colours: Sequence[str], level_s: float) -> Figure:
    """The moving mean of each group of runs, until 600 s after the step. ``colours``: one per group, matplotlib colours
    or names of environments."""
    from mlscale.plots.style import COLOURS, colour
    from mlscale.plots.variants import variant_trajectories

    tones = {name: colour(tone) if tone in COLOURS else tone for name, tone in zip(groups, colours, strict=True)}
    return _drawn(lambda: variant_trajectories(groups, tones, level_s), *groups.values())


def boot_parts(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Where the time went after the step, by boot time of the machines. ``rows``, here and below: of
    `mlscale.analysis.boot_time_rows` over the same runs."""
    from mlscale.plots.boots import boot_parts

    return _drawn(lambda: boot_parts(_boot_rows(runs, level_s, rows)), runs)


def boot_response(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Time until the response is good again, against the machines' boot time."""
    from mlscale.plots.boots import boot_response

    return _drawn(lambda: boot_response(_boot_rows(runs, level_s, rows)), runs)


def boot_beside_simulated(
    runs: Sequence[Run], simulated: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None
) -> Figure:
    """The same for rehearsed runs beside simulated ones of the same setups."""
    from mlscale.plots.boots import boot_twin

    return _drawn(
        lambda: boot_twin(_boot_rows(runs, level_s, rows), _boot_rows(simulated, level_s, None)), runs, simulated
    )


def boot_trajectories(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Figure:
    """Moving mean around the step, a panel per set of boot times."""
    from mlscale.plots.boots import boot_trajectories

    return _drawn(lambda: boot_trajectories(runs, _boot_rows(runs, level_s, rows), level_s), runs)


def windows(
    runs: Sequence[Run], level_s: float, pairs: Sequence[tuple[str, str]], *, rows: pd.DataFrame | None = None
) -> Figure:
    """Each pair's ratio for every width of the moving window: does the answer depend on it?"""
    from mlscale.plots.sensitivity import window_sensitivity

    return _drawn(lambda: window_sensitivity(_rows(runs, level_s, rows), list(pairs)), runs)


def _rows(runs: Sequence[Run], level_s: float, rows: pd.DataFrame | None) -> pd.DataFrame:
    from mlscale.analysis.summary import summarise

    return summarise(runs, level_s) if rows is None else rows


def _boot_rows(runs: Sequence[Run], level_s: float, rows: pd.DataFrame | None) -> pd.DataFrame:
    from mlscale.analysis.boot_time_response import boot_time_rows

    if any(run.info.step_s is None or not run.info.scaling for run in runs):
        raise MlscaleError("it needs runs of an autoscaler, with a load step", "boot time", "leave the others out")
    return boot_time_rows(runs, level_s) if rows is None else rows


def _drawn(draw: Callable[[], Any], *groups: Sequence[Run]) -> Figure:
    """The figure that the axes, or array of axes, of ``draw`` are part of, with the caption of the runs in ``groups``.

    Raises:
        MlscaleError: a group without a run.
    """
    from mlscale.plots.captions import caption

    if not groups or not all(groups):
        raise MlscaleError("no run is given", "figure", "name one")
    axes = draw()
    while isinstance(axes, Iterable):
        axes = next(iter(axes))
    figure: Figure = axes.figure
    figure.set_label(caption([run for runs in groups for run in runs], with_invalid=True))
    return figure


def alternative_text(figure: Figure, otherwise: str) -> str:
    """What a picture shows, for those who don't see it: its headline, or ``otherwise``."""
    return " ".join(figure.get_suptitle().split()) or otherwise
