"""The results in numbers: computed from runs, written beside the figures, and said in marked blocks of documents.

No result is typed by hand: notebook 07 writes ``results.json``. From it, `mlscale experiment publish` fills
docs/results.md, with what the validation on record says of the twin, and a summary in README.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.durations import durations
from mlscale.analysis.inference import compare
from mlscale.analysis.report import describe
from mlscale.analysis.steady import catch_up_and_steady
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.plots.captions import caption
from mlscale.plots.style import display_name
from mlscale.reporting.document import Element, Source, Table, Text, table
from mlscale.reporting.render import to_markdown
from mlscale.reporting.statements import Row, noise_floor, pair_rows, pair_sentences, records, resolution
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Run, Staircase
from mlscale.runs.info import host_name
from mlscale_paper.claims import deciding
from mlscale_paper.plots.predictions import CLAIMS
from mlscale_paper.variants import CELLS, TWIN_CELLS, cell_of
from mlscale_twin.negative_controls import NOTICED_SHARE
from mlscale_twin.plots.verdicts import WORDS

RESULTS: Final = "results.json"
# Figures of ten in which a validated twin is to be equivalent.
AIM: Final = 8
NOT_VALIDATED: Final = (
    "**Not validated.** The profiles were fitted to the published runs of core and rehearsal, and have not been "
    "compared with runs that they were not fitted to."
)
# What the claims' arms are called.
ARMS: Final = {"matched": "settings alike", "shipped": "each platform's defaults"}
NO_CLAIMS: Final = "**Not judged.** No record of `mlscale experiment claims` is published."
# Columns of `mlscale.compare` that are written down.
_EFFECTS: Final = [
    "a",
    "b",
    "endpoint",
    "label",
    "n_blocks",
    "ratio",
    "low",
    "high",
    "p_holm",
    "aa_low",
    "aa_high",
    "aa_sd_log",
    "sd_log",
    "verdict",
    "favours",
    "notes",
]
Cite = Callable[[str], Source | None]


def results(
    runs: Sequence[Run],
    rows: pd.DataFrame,
    effects: pd.DataFrame,
    level_s: float,
    parts: pd.DataFrame,
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> dict[str, Any]:
    """Everything reported about one cell, as plain data.

    Args:
        runs, rows: every attempt, and its row of `mlscale.analysis.summary.summarise`.
        effects: of `mlscale.analysis.inference.compare`.
        parts: of `mlscale.analysis.steady.catch_up_and_steady`.
        tables: title -> further table, placed below.
    """
    settings = {name: _values(runs, name) for name in ("max_replicas", "cpu_cores", "cpu_period_s")}
    return {
        "setup": caption(runs),
        "load": sorted({_load(run) for run in runs}),
        "level_s": level_s,
        "settings": settings,
        "hosts": sorted(set(rows["host"])),
        "runs": len(runs),
        "blocks": int(rows["block"].nunique()),
        "environments": _environments(runs, rows),
        "invalid": _invalid(runs),
        "effects": records(effects.reindex(columns=_EFFECTS)),
        "parts": records(parts),
        "tables": {title: records(_with_display_names(_flat(table))) for title, table in (tables or {}).items()},
    }


def show(folder: Path | None, content: Mapping[str, Any]) -> None:
    """Display `results` in a notebook, and write them into the figures' folder where one is given."""
    if folder is not None:
        write_text(folder / RESULTS, json.dumps(content, indent=1) + "\n")
    display_parts(said(content))


def display_parts(parts: Sequence[Element]) -> None:
    """Display texts and tables in a notebook."""
    from IPython.display import Markdown, display

    display(Markdown(to_markdown(parts)))


