"""``mlscale advise``. Imports are local, so that ``mlscale --help`` stays fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mlscale.commands.options import Settings, formerly, read_set, takes
from mlscale.errors import MlscaleError


@takes("mlscale_twin.strategy.advice:SearchSettings")
@formerly("settings", "region", "prices", "ray", "seed", cores="--set cpu_cores=", max_replicas="--set most_replicas=")
def advise(
    trace: Annotated[Path, typer.Argument(help="CSV of arrivals or rates, or JSON schedule (an open loop)")],
    out: Annotated[Path, typer.Option(help="folder for advice.json, strategies.csv, settings and figure")],
    p95: Annotated[float | None, typer.Option(help="95 % of requests take at most this long, s")] = None,
    p50: Annotated[float | None, typer.Option(help="half of them, s")] = None,
    p90: Annotated[float | None, typer.Option(help="90 %, s")] = None,
    p99: Annotated[float | None, typer.Option(help="99 %, s")] = None,
    mean: Annotated[float | None, typer.Option(help="mean response time at most, s")] = None,
    sigma: Annotated[float | None, typer.Option(help="standard deviation of response times at most, s")] = None,
    error_budget: Annotated[float, typer.Option(help="share of requests that may fail")] = 0.001,
    max_usd_per_month: Annotated[float | None, typer.Option(help="cost at most")] = None,
    environments: Annotated[
        str | None, typer.Option(help="names, separated by spaces; default: torchserve rayserve k3s keda eks ecs")
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(help="folder of a measured experiment: by its profiles, objective and size of a replica"),
    ] = None,
    profile: Annotated[
        list[Path] | None, typer.Option(help="written by mlscale calibrate, replaces an environment's own; repeatable")
    ] = None,
    today: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE|ENVIRONMENT:KEY=VALUE,...",
            help="what you have now, to compare: an HPA, ScaledObject, Deployment or Serve config, a folder of such "
            "files, or an environment and its settings; repeatable",
        ),
    ] = None,
    settings: Settings = None,
    as_json: Annotated[bool, typer.Option("--json", help="print advice.json in place of the summary")] = False,
) -> None:
    """Recommend a strategy for local and for cloud, with settings to paste, for a trace and an objective. Simulated.

    Example: mlscale advise trace.csv --p95 1.0 --out advice
    """
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.progress import Shown
    from mlscale_twin.plots.advice import cost_and_slow
    from mlscale_twin.strategy.advice import (
        PLACES,
        AdviseOptions,
        SearchSettings,
        advise,
        check_command,
        check_new,
        strategy_table,
        write_advice,
    )
    from mlscale_twin.strategy.measured import read_measured
    from mlscale_twin.strategy.objective import Objective
    from mlscale_twin.strategy.page import write_page

    check_new(out)
    chosen = read_set(SearchSettings, settings).model_dump(exclude_unset=True)
    if experiment is not None:
        if profile:
            raise MlscaleError("the experiment has its own profiles", "--profile", "leave it out, or --experiment")
        measured, profile = read_measured(experiment)
        chosen = {**measured.search, **chosen}
        if all(each is None for each in (p50, p90, p95, p99, mean, sigma)):
            p95, mean = measured.p95_s, measured.mean_s
    if environments is not None:
        chosen["environments"] = environments.replace(",", " ").split()
    objective = Objective(p95, mean, sigma, error_budget, max_usd_per_month, p50, p90, p99)
    with Shown() as progress:
        options = AdviseOptions(**chosen, profiles=profile or (), today=today or (), progress=progress)
        advice = advise(read_schedule(trace, progress=progress), objective, options)
    write_advice(advice, out)
    write_page(advice, out, trace.name)
    table = strategy_table(advice)
    figure = cost_and_slow(table, objective)[0, 0].figure
    for kind in ("png", "pdf"):
        figure.savefig(out / f"advice.{kind}", bbox_inches="tight", dpi=160)
    if as_json:
        print((out / "advice.json").read_text())
        return
    print(f"read: {advice.question.demand.summary}")
    for note in advice.question.demand.notes:
        print(f"note: {note}")
    if options.memory_mib is None:
        print("note: the memory of a replica is assumed, and is its limit in the files: give --set memory_mib=")
    for note in next((now.notes for now in advice.today.values()), ()):
        print(f"note: today: {note}")
    for name, why in advice.left_out.items():
        print(f"without {name}: {why}")
    for place, entry in advice.advised.items():
        figures = entry.candidate.figures
        print(f"{PLACES[place]}: {entry.candidate.strategy.name}; objective {entry.verdict}")
        replicas = f"{figures.replicas:.2f} replicas (oracle: {entry.oracle})"
        print(f"  {figures.usd_per_month:.2f} USD a month, {replicas}")
        print(f"  {objective.told(figures)}")
        for warning in entry.warnings:
            print(f"  warning: {warning}")
        print(f"  settings: {out / place}; check: {check_command(table, place, out)}")
        if now := advice.today.get(place):
            print(f"  today: {now.candidate.strategy.name}; objective {now.verdict}")
            figures = now.candidate.figures
            print(f"    {figures.usd_per_month:.2f} USD a month, {figures.replicas:.2f} replicas")
            print(f"    {objective.told(figures)}")
            print(f"    the advised setting instead (95 % interval): {now.change}")
            print(f"    {now.conclusion}")
            print(f"    check: {check_command(table, place, out, 'today')}")
    print(f"{out}: SIMULATED, {advice.tried} settings; nothing was measured; why, and what else: {out / 'advice.html'}")
