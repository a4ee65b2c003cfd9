"""``mlscale experiment``: measure blocks, publish them, and judge the twin by them. As thin as `mlscale.cli`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Environments = Annotated[str, typer.Option(help="names, separated by blanks")]
Blocks = Annotated[int, typer.Option(min=1)]
Cells = Annotated[
    str,
    typer.Option(
        help="core, shipped, open, sensitivity, partition, container, rehearsal, calibration, holdout, by commas"
    ),
]
Runs = Annotated[Path, typer.Option(help="where runs go")]
Seed = Annotated[int, typer.Option(min=0)]

experiment_app = typer.Typer(no_args_is_help=True, help="The blocks behind make paper-figures.")


@experiment_app.command("run")
def experiment_run(
    environments: Environments = "torchserve rayserve",
    blocks: Blocks = 8,
    cells: Cells = "core",
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick", help="one block of 60 s schedules, figures/quick/")] = False,
    protocol: Annotated[
        Path | None, typer.Option(help="a protocol.json, with its photos beside it; by default one for this host")
    ] = None,
) -> None:
    """Measure every block that is missing, then draw the figures; stopped at any time, it resumes."""
    from mlscale.application.photos import LoadPhotos
    from mlscale.experiment.commands import run_command

    run_command(environments, blocks, cells, runs, seed, LoadPhotos, quick=quick, protocol=protocol)


@experiment_app.command("status")
def experiment_status(
    environments: Environments = "torchserve rayserve",
    blocks: Blocks = 8,
    cells: Cells = "core",
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    quick: Annotated[bool, typer.Option("--quick")] = False,
) -> None:
    """What has been measured, and what is left."""
    from mlscale.experiment.commands import status_command

    print(status_command(environments, blocks, cells, runs, seed, quick=quick))


@experiment_app.command("pilot")
def experiment_pilot(
    environments: Environments = "torchserve rayserve",
    runs: Runs = Path("runs"),
    seed: Seed = 0,
) -> None:
    """Measure what data/protocol.json fixes; refused once blocks were measured under it."""
    from mlscale.application.photos import LoadPhotos
    from mlscale.experiment.commands import pilot_command

    print(pilot_command(environments, runs, seed, LoadPhotos))


@experiment_app.command("freeze")
def experiment_freeze(
    runs: Annotated[Path, typer.Option(help="where the hold-out is going to be measured")] = Path("runs"),
) -> None:
    """Fix the twin's profiles for this host, before hold-out runs are measured on it (data/twin.json)."""
    from mlscale.experiment.twin_commands import freeze_command

    print(freeze_command(runs))


@experiment_app.command("validate")
def experiment_validate(
    draws: Annotated[int, typer.Option(min=2, help="simulated runs for each live one")] = 24,
) -> None:
    """Hold the twin against the published hold-out runs and write the record that notebook 09 shows (minutes)."""
    from mlscale.experiment.twin_commands import validate_command

    print(validate_command(draws))


@experiment_app.command("claims")
def experiment_claims(
    draws: Annotated[int, typer.Option(min=4, help="simulated runs of each side")] = 20,
) -> None:
    """What the twin says of the paper's claims, and which numbers would turn it, for notebook 07 (many minutes)."""
    from mlscale.experiment.twin_commands import claims_command

    print(claims_command(draws))


@experiment_app.command("publish")
def experiment_publish(
    runs: Annotated[Path, typer.Option(help="where runs were measured")] = Path("runs"),
) -> None:
    """Copy the runs behind the figures into data/reference, so that the figures can be drawn again from there."""
    from mlscale.experiment.publish import publish

    print(publish(runs))
