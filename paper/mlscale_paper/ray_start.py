"""The published Ray Serve runs include a package that slows the start of its replicas (METHOD §4): by how much.

Read from pairs of runs in data/ray-start, which ``benchmarks/ray_start.py`` measures: without the package, and with
it. On the pairs' host, starting replicas is a smaller part of Ray Serve's mean response than in the published runs, so
the pairs' ratio of mean responses does not carry over. Their ratio of starts does: `corrected` shortens the published
starts by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.inference import compare
from mlscale.analysis.moving import WINDOW_S
from mlscale.analysis.paired import paired_t
from mlscale.analysis.provisioning import lives
from mlscale.analysis.summary import span, summarise
from mlscale.notebook.show import remark
from mlscale.plots.style import display_name
from mlscale.reporting.document import Element, Text
from mlscale.reporting.render import to_markdown
from mlscale.runs import Run, load_run, load_runs
from mlscale.runs.info import host_name
from mlscale_paper import places
from mlscale_paper.protocol import published_protocol
from mlscale_paper.results import document_table

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


def corrected(runs: Sequence[Run], rows: pd.DataFrame, start_ratio: float) -> pd.DataFrame:
    """The rows of `summarise`, with P1, P2 and T_slo of Ray Serve as they would be without the package.

    Each run's mean start x (1 - 1 / ``start_ratio``) is cut from the plateau on which its first replica serves alone
    (from one window after the step, when the queue has built up, until a new replica is ready) and added to the steady
    state after catching up: requests of the former weigh less, those of the latter more. T_slo comes that much sooner.

    Args:
        start_ratio: how many times as long a start takes with the package.
    """
    changed = rows.copy()
    times = [name for name in rows if str(name).startswith("t_slo") and str(name).endswith("_s")]
    for at, run in enumerate(runs):
        if run.info.environment != "rayserve":
            continue
        row, (from_s, to_s) = rows.iloc[at], span(run)
        saved_s = start_s(run) * (1 - 1 / start_ratio)
        frame = intended_between(durations(run.requests, timeout_s=run.info.timeout_s), from_s, to_s)
        after_s, response_s = frame["intended_s"] - from_s, frame["response_s"]
        weights = np.ones(len(frame))
        weights[after_s.between(WINDOW_S, row["ready_first_s"])] -= saved_s / (row["ready_first_s"] - WINDOW_S)
        weights[after_s >= row["caught_up_s"]] += saved_s / (to_s - from_s - row["caught_up_s"])
        mean_s = np.average(response_s, weights=weights)
        sd_s = np.sqrt(np.average((response_s - mean_s) ** 2, weights=weights))
        at_once = {"mean_response_s": mean_s, "sd_response_s": sd_s, **(row[times] - saved_s)}
        changed.loc[rows.index[at], list(at_once)] = list(at_once.values())
    return changed


def catch_up_share(rows: pd.DataFrame) -> float:
    """The part of Ray Serve's P1 that is catching up, over the rows of `summarise` that comparisons use."""
    used = rows[(rows["environment"] == "rayserve") & rows["valid"].astype(bool) & (rows["aa_label"] != "B")]
    return float((used["catch_up_response_s"] / used["mean_response_s"]).mean())


