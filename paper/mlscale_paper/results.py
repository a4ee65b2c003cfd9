"""The results in numbers: computed from runs, written beside the figures, and rendered into marked blocks of documents.

No result is typed by hand: notebook 07 writes ``results.json`` and its Markdown. From these,
`mlscale experiment publish` fills docs/results.md, with what the validation on record says of the twin, and a summary
in README.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Run, Staircase
from mlscale.runs.info import host_name
from mlscale_paper.plots.predictions import CLAIMS
from mlscale_paper.variants import CELLS, TWIN_CELLS, cell_of
from mlscale_twin.negative_controls import NOTICED_SHARE
from mlscale_twin.plots.twin import WORDS

RESULTS: Final = "results.json"
RENDERED: Final = "results.md"
# Figures of ten in which a validated twin is to be equivalent.
AIM: Final = 8
NOT_VALIDATED: Final = (
    "**Not validated.** The profiles were fitted to the published runs of core and rehearsal, and have not been "
    "compared with runs that they were not fitted to."
)
NO_CLAIMS: Final = "**Not judged.** No record of `mlscale experiment claims` is published."
Row = dict[str, Any]


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
    columns = (
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
        "verdict",
        "favours",
        "notes",
    )
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
        "effects": records(effects.reindex(columns=columns)),
        "parts": records(parts),
        "tables": {title: records(_with_display_names(_flat(table))) for title, table in (tables or {}).items()},
    }


def show(folder: Path | None, content: Mapping[str, Any]) -> None:
    """Display `results` in a notebook, and write them into the figures' folder where one is given."""
    from IPython.display import Markdown, display

    text = rendered(content)
    if folder is not None:
        write_text(folder / RESULTS, json.dumps(content, indent=1) + "\n")
        write_text(folder / RENDERED, text)
    display(Markdown(text))


def rendered(content: Mapping[str, Any]) -> str:
    """`results` as Markdown: a sentence for each pair, the tables, and how it was measured."""
    tables = [f"**{title}**\n\n{markdown_table(table)}" for title, table in content["tables"].items() if table]
    how = [f"Load: {' or '.join(content['load'])}; L = {content['level_s']:g} s", *_left_out(content["invalid"])]
    return "\n\n".join(filter(None, (*_summary(content), *tables, f"*{'. '.join(how)}. {content['setup']}*"))) + "\n"


def summary(content: Mapping[str, Any]) -> str:
    """The first part of `rendered`, with the host and the number of runs."""
    setting = f"{', '.join(content['hosts'])}; {content['runs']} runs in {content['blocks']} blocks"
    return "\n\n".join(filter(None, (*_summary(content), f"*Load: {' or '.join(content['load'])}. {setting}.*"))) + "\n"


def sentences(content: Mapping[str, Any]) -> list[str]:
    """What `results` say of each pair: the ratio of mean responses, then how much of it is catching up."""
    return [f"{sentence}." for sentence in [*_sentences(content["effects"]), *_of_which(content["parts"])]]


def pairs(content: Mapping[str, Any]) -> list[Row]:
    """A row for each pair, a column for each endpoint: ratio, 95 % interval, verdict."""
    return _pairs(content["effects"])


def _summary(content: Mapping[str, Any]) -> tuple[str, str]:
    bullets = "\n".join(f"- {sentence}" for sentence in sentences(content))
    table = pairs(content)
    tables = f"**Ratio (95 % interval): verdict**\n\n{markdown_table(table)}\n\n{_floor(content)}" if table else ""
    return bullets, tables.strip()


def _floor(content: Mapping[str, Any]) -> str:
    """Between which ratios two equal environments come out, by endpoint; where pairs differ, the widest."""
    known = [row for row in content["effects"] if row["aa_low"] is not None]
    names = list(dict.fromkeys(f"{row['endpoint']} {row['label']}" for row in known))
    ranges = []
    for name in names:
        ends = [(row["aa_low"], row["aa_high"]) for row in known if f"{row['endpoint']} {row['label']}" == name]
        ranges.append(f"{name} {min(low for low, _ in ends):.2f} to {max(high for _, high in ends):.2f}")
    what = "Noise floor (95 % range of the ratio when nothing differs, from environments that ran twice in a block)"
    return f"*{what}: {'; '.join(ranges)}.*" if ranges else ""


def cell_results(runs: Sequence[Run], level_s: float) -> dict[str, Any]:
    """`results` of the runs of one cell."""
    rows = summarise(runs, level_s)
    return results(runs, rows, compare(rows), level_s, catch_up_and_steady(rows))


