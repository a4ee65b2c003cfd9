"""Which environment is faster, steadier, or recovers sooner: paired over blocks (METHOD §7).

Per pair and endpoint: the within-block log ratio, a t interval with df = blocks - 1, two-sided p, Holm over pairs x
endpoints; a sign-flip permutation as a check. ``low``/``high`` cover one effect with 95 %; ``sim_low``/``sim_high`` are
Bonferroni t intervals: all effects of the family together with at least 95 %. They are wider than Holm's
test needs: an interval that leaves out 1 implies p_holm < 0.05, not the other way round.

P3. T_slo may be 0 (L never exceeded), which has no logarithm, and is censored at H - W. So T_slo + W is compared: the
moment at which m_u <= L is known to have held for W, a time in its own right rather than a constant added for the
logarithm. It lies in [W, H]. A censored run enters as H, so the ratio is one of (geometric) means restricted to the
common horizon; since all censoring is at that one time, nothing is assumed about what came after. The difference of
the restricted means of T_slo in seconds is given as well, with its t interval (not part of the family). If both runs
of a block sit at a bound, their log ratio is 0. If all differences are equal, there is no t interval, and p is that
of the sign-flip test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.endpoints import PRIMARY, Endpoint
from mlscale.analysis.paired import (
    ALPHA,
    detectable_difference,
    holm,
    noise_floor,
    noise_sd,
    paired_t,
    sign_flip_p,
)
from mlscale.analysis.verdicts import add_verdicts
from mlscale.runs import MlscaleError

NAN: Final = float("nan")
# Blocks required by METHOD §6, by number of environments (4: as for 5).
LEAST_BLOCKS: Final[Mapping[int, int]] = {2: 6, 3: 8, 4: 10, 5: 10}


_OVER_LEVEL: Final = ("over_level_difference_s", "over_level_low_s", "over_level_high_s")


def least_blocks(environments: int) -> int:
    """The fewest blocks for which p-values are given (METHOD §6)."""
    return LEAST_BLOCKS.get(environments, 10 if environments > 2 else 6)


def compare(
    rows: pd.DataFrame,
    endpoints: Sequence[Endpoint] = PRIMARY,
    pairs: Sequence[tuple[str, str]] | None = None,
    *,
    with_invalid: bool = False,
    p_values: bool | None = None,
) -> pd.DataFrame:
    """Compare environments within one cell.

    Args:
        rows: of `mlscale.analysis.summary.summarise`, every attempt of one cell, all live, one host.
        pairs: (a, b) gives the ratio a / b; default: every pair, in order of appearance.
        with_invalid: take every first attempt, valid or not, and compare even if many are invalid.
        p_values: None: where METHOD allows them (cell core, at least 6, 8 or 10 blocks for 2, 3 or more
            environments); False: never; True: wherever there are 2 blocks of cell core.
    Returns:
        One row per pair and endpoint. pair, a, b, endpoint, label, n_blocks; ratio, low, high, sim_low, sim_high; p,
        p_holm, p_signflip; n_aa, aa_sd_log, aa_low, aa_high (95 % range of the ratio over n_blocks blocks when nothing
        differs); detectable_ratio (at 80 % power and 0.05 / family size, from the A/A spread); sd_log (of the ratio
        over blocks) and detectable_by_pair (the same from this spread);
        ratio_without_failures; mean_a_s, mean_b_s (restricted means for P3), difference_s, difference_low_s,
        difference_high_s; over_level_difference_s, over_level_low_s, over_level_high_s (for P3: of the seconds over L,
        beside the time to the first recovery); censored_a, censored_b, at_bound_share; failures_a, failures_b
        (shares); verdict, favours (the environment that a claim is for, else ""), notes. Fewer than 2 blocks: no p,
        no interval.
    Raises:
        MlscaleError: see `mlscale.analysis.design.check_comparable`; an unknown environment in ``pairs``.
    """
    design.check_comparable(rows)
    names = list(dict.fromkeys(rows["environment"]))
    compared_pairs = design.environment_pairs(names) if pairs is None else list(pairs)
    unknown = sorted({name for pair in compared_pairs for name in pair} - set(names))
    if unknown:
        raise MlscaleError(f"no run of {', '.join(unknown)}", "pairs", f"choose one of: {', '.join(names)}")
    selected = design.chosen(rows, with_invalid=with_invalid)
    invalid = design.invalid_share(rows)
    refused = set() if with_invalid else design.refused(invalid)
    family = max(1, len(compared_pairs) * len(endpoints))
    effects = []
    for a, b in compared_pairs:
        for endpoint in endpoints:
            row = _effect(selected, a, b, endpoint, family)
            effects.append(_without_claims(row, "not comparable") if refused & {a, b} else row)
    table = pd.DataFrame(effects)
    if table.empty:
        return table
    _withhold_p(table, rows, len(names), p_values)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    return add_verdicts(table, selected, invalid, {endpoint.name: endpoint for endpoint in endpoints})


def _effect(selected: pd.DataFrame, a: str, b: str, endpoint: Endpoint, family: int) -> dict[str, Any]:
    wide = design.by_block(selected, endpoint.column)
    logs = design.log_ratios(wide, a, b)
    n = len(logs)
    single, simultaneous = paired_t(logs.to_numpy()), paired_t(logs.to_numpy(), ALPHA / family)
    p, p_signflip = float(single.p) if n else NAN, sign_flip_p(logs.to_numpy())
    no_spread = n >= 2 and np.isnan(p)
    pairs = design.aa_pairs(selected, endpoint.column)
    noise = np.log(pairs["B"].to_numpy(dtype=float)) - np.log(pairs["A"].to_numpy(dtype=float))
    sd = noise_sd(noise)
    floor = noise_floor(sd, len(noise), n)
    pair_sd = float(logs.std(ddof=1)) if n >= 2 else NAN
    return {
        "pair": f"{a} / {b}",
        "a": a,
        "b": b,
        "endpoint": endpoint.name,
        "label": endpoint.label,
        "n_blocks": n,
        "ratio": float(np.exp(single.mean)) if n else NAN,
        "low": float(np.exp(single.low)) if n else NAN,
        "high": float(np.exp(single.high)) if n else NAN,
        "sim_low": float(np.exp(simultaneous.low)) if n else NAN,
        "sim_high": float(np.exp(simultaneous.high)) if n else NAN,
        "p": p_signflip if no_spread else p,
        "p_signflip": p_signflip,
        "n_aa": len(noise),
        "aa_sd_log": sd,
        "aa_low": float(np.exp(-floor)),
        "aa_high": float(np.exp(floor)),
        "detectable_ratio": float(np.exp(detectable_difference(sd, n, ALPHA / family))),
        "sd_log": pair_sd,
        "detectable_by_pair": float(np.exp(detectable_difference(pair_sd, n, ALPHA / family))),
        "ratio_without_failures": _without_failures(selected, a, b, endpoint),
        **_seconds(selected, a, b, endpoint, logs.index),
        **_over_level(selected, a, b, endpoint, logs.index),
        "comparable": True,
        "note": "no spread between blocks: no interval, p of the sign flips" if no_spread else "",
    }


def _seconds(selected: pd.DataFrame, a: str, b: str, endpoint: Endpoint, blocks: pd.Index) -> dict[str, float]:
    """Means and their difference in seconds over the same blocks, failures, and how many values sit at a bound."""
    wide = design.by_block(selected, endpoint.seconds or endpoint.column).reindex(index=blocks, columns=[a, b])
    difference = paired_t((wide[a] - wide[b]).to_numpy(dtype=float)) if len(wide) else None
    failures = design.by_block(selected, "failure_share").reindex(index=blocks, columns=[a, b])
    row = {
        "mean_a_s": float(wide[a].mean()),
        "mean_b_s": float(wide[b].mean()),
        "difference_s": float(difference.mean) if difference else NAN,
        "difference_low_s": float(difference.low) if difference else NAN,
        "difference_high_s": float(difference.high) if difference else NAN,
        "failures_a": float(failures[a].mean()),
        "failures_b": float(failures[b].mean()),
        "censored_a": 0,
        "censored_b": 0,
        "at_bound_share": 0.0,
    }
    if endpoint.censored is not None and len(wide):
        flags = design.by_block(selected, endpoint.censored).reindex(index=blocks, columns=[a, b]).astype(bool)
        row["censored_a"], row["censored_b"] = int(flags[a].sum()), int(flags[b].sum())
        row["at_bound_share"] = float((flags | (wide == 0)).to_numpy().mean())
    return row


def _over_level(selected: pd.DataFrame, a: str, b: str, endpoint: Endpoint, blocks: pd.Index) -> dict[str, float]:
    """The difference of the seconds over L, with its interval, where the endpoint is the time until L is met."""
    if endpoint.censored is None or "over_level_s" not in selected:
        return dict.fromkeys(_OVER_LEVEL, NAN)
    wide = design.by_block(selected, "over_level_s").reindex(index=blocks, columns=[a, b])
    difference = paired_t((wide[a] - wide[b]).to_numpy(dtype=float))
    return dict(zip(_OVER_LEVEL, map(float, difference[:3]), strict=True))


def _without_failures(selected: pd.DataFrame, a: str, b: str, endpoint: Endpoint) -> float:
    """The ratio (geometric mean over blocks) of right answers alone; NaN where the endpoint has no such figure."""
    if endpoint.without_failures is None:
        return NAN
    logs = design.log_ratios(design.by_block(selected, endpoint.without_failures), a, b)
    return float(np.exp(logs.mean())) if len(logs) else NAN


def _without_claims(row: dict[str, Any], why: str) -> dict[str, Any]:
    """The row without the numbers that could support a claim."""
    ratio_fields = dict.fromkeys(
        ("ratio", "low", "high", "sim_low", "sim_high", "p", "p_signflip", "ratio_without_failures"), NAN
    )
    difference_fields = dict.fromkeys(("difference_s", "difference_low_s", "difference_high_s", *_OVER_LEVEL), NAN)
    return {**row, **ratio_fields, **difference_fields, "comparable": False, "note": why}


def _withhold_p(table: pd.DataFrame, rows: pd.DataFrame, environments: int, p_values: bool | None) -> None:
    """Remove p-values that METHOD rules out, and note why."""
    least = 2 if p_values else least_blocks(environments)
    cell = rows["cell"].iloc[0]
    if p_values is False:
        why = pd.Series("no p-values asked for", index=table.index)
    elif cell != "core":
        why = pd.Series("intervals only outside the cell core", index=table.index)
    else:
        why = (table["n_blocks"] < least).map({True: f"no p-value under {least} blocks", False: ""})
    out = why != ""
    table.loc[out, ["p", "p_signflip"]] = NAN
    table["note"] = [": ".join(x for x in (a, b) if x) for a, b in zip(table["note"], why, strict=True)]