class Correction:
    """The published comparison as measured and with `corrected` starts.

    Attributes:
        pairs: `table` of the pairs of runs that tell how much longer starts take.
        effects: of `compare`, pairs with Ray Serve: as "measured", and with starts shortened by the "ratio" of starts
            and by the "low" and "high" end of its interval.
        predicted_s, measured_s: mean P1 without the package: of the pairs' runs with it, corrected; of those without.
        shares: `catch_up_share` of the published runs and of the pairs' runs with the package.
    """

    def __init__(self, runs: Mapping[str, Run]) -> None:
        level_s = published_protocol().level_s
        self.runs, self.pairs = runs, table(runs, level_s)
        start = self.pairs.loc["start_s"]
        core = load_runs(places.reference() / "core")
        rows = summarise(core, level_s)
        self.effects = {"measured": _effects(rows)}
        self.effects |= {name: _effects(corrected(core, rows, float(start[name]))) for name in ("ratio", "low", "high")}
        with_package = [run for name, run in runs.items() if name.startswith(f"{WITH}-")]
        pair_rows = summarise(with_package, level_s)
        self.predicted_s = float(corrected(with_package, pair_rows, float(start["ratio"]))["mean_response_s"].mean())
        self.measured_s = float(self.pairs.loc["mean_response_s", WITHOUT])
        self.shares = catch_up_share(rows), catch_up_share(pair_rows)

    def sentence(self) -> str:
        """What is wrong about Ray Serve's results and what is right, for where they stand."""
        means, withdrawn = self.changes()
        return (
            "The published numbers of Ray Serve are known to be too large. Its runs include a package that it does not "
            f"need and that slows the start of its replicas: {_ratio(self.pairs.loc['start_s'])} times as long in "
            f"{self.pairs['pairs'].iloc[0]} pairs of runs on another CPU. With starts shortened by as much, its mean "
            f"response is {' and '.join(means)}, and {'; '.join(withdrawn)} (95 % intervals)"
        )

    def changes(self) -> tuple[list[str], list[str]]:
        """The ratios of Ray Serve's mean response with shorter starts, and the verdicts that are withdrawn."""
        measured, now = self.effects["measured"], self.effects["ratio"]
        means = [
            f"{_ratio(row)} times that of {display_name(str(row['b']))} instead of {measured.loc[key, 'ratio']:.2f}"
            for key, row in now.iterrows()
            if row["endpoint"] == "P1"
        ]
        withdrawn = [
            f'"{_named(before["verdict"])} than Ray Serve" is withdrawn: {_ratio(now.loc[key], 3)}'
            for key, before in measured.iterrows()
            if before["favours"] != now.loc[key, "favours"]
        ]
        return means, withdrawn

    def document(self) -> list[Element]:
        """The pairs, and every ratio of Ray Serve as measured and corrected."""
        pairs = [
            {
                "Ray Serve": what,
                **{arm: f"{row[arm]:.2f} s" for arm in ARMS},
                "with / without (95 % interval)": _ratio(row),
            }
            for what, (_, row) in zip(MEASURES.values(), self.pairs.iterrows(), strict=True)
        ]
        start = self.pairs.loc["start_s"]
        ratios = [
            {
                "pair": _named(row["pair"]),
                "endpoint": f"{row['endpoint']} {row['label']}",
                **{
                    name if name == "measured" else f"starts / {start[name]:.2f}": _ratio(effects.loc[key], 3)
                    + ("" if effects.loc[key, "favours"] else ": no difference shown")
                    for name, effects in self.effects.items()
                },
            }
            for key, row in self.effects["measured"].iterrows()
        ]
        invalid = sum(not run.info.valid for run in self.runs.values())
        host = host_name(dict(next(iter(self.runs.values())).info.host))
        published, of_pairs = (f"{100 * share:.0f} %" for share in self.shares)
        pair_factor = self.pairs.loc["mean_response_s", "ratio"]
        factor = float(self.effects["measured"]["ratio"].iloc[0] / self.effects["ratio"]["ratio"].iloc[0])
        return [
            document_table("", pairs),
            Text([f"{len(self.runs) // 2} pairs of runs, {invalid} invalid; {host}."], "note"),
            Text(
                [
                    f"Catching up is {published} of Ray Serve's P1 in the published runs and {of_pairs} in the pairs' "
                    f"runs with the package, so the published P1 is {factor:.2f} times too long, not "
                    f"{pair_factor:.2f} times. For the pairs, the correction predicts a mean response of "
                    f"{self.predicted_s:.3f} s without the package; {self.measured_s:.3f} s was measured."
                ]
            ),
            document_table("", ratios),
            Text(
                [
                    "Ratios (95 % interval) as measured, and with starts shortened by the ratio of starts and by both "
                    "ends of its interval."
                ],
                "note",
            ),
        ]


def remark_on(runs: Sequence[Run]) -> None:
    """`remark_on_published`, if ``runs`` of Ray Serve are among the published ones."""
    shown = [run.path.resolve() for run in runs if run.info.environment == "rayserve"]
    if places.in_checkout() and any(path.is_relative_to(places.reference().resolve()) for path in shown):
        remark_on_published()


def remark_on_published() -> None:
    """A remark in a notebook, where it shows published runs of Ray Serve."""
    remark(f"{Correction(published()).sentence()}: METHOD, section 4.")


def documents() -> dict[str, str]:
    """The block ``ray-start`` of each document that has one, of the published runs."""
    correction = Correction(published())
    note = f"{correction.sentence()}. See [METHOD §4]({{}}#4-arms-and-cells).\n"
    return {
        "README.md": note.format("docs/METHOD.md"),
        "docs/results.md": note.format("METHOD.md"),
        "docs/METHOD.md": to_markdown(correction.document()),
    }


def _effects(rows: pd.DataFrame) -> pd.DataFrame:
    effects = compare(rows)
    return effects[effects["a"] == "rayserve"]


def _named(text: str) -> str:
    """With the environments' names in figures."""
    for environment in ("rayserve", "torchserve", "k3s"):
        text = text.replace(environment, display_name(environment))
    return text


def _ratio(row: pd.Series, digits: int = 2) -> str:
    return "{:.{d}f} ({:.{d}f} to {:.{d}f})".format(*row[["ratio", "low", "high"]], d=digits)