def cell_text(runs: Sequence[Run], level_s: float) -> str:
    """`rendered` results of the runs of one cell."""
    return rendered(cell_results(runs, level_s))


def cells_text(runs: Sequence[Run]) -> str:
    """Which cells of METHOD §4 were measured, and how many runs were invalid, as Markdown; those for the twin, which
    has a section of its own, are left out."""
    table = []
    for cell in (each for each in CELLS if each not in TWIN_CELLS):
        cell_runs = [run for run in runs if cell_of(run) == cell]
        blocks = {run.info.block for run in cell_runs}
        table.append(
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
    return markdown_table(table) + "\n"


def measured_text(runs: Sequence[Run]) -> str:
    """Which cell, loop, days and host the comparison is from, and what was not measured, in a sentence each."""
    core = [run.info for run in runs if cell_of(run) == "core"]
    if not core:
        return "Not measured.\n"
    days = sorted({f"{info.wall_start:%Y-%m-%d}" for info in core})
    hosts = sorted({host_name(info.host) for info in core})
    others = [cell for cell in CELLS if cell not in (*TWIN_CELLS, "core")]
    known = {cell_of(run) for run in runs}
    measured, missing = (
        ", ".join(f"`{cell}`" for cell in others if (cell in known) is which) for which in (True, False)
    )
    return (
        f"*Measured on {', '.join(days)} on {', '.join(hosts)}: cell `core` ({core[0].schedule.loop} loop, "
        f"{core[0].connections} connections, arm `{core[0].arm}`). Also measured: {measured or 'no other cell'}. "
        f"Not measured: {missing or 'no cell of the plan is missing'}, and nothing on AWS.*\n"
    )


def twin_text(record: Mapping[str, Any] | None) -> str:
    """What the validation on record found, as Markdown: a row for each environment.

    Args:
        record: of `mlscale experiment validate`; None where none is published.
    """
    if record is None:
        return NOT_VALIDATED + "\n"
    controls = pd.DataFrame(record["controls"])
    rivals = pd.DataFrame(record["rivals"]).set_index("environment")
    table = []
    for environment, verdicts in pd.DataFrame(record["verdicts"]).groupby("environment", sort=False):
        wrong = controls[(controls["environment"] == environment) & (controls["twin"] != "as it is")]
        missed = list(wrong[wrong["rejected"] < NOTICED_SHARE]["twin"])
        counts = Counter(verdicts["verdict"])
        different = verdicts[verdicts["verdict"] == "different"].to_dict("records")
        off = rivals.loc[environment].dropna().sort_values()
        table.append(
            {
                "environment": display_name(str(environment)),
                "live runs": int(verdicts["n"].max()),
                **{word: counts[word] for word in ("equivalent", "inconclusive")},
                "different (90 % interval of twin / live; times: twin - live)": "; ".join(map(_difference, different)),
                "wrong twins noticed": f"{len(wrong) - len(missed)} of {len(wrong)}"
                + (f" (not: {', '.join(missed)})" if missed else ""),
                "claimed": ", ".join(map(_figure_name, verdicts[verdicts["not_claimed"] == ""].to_dict("records"))),
                "aim": "met" if counts["equivalent"] >= AIM and not missed else "missed",
                "error of the mean (log)": ", ".join(f"{name} {error:.2f}" for name, error in off.items()),
            }
        )
    aim = (
        f"*Aim: {AIM} of 10 figures equivalent, and every wrong twin noticed in {100 * NOTICED_SHARE:.0f} % of "
        "resamples. A figure is claimed if it is equivalent and every wrong twin that it depends on was noticed.*"
    )
    return f"{markdown_table(table)}\n\n{aim}\n"


def claims_text(record: Mapping[str, Any] | None) -> str:
    """The twin's verdicts on the paper's claims, as Markdown: a row for each claim.

    Args:
        record: of `mlscale experiment claims`; None where none is published.
    """
    if record is None:
        return NO_CLAIMS + "\n"
    table = [
        {"claim": f"{name}: {says}"}
        | {
            f"{settings}{horizon}": _verdict(judged, name, prefix)
            for settings, judged in (
                ("settings alike", record["arms"]["matched"]),
                ("each platform's defaults", record["arms"]["shipped"]),
            )
            for horizon, prefix in (("", ""), (", first 120 s", "early_"))
        }
        for name, says in CLAIMS.items()
    ]
    return f"{markdown_table(table)}\n\n*Simulated: {record['draws']} draws. In brackets: if the twin had no error.*\n"


def _verdict(judged: Mapping[str, Any], claim: str, prefix: str) -> str:
    verdict = str(judged[f"{prefix}verdicts"][claim])
    exact = str(judged["exact_verdicts"][claim]) if not prefix else verdict
    return verdict + (f" ({exact})" if exact != verdict else "")


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


def _sentences(effects: Iterable[Row]) -> list[str]:
    """The verdict on each pair's mean response: ratios first, then the pairs without a ratio, grouped by reason."""
    sentences: list[str] = []
    no_ratio: dict[str, list[str]] = {}
    for row in effects:
        if row["endpoint"] != "P1":
            continue
        if row["ratio"] is None or row["low"] is None:
            why = ": ".join(filter(None, (row["verdict"], row["notes"])))
            why = why.replace(row["a"], display_name(row["a"])).replace(row["b"], display_name(row["b"]))
            no_ratio.setdefault(why, []).append(_pair(row))
            continue
        turned = row["ratio"] < 1
        slow, quick = (row["b"], row["a"]) if turned else (row["a"], row["b"])
        ends = [row["ratio"], *sorted((row["low"], row["high"]), reverse=turned)]
        ratio, low, high = (1 / end if turned else end for end in ends)
        claim = "" if row["favours"] else f", {row['verdict']}"
        sentences.append(
            f"After the step, the mean response is {ratio:.2f} times as long on {display_name(slow)} as on "
            f"{display_name(quick)} (95 % interval {low:.2f} to {high:.2f}{claim})"
        )
    return [*sentences, *(f"No ratio is given for {' and '.join(pairs)}: {why}" for why, pairs in no_ratio.items())]


def _of_which(parts: Iterable[Row]) -> list[str]:
    """How much of each pair's difference is catching up, and how much steady state, where there is an interval."""
    pairs: dict[str, dict[str, Row]] = {}
    for row in parts:
        pairs.setdefault(row["pair"], {})[row["part"]] = row
    return [
        f"Of the {abs(split['P1']['difference_s']):.2f} s between {_named(pair)}, "
        f"{_seconds(split, 'catch-up')} is catching up and {_seconds(split, 'steady state')} steady state afterwards"
        for pair, split in pairs.items()
        if split["P1"]["low_s"] is not None
    ]


def _seconds(split: Mapping[str, Row], part: str) -> str:
    """A part of the difference, with the sign of the difference in P1: a negative part reduces it."""
    sign = -1 if split["P1"]["difference_s"] < 0 else 1
    middle, *ends = (sign * split[part][name] for name in ("difference_s", "low_s", "high_s"))
    return f"{middle:.2f} s ({min(ends):.2f} to {max(ends):.2f})"


def _named(pair: str) -> str:
    return " and ".join(display_name(name) for name in pair.split(" / "))


def _left_out(invalid: Mapping[str, Mapping[str, int]]) -> list[str]:
    """How many runs were invalid, and why."""
    return [
        f"Invalid runs of {display_name(name)}: {', '.join(f'{count} {kind}' for kind, count in reasons.items())}"
        for name, reasons in invalid.items()
    ]


def _pairs(effects: Iterable[Row]) -> list[Row]:
    """A row for each pair, a column for each endpoint: ratio, 95 % interval, verdict."""
    table: dict[str, Row] = {}
    for row in effects:
        text = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        text += "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
        verdict = ": ".join(filter(None, (text, "; ".join(filter(None, (row["verdict"], row["notes"]))))))
        for name in (row["a"], row["b"]):
            verdict = verdict.replace(name, display_name(name))
        table.setdefault(_pair(row), {"pair": _pair(row)})[f"{row['endpoint']} {row['label']}"] = verdict
    return list(table.values())


def _pair(row: Row) -> str:
    return f"{display_name(row['a'])} / {display_name(row['b'])}"


def _difference(row: Row) -> str:
    return f"{_figure_name(row)} {row['low']:.2f} to {row['high']:.2f}"


def _figure_name(row: Row) -> str:
    return re.sub("[${}]", "", WORDS[row["figure"]])


def _with_display_names(table: pd.DataFrame) -> pd.DataFrame:
    """With the environments' names in figures, as columns and as winners."""
    named = table.rename(columns=display_name)
    return named.assign(winner=named["winner"].map(display_name)) if "winner" in named else named


def _flat(table: pd.DataFrame) -> pd.DataFrame:
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as plain data; NaN becomes None."""
    rows: list[Row] = json.loads(table.to_json(orient="records", double_precision=6))
    return rows


def markdown_table(table: Sequence[Row]) -> str:
    """Rows with the same keys as a table; numbers to three digits."""
    lines = [list(table[0]), ["---"] * len(table[0]), *([_cell(value) for value in row.values()] for row in table)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
    return "" if value is None else str(value)