def said(content: Mapping[str, Any], cite: Cite = lambda field: None) -> list[Element]:
    """What `results` say: a sentence for each pair, the tables, and how it was measured.

    Args:
        cite: the source of a field of the content.
    """
    tables = [document_table(title, rows, cite(f"tables.{title}")) for title, rows in content["tables"].items() if rows]
    how = [f"Load: {' or '.join(content['load'])}; L = {content['level_s']:g} s", *_left_out(content["invalid"])]
    found = resolution(content["effects"])
    return [
        *_pairs(content, cite),
        *([Text([found], "note", cite("effects"))] if found else []),
        *tables,
        Text([f"{'. '.join(how)}. {content['setup']}"], "note", cite("setup")),
    ]


def summary(content: Mapping[str, Any]) -> list[Element]:
    """The first part of what is `said`, with the host and the number of runs."""
    setting = f"{', '.join(content['hosts'])}; {content['runs']} runs in {content['blocks']} blocks"
    return [*_pairs(content, lambda field: None), Text([f"Load: {' or '.join(content['load'])}. {setting}."], "note")]


def _pairs(content: Mapping[str, Any], cite: Cite) -> list[Element]:
    effects = content["effects"]
    parts: list[Element] = [Text(pair_sentences(effects, content["parts"]), "list", cite("effects, parts"))]
    if effects:
        parts.append(document_table("Ratio (95 % interval): verdict", pair_rows(effects), cite("effects")))
    floor = noise_floor(effects)
    return [*parts, Text([floor], "note", cite("effects"))] if floor else parts


def document_table(heading: str, rows: Sequence[Row], source: Source | None = None) -> Table:
    """As documents show it: numbers to three digits, nothing where nothing is known."""
    return table(heading, rows, digits=3, missing="", source=source)


def cell_results(runs: Sequence[Run], level_s: float) -> dict[str, Any]:
    """`results` of the runs of one cell."""
    rows = summarise(runs, level_s)
    return results(runs, rows, compare(rows), level_s, catch_up_and_steady(rows))


def cells(runs: Sequence[Run]) -> list[Element]:
    """Which cells of METHOD §4 were measured, and how many runs were invalid; those for the twin, which
    has a section of its own, are left out."""
    rows = []
    for cell in (each for each in CELLS if each not in TWIN_CELLS):
        cell_runs = [run for run in runs if cell_of(run) == cell]
        blocks = {run.info.block for run in cell_runs}
        rows.append(
            {
                "cell": cell,
                "runs": len(cell_runs) if cell_runs else "not measured",
                "blocks": len(blocks) if cell_runs else "",
                "invalid": "; ".join(
                    f"{display_name(name)}: {', '.join(f'{count} {why}' for why, count in reasons.items())}"
                    for name, reasons in _invalid(cell_runs).items()
                ),
            }
        )
    return [document_table("", rows)]


def measured(runs: Sequence[Run]) -> list[Element]:
    """Which cell, loop, days and host the comparison is from, and what was not measured, in a sentence each."""
    core = [run.info for run in runs if cell_of(run) == "core"]
    if not core:
        return [Text(["Not measured."])]
    days = sorted({f"{info.wall_start:%Y-%m-%d}" for info in core})
    hosts = sorted({host_name(info.host) for info in core})
    others = [cell for cell in CELLS if cell not in (*TWIN_CELLS, "core")]
    known = {cell_of(run) for run in runs}
    known_others, missing = (
        ", ".join(f"`{cell}`" for cell in others if (cell in known) is which) for which in (True, False)
    )
    text = (
        f"Measured on {', '.join(days)} on {', '.join(hosts)}: cell `core` ({core[0].schedule.loop} loop, "
        f"{core[0].connections} connections, arm `{core[0].arm}`). Also measured: {known_others or 'no other cell'}. "
        f"Not measured: {missing or 'no cell of the plan is missing'}, and nothing on AWS."
    )
    return [Text([text], "note")]


