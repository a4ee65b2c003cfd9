"""What a comparison says of each pair of environments: in a sentence, in a row of a table, and beside chance."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

import pandas as pd

from mlscale.analysis.paired import ALPHA, blocks_to_detect, detectable_difference
from mlscale.plots.style import display_name

Row = dict[str, Any]
# The ratio for which the blocks that it would take are told.
SOUGHT: Final = 1.1


def records(table: pd.DataFrame) -> list[Row]:
    """Rows as plain data; NaN becomes None."""
    rows: list[Row] = json.loads(table.to_json(orient="records", double_precision=6))
    return rows


def pair_sentences(effects: Iterable[Row], parts: Iterable[Row]) -> list[str]:
    """For each pair the ratio of mean responses and how much of the difference is catching up; then the pairs without a
    ratio, grouped by reason.

    Args:
        effects: `records` of `mlscale.compare`. parts: `records` of `mlscale.analysis.catch_up_and_steady`.
    """
    sentences: list[str] = []
    no_ratio: dict[str, list[str]] = {}
    splits: dict[str, dict[str, Row]] = {}
    for part in parts:
        splits.setdefault(part["pair"], {})[part["part"]] = part
    for row in effects:
        if row["endpoint"] != "P1":
            continue
        if row["ratio"] is None or row["low"] is None:
            why = ": ".join(filter(None, (row["verdict"], row["notes"])))
            no_ratio.setdefault(_named(why, row), []).append(_pair(row))
            continue
        turned = row["ratio"] < 1
        slow, quick = (row["b"], row["a"]) if turned else (row["a"], row["b"])
        ends = [row["ratio"], *sorted((row["low"], row["high"]), reverse=turned)]
        ratio, low, high = (1 / end if turned else end for end in ends)
        claim = "" if row["favours"] else f", {row['verdict']}"
        if row["verdict"] == "no difference shown" and not low <= 1 <= high:
            claim += " once all comparisons are counted"
        sentences.append(
            f"After the step, the mean response is {ratio:.2f} times as long on {display_name(slow)} as on "
            f"{display_name(quick)} (95 % interval {low:.2f} to {high:.2f}{claim})"
            f"{_of_which(splits.get(' / '.join((row['a'], row['b'])), {}))}."
        )
    return [*sentences, *(f"No ratio is given for {' and '.join(pairs)}: {why}." for why, pairs in no_ratio.items())]


def pair_rows(effects: Iterable[Row]) -> list[Row]:
    """A row for each pair, a column for each endpoint: ratio, 95 % interval, verdict."""
    table: dict[str, Row] = {}
    for row in effects:
        text = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        text += "" if row["low"] is None else f" ({row['low']:.2f} to {row['high']:.2f})"
        verdict = ": ".join(filter(None, (text, "; ".join(filter(None, (row["verdict"], row["notes"]))))))
        table.setdefault(_pair(row), {"pair": _pair(row)})[f"{row['endpoint']} {row['label']}"] = _named(verdict, row)
    return list(table.values())


def noise_floor(effects: Iterable[Row]) -> str:
    """Between which ratios two equal environments come out, by endpoint; where pairs differ, the widest. Empty if no
    environment ran twice in a block."""
    ends: dict[str, list[tuple[float, float]]] = {}
    for row in effects:
        if row["aa_low"] is not None:
            ends.setdefault(f"{row['endpoint']} {row['label']}", []).append((row["aa_low"], row["aa_high"]))
    ranges = [
        f"{name} {min(low for low, _ in each):.2f} to {max(high for _, high in each):.2f}"
        for name, each in ends.items()
    ]
    what = "Noise floor (95 % range of the ratio when nothing differs, from environments that ran twice in a block)"
    return f"{what}: {'; '.join(ranges)}." if ranges else ""


def resolution(effects: Iterable[Row]) -> str:
    """Which ratio so many blocks find, by the A/A spread and by that of the pairs over blocks, which is larger where
    environments react differently to a block; and how many blocks `SOUGHT` would take. Empty if no environment ran
    twice in a block."""
    found: dict[str, list[Row]] = {}
    for row in effects:
        if row["aa_sd_log"] is not None and row["sd_log"] is not None:
            found.setdefault(f"{row['endpoint']} {row['label']}", []).append(row)
    texts = []
    for name, rows in found.items():
        blocks = min(row["n_blocks"] for row in rows)
        spreads = [math.sqrt(sum(row[sd] ** 2 for row in rows) / len(rows)) for sd in ("aa_sd_log", "sd_log")]
        least, more = (math.exp(detectable_difference(sd, blocks, ALPHA)) for sd in spreads)
        needed = blocks_to_detect(math.log(SOUGHT), spreads[1], ALPHA)
        texts.append(
            f"{name} {least:.2f} and {more:.2f} (standard deviation of the logarithm {spreads[0]:.3f} and "
            f"{spreads[1]:.3f}), {needed} blocks"
        )
    what = (
        "Ratio of one pair that these blocks find with 80 % power at 5 %, by the A/A spread and by the spread of the "
        f"pairs over blocks, and how many blocks a ratio of {SOUGHT:g} would take by the latter"
    )
    return f"{what}: {'; '.join(texts)}." if texts else ""


def _of_which(split: Mapping[str, Row]) -> str:
    """How much of the difference is catching up, and how much steady state; empty where it has no interval."""
    if not split or split["P1"]["low_s"] is None:
        return ""
    return (
        f": of the {abs(split['P1']['difference_s']):.2f} s between them, {_seconds(split, 'catch-up')} is catching up "
        f"and {_seconds(split, 'steady state')} steady state afterwards"
    )


def _seconds(split: Mapping[str, Row], part: str) -> str:
    """A part of the difference, with the sign of the difference in P1: a negative part reduces it."""
    sign = -1 if split["P1"]["difference_s"] < 0 else 1
    middle, *ends = (sign * split[part][name] for name in ("difference_s", "low_s", "high_s"))
    return f"{middle:.2f} s ({min(ends):.2f} to {max(ends):.2f})"


def _pair(row: Row) -> str:
    return f"{display_name(row['a'])} / {display_name(row['b'])}"


def _named(text: str, row: Row) -> str:
    """With the names that the two environments have in figures."""
    return text.replace(row["a"], display_name(row["a"])).replace(row["b"], display_name(row["b"]))
