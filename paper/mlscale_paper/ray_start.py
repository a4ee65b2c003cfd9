"""The published Ray Serve runs include a package that slows the start of its replicas (METHOD §4): by how much.

Read from pairs of runs in data/ray-start, which ``benchmarks/ray_start.py`` measures: without the package, and with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.paired import paired_t
from mlscale.analysis.provisioning import lives
from mlscale.analysis.summary import span, summarise
from mlscale.notebook.figures import remark
from mlscale.runs import Run, load_run
from mlscale.runs.info import host_name
from mlscale_paper import places
from mlscale_paper.protocol import published_protocol
from mlscale_paper.results import markdown_table

WITHOUT, WITH = ARMS = ("without", "with")
MEASURES: Final = {
    "start_s": "replica's creation to ready, after the step",
    "mean_response_s": "P1, mean response",
    "sd_response_s": "P2, sd of response",
    "t_slo_s": "T_slo (P3 without the window)",
}


def published() -> dict[str, Run]:
    """The published runs by name: "with-1", "without-1", ..."""
    return {folder.name: load_run(folder) for folder in sorted((places.data() / "ray-start").iterdir())}


def table(runs: Mapping[str, Run], level_s: float) -> pd.DataFrame:
    """One row per measure of `MEASURES`: its mean ``without`` and ``with`` the package, s; ``ratio`` of with to without
    (geometric mean over pairs), ``low`` and ``high`` of its 95 % t interval, ``pairs``.

    Args:
        runs: by name; those of the same number are a pair.
    """
    rows = summarise(list(runs.values()), level_s)
    rows["start_s"] = [start_s(run) for run in runs.values()]
    rows["package"], rows["pair"] = zip(*(name.rsplit("-", 1) for name in runs), strict=True)
    found = {}
    for measure in MEASURES:
        values = rows.pivot(index="pair", columns="package", values=measure)
        ratio = paired_t(np.log(values[WITH] / values[WITHOUT]))
        found[measure] = [*values[[*ARMS]].mean(), *np.exp([ratio.mean, ratio.low, ratio.high]), len(values)]
    return pd.DataFrame.from_dict(found, orient="index", columns=[*ARMS, "ratio", "low", "high", "pairs"])


def start_s(run: Run) -> float:
    """Mean time from creation to ready of the replicas that were created after the step, s."""
    return float(lives(run, *span(run), "replica_created", "replica_ready")["took_s"].mean())


def document(runs: Mapping[str, Run], found: pd.DataFrame) -> str:
    """The `table` of ``runs`` in Markdown, with host, pairs and invalid runs."""
    rows = [
        {
            "Ray Serve": what,
            **{arm: f"{row[arm]:.2f} s" for arm in ARMS},
            "with / without (95 % interval)": _ratio(row),
        }
        for what, (_, row) in zip(MEASURES.values(), found.iterrows(), strict=True)
    ]
    invalid = sum(not run.info.valid for run in runs.values())
    host = host_name(dict(next(iter(runs.values())).info.host))
    return f"{markdown_table(rows)}\n\n*{len(runs) // 2} pairs of runs, {invalid} invalid; {host}.*\n"


def sentence(found: pd.DataFrame) -> str:
    """The `table` in a sentence, for where Ray Serve's results stand."""
    ratios = {name: _ratio(row) for name, row in found.iterrows()}
    return (
        "The published runs of Ray Serve include a package that it does not need and that slows the start of its "
        f"replicas: in {found['pairs'].iloc[0]} pairs of runs, starts took {ratios['start_s']} times as long with it, "
        f"and the mean response was {ratios['mean_response_s']} times as long (95 % intervals)"
    )


def remark_on(runs: Sequence[Run]) -> None:
    """`remark_on_published`, if ``runs`` of Ray Serve are among the published ones."""
    shown = [run.path.resolve() for run in runs if run.info.environment == "rayserve"]
    if places.in_checkout() and any(path.is_relative_to(places.reference().resolve()) for path in shown):
        remark_on_published()


def remark_on_published() -> None:
    """A remark in a notebook, where it shows published runs of Ray Serve."""
    remark(f"{sentence(table(published(), published_protocol().level_s))}: METHOD, section 4.")


def documents() -> dict[str, str]:
    """The block ``ray-start`` of each document that has one, of the published runs."""
    runs = published()
    found = table(runs, published_protocol().level_s)
    note = f"*{sentence(found)}: [METHOD §4]({{}}#4-arms-and-cells).*\n"
    return {
        "README.md": note.format("docs/METHOD.md"),
        "docs/results.md": note.format("METHOD.md"),
        "docs/METHOD.md": document(runs, found),
    }


def _ratio(row: pd.Series) -> str:
    return f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