def twin(record: Mapping[str, Any] | None) -> list[Element]:
    """What the validation on record found: a row for each environment.

    Args:
        record: of `mlscale experiment validate`; None where none is published.
    """
    if record is None:
        return [Text([NOT_VALIDATED])]
    controls = pd.DataFrame(record["controls"])
    rivals = pd.DataFrame(record["rivals"]).set_index("environment")
    rows = []
    for environment, verdicts in pd.DataFrame(record["verdicts"]).groupby("environment", sort=False):
        wrong = controls[(controls["environment"] == environment) & (controls["twin"] != "as it is")]
        missed = list(wrong[wrong["rejected"] < NOTICED_SHARE]["twin"])
        counts = Counter(verdicts["verdict"])
        different = verdicts[verdicts["verdict"] == "different"].to_dict("records")
        off = rivals.loc[environment].dropna().sort_values()
        rows.append(
            {
                "environment": display_name(str(environment)),
                "live runs": int(verdicts["n"].max()),
                **{word: counts[word] for word in ("equivalent", "inconclusive")},
                "different (90 % interval of twin / live; times: twin - live)": "; ".join(
                    f"{_figure_name(row)} {row['low']:.2f} to {row['high']:.2f}" for row in different
                ),
                "wrong twins noticed": f"{len(wrong) - len(missed)} of {len(wrong)}"
                + (f" (not: {', '.join(missed)})" if missed else ""),
                "claimed": ", ".join(map(_figure_name, verdicts[verdicts["not_claimed"] == ""].to_dict("records"))),
                "aim": "met" if counts["equivalent"] >= AIM and not missed else "missed",
                "error of the mean (log)": ", ".join(f"{name} {error:.2f}" for name, error in off.items()),
            }
        )
    aim = (
        f"Aim: {AIM} of 10 figures equivalent, and every wrong twin noticed in {100 * NOTICED_SHARE:.0f} % of "
        "resamples. A figure is claimed if it is equivalent and every wrong twin that it depends on was noticed."
    )
    return [document_table("", rows), Text([aim], "note")]


def claims(record: Mapping[str, Any] | None) -> list[Element]:
    """The twin's verdicts on the paper's claims: a sentence for each claim, the comparisons that decide, and what half
    and twice a borrowed error would change.

    Args:
        record: of `mlscale experiment claims`; None where none is published.
    """
    if record is None:
        return [Text([NO_CLAIMS])]
    rows = []
    for name, says in CLAIMS.items():
        for arm, settings in ARMS.items():
            judged = record["arms"][arm]
            row = deciding(judged["rows"], name)
            rows.append(
                {
                    "claim": f"{name}: {says}",
                    "settings": settings,
                    "verdict": judged["verdicts"][name],
                    "decided by": f"{row['what']}, {row['figure']}",
                    "ratio (90 %)": f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f})",
                    "the twin's error": "borrowed" if row["error"]["borrowed"] else "measured",
                    "halved, doubled": f"{judged['half_verdicts'][name]}, {judged['double_verdicts'][name]}",
                    "first 120 s": judged["early_verdicts"][name],
                }
            )
    note = (
        f"Simulated: {record['draws']} draws. Ratio: the side that the paper calls worse / the other. The twin's error "
        "is measured where live runs have the comparison, else borrowed from other comparisons. Halved, doubled: the "
        "verdict with so much of a borrowed error."
    )
    return [Text(claim_sentences(record), "list"), document_table("", rows), Text([note], "note")]


def claim_sentences(record: Mapping[str, Any]) -> list[str]:
    """One for each claim: its verdict under both settings, and the comparison that decides."""
    sentences = []
    for name, says in CLAIMS.items():
        parts = []
        for arm, settings in ARMS.items():
            judged = record["arms"][arm]
            row, word = deciding(judged["rows"], name), judged["verdicts"][name]
            parts.append(
                f"{word} with {settings} ({row['what']}, {row['figure']}: {row['ratio']:.2f}, {row['low']:.2f} to "
                f"{row['high']:.2f})"
            )
        sentences.append(f"{name}, {says}: {', '.join(parts)}.")
    return sentences


