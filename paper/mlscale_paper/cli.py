"""The commands of ``mlscale experiment`` about the published set: publish it, and judge the twin by it.

Each command imports what it needs inside its function, so that ``mlscale --help`` is quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from mlscale.errors import MlscaleError

Environments = Annotated[str, typer.Option(help="names, separated by spaces or commas")]
Blocks = Annotated[int, typer.Option(min=1)]
Cells = Annotated[
    str,
    typer.Option(
        help="core, shipped, open, sensitivity, zero, partition, container, rehearsal, holdout, comma-separated"
    ),
]
Runs = Annotated[Path, typer.Option(help="where runs go")]
Seed = Annotated[int, typer.Option(min=0)]
Protocol = Annotated[
    Path | None, typer.Option(help="a protocol.json, with its photos beside it; by default one for this host")
]


def validate(
    draws: Annotated[int, typer.Option(min=2, help="simulated runs for each live one")] = 24,
    profiles: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="folder of profiles to note it in; default: the shipped ones"),
    ] = None,
    same_results: Annotated[bool, typer.Option("--same-results", hidden=True)] = False,
) -> None:
    """Compare the twin with the published hold-out runs, note it in its profiles, and show what moved (minutes).

    Example: mlscale experiment validate --draws 24
    """
    import pandas as pd

    from mlscale.progress import Shown
    from mlscale.reporting.render import to_markdown
    from mlscale_paper import twin_records, twin_tables
    from mlscale_paper.protocol import published_protocol
    from mlscale_paper.results import twin
    from mlscale_twin.profile import FOLDER
    from mlscale_twin.studies.validation import validate

    if same_results:
        remedy = "mlscale experiment validate, which shows what moved"
        raise MlscaleError("removed: changed code is not refused", "--same-results", remedy)
    held_out, fitted = twin_tables.published_hold_out(), twin_tables.published_fit()
    with Shown() as shown:
        record = validate(held_out, fitted, published_protocol().level_s, draws=draws, progress=shown)
        twin_records.note_in_profiles(record, held_out, fitted, profiles or FOLDER, shown)
    columns = ["environment", "figure", "n", "live", "twin", "low", "high", "verdict", "not_claimed"]
    print(pd.DataFrame(record["verdicts"])[columns].round(3).to_string(index=False))
    print(pd.DataFrame(record["rivals"]).round(3).to_string(index=False))
    print(to_markdown(twin(record)))
    _print_moved(twin_records.VALIDATION, twin_records.write_record(twin_records.VALIDATION, record))


def claims(
    draws: Annotated[int, typer.Option(min=16, help="simulated runs of each side")] = 128,
) -> None:
    """The twin's verdict on the paper's claims, and which numbers it depends on, for notebook 07b (some minutes).

    Example: mlscale experiment claims --draws 20
    """
    import pandas as pd

    from mlscale.progress import Shown
    from mlscale_paper import twin_records, twin_tables
    from mlscale_paper.claims import judge_all
    from mlscale_paper.contrast_runs import CELLS, contrast_record
    from mlscale_paper.protocol import published_protocol

    level_s, runs = published_protocol().level_s, twin_tables.published(*CELLS)
    with Shown() as progress:
        live = contrast_record(runs, level_s, twin_tables.profile_of(runs), progress=progress)
        schedule, sizes = twin_tables.long_schedule(), twin_tables.cloud_sizes()
        record = judge_all(schedule, level_s, draws=draws, progress=progress, scaling=sizes, live=live["live"])
    for arm, judged in record["arms"].items():
        print(f"{arm}: {', '.join(f'{claim} {verdict}' for claim, verdict in judged['verdicts'].items())}")
        table = pd.DataFrame(judged["rows"]).drop(columns=["matters", "draws", "early_draws", "error"])
        print(table.round(3).to_string(index=False))
    _print_moved(twin_records.CONTRASTS, twin_records.write_record(twin_records.CONTRASTS, live))
    _print_moved(twin_records.CLAIMS, twin_records.write_record(twin_records.CLAIMS, record))


# Lines about what moved in a record that are printed.
_MOST_MOVED: Final = 40


def _print_moved(record: str, moved: Sequence[str]) -> None:
    print(*moved[:_MOST_MOVED], sep="\n", end="\n" if moved else "")
    print(f"data/reference/{record}: written; {len(moved) or 'none'} of its values moved")


def freeze() -> None:
    """Removed: names what to do instead."""
    remedy = "commit the profile before the runs that judge it are measured, then mlscale experiment validate"
    raise MlscaleError("removed: a profile is fixed by its commit", "mlscale experiment freeze", remedy)


def compare_profiles(profiles: Path) -> None:
    """Removed: names what to do instead."""
    remedy = f"mlscale experiment validate --profiles {profiles}"
    raise MlscaleError("removed: validate does it, too", "mlscale experiment compare-profiles", remedy)


def check_advice(
    traces: Annotated[list[Path], typer.Argument(exists=True, help="recorded traffic; a piece of each is used")],
    environments: Environments = "torchserve rayserve k3s",
    blocks: Blocks = 3,
    seconds: Annotated[float, typer.Option(min=30, help="length of the piece of traffic")] = 180.0,
    profile: Annotated[
        list[Path] | None, typer.Option(exists=True, help="of this host (mlscale calibrate); repeat it")
    ] = None,
    runs: Runs = Path("runs"),
    seed: Seed = 0,
    protocol: Protocol = None,
    publish: Annotated[bool, typer.Option(help="afterwards, copy the runs to data/advice")] = False,
) -> None:
    """Deploy what mlscale advise recommends for real traffic, beside others, and judge the twin's ranking (hours).

    Example: mlscale experiment check-advice TRACE.csv --profile torchserve.json --profile k3s.json
    """
    from codereader.photos import LoadPhotos
    from mlscale_paper import advice_check, experiment
    from mlscale_paper.pilot import ensure_protocol
    from mlscale_paper.publish import publish_advice

    names = _names(environments)
    experiment.check(names, ["core"], blocks)
    advice_check.check(traces, seconds, profile or ())
    ensure_protocol(experiment.root_of(runs, quick=False), names, LoadPhotos, given=protocol, seed=seed)
    planned = experiment.experiment(names, ["core"], blocks, runs, seed=seed)
    table = advice_check.check_advice(planned, traces, seconds, profile or ())
    print(table.round(3).to_string(index=False))
    if publish:
        print(f"{publish_advice(advice_check.root_in(planned.root), profile or ())}: written")


def publish(
    runs: Annotated[Path, typer.Option(help="where runs were measured")] = Path("runs"),
) -> None:
    """Copy the runs behind the figures into data/reference, from which the figures can be redrawn.

    Example: mlscale experiment publish --runs data/reference
    """
    from mlscale_paper import publish

    print(publish.publish(runs))


def paper(
    out: Annotated[Path, typer.Option(help="folder for paper.html and paper.pdf")] = Path("paper/build"),
) -> None:
    """Write the published results as a page in which every number leads to its data and the command that makes it;
    where a Chromium is found, print it to PDF.

    Example: mlscale experiment paper --out /tmp/paper
    """
    from mlscale_paper.page import make

    page, pdf = make(out)
    print(page)
    print(pdf or "No Chromium found, so no PDF: open the page in a browser and print it.")


def _names(text: str) -> list[str]:
    """``"torchserve, rayserve"`` or ``"torchserve rayserve"`` to names."""
    return text.replace(",", " ").split()