def filled(file: Path, name: str, content: str) -> str:
    """The text of ``file`` with ``content`` in its block ``<!-- name: ... -->`` to ``<!-- end of name -->``.

    Raises:
        MlscaleError: there is no such block.
    """
    text = file.read_text()
    pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end of {name} -->)"
    changed, times = re.subn(pattern, lambda match: f"{match[1]}{content}{match[2]}", text, flags=re.DOTALL)
    if times != 1:
        raise MlscaleError(f"{times} blocks of {name}", file.name, f"restore <!-- {name}: ... -->")
    return changed


def _load(run: Run) -> str:
    """A description of the load."""
    match run.info.schedule:
        case ClosedLoop(stages=stages, think_mean_s=think_s):
            return f"{', then '.join(str(stage.clients) for stage in stages)} clients (think time {think_s:g} s)"
        case OpenLoop(rate=Staircase(steps=steps)):
            return f"{', then '.join(f'{step.rate_rps:.1f}' for step in steps)} requests/s"
        case schedule:
            return f"{schedule.loop} loop"


def _values(runs: Sequence[Run], name: str) -> list[Any]:
    """The values of a setting in all runs and components."""
    return sorted({settings[name] for run in runs for settings in run.info.scaling.values() if name in settings})


def _environments(runs: Sequence[Run], rows: pd.DataFrame) -> list[Row]:
    """A row per environment: numbers of runs; medians and mean times over the valid ones that are compared."""
    used = design.chosen(rows) if rows["block"].notna().any() else rows[rows["valid"].astype(bool)]
    used = used[used["aa_label"].fillna("A") == "A"]
    before_s = pd.Series({run.info.run_id: _median_before_s(run) for run in runs}, dtype=float)
    table = []
    for environment, means in describe(rows).iterrows():
        env_rows = used[used["environment"] == environment]
        table.append(
            {
                "environment": display_name(str(environment)),
                "runs": int(means["runs"]),
                "invalid": int(means["invalid"]),
                "compared": int(means["n"]),
                "median before (ms)": 1000 * before_s.reindex(env_rows["run_id"]).median(),
                "median after (ms)": 1000 * env_rows["p50_response_s"].median(),
                "median first new replica (s)": env_rows["ready_first_s"].median()
                if "ready_first_s" in env_rows
                else np.nan,
                "mean T_slo (s)": means["P3 T_slo (s)"],
                "not back": int(means["censored"]),
                "mean over L (s)": env_rows["over_level_s"].mean(),
            }
        )
    return records(pd.DataFrame(table))


def _median_before_s(run: Run) -> float:
    """Median response before the step."""
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    return float(frame.loc[frame["intended_s"] < (run.info.step_s or 0.0), "response_s"].median())


def _invalid(runs: Sequence[Run]) -> dict[str, dict[str, int]]:
    """Environment -> reason -> how many runs."""
    found: dict[str, Counter[str]] = {}
    for run in runs:
        validity = run.info.validity
        if validity is not None and not validity.valid:
            flags = {"host-bound": validity.host_bound, "disturbed": validity.disturbed}
            why = next((name for name, holds in flags.items() if holds), "load not as planned, or host not observed")
            found.setdefault(run.info.environment, Counter())[why] += 1
    return {name: dict(counts) for name, counts in found.items()}


def _left_out(invalid: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many runs were invalid, and why."""
    return [
        f"Invalid runs of {display_name(name)}: {', '.join(f'{count} {kind}' for kind, count in reasons.items())}"
        for name, reasons in invalid.items()
    ]


def _figure_name(row: Row) -> str:
    return re.sub("[${}]", "", WORDS[row["figure"]])


def _with_display_names(table: pd.DataFrame) -> pd.DataFrame:
    """With the environments' names in figures, as columns and as winners."""
    named = table.rename(columns=display_name)
    return named.assign(winner=named["winner"].map(display_name)) if "winner" in named else named


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
