"""The setting that is in use today beside the advised one: what a change would bring, and whether it is worth one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlscale.analysis.paired import paired_t
from mlscale_twin.strategy.objective import PERCENTILES, Figures, Objective
from mlscale_twin.strategy.search import TIE, Candidate

# Figures that are compared, in words, with their unit, and the factor to it.
COMPARED: Final[Mapping[str, tuple[str, str, float]]] = {
    "usd_per_month": ("cost", "USD a month", 1.0),
    "mean_s": ("mean", "s", 1.0),
    **{name: (name.removesuffix("_s"), "s", 1.0) for name in PERCENTILES},
    "slow": ("slow", "% of requests", 100.0),
    "failed": ("failed", "% of requests", 100.0),
}


@dataclass(frozen=True)
class Today:
    """The setting that is in use, in one place.

    Args:
        candidate: over the whole trace, with the seeds of the advised one.
        margin: as of `mlscale_twin.strategy.advice.Advised`.
        advised_margin: of the advised one in the same place; advised: its figures.
        differences: by figure, the advised one's minus today's: mean and 95 % interval over seeds, in pairs.
        too_short: why the trace shows too little; empty: it does not.
        notes: what was assumed or ignored when it was read.
    """

    candidate: Candidate
    margin: tuple[float, float]
    advised: Figures
    advised_margin: tuple[float, float]
    differences: Mapping[str, tuple[float, float, float]]
    too_short: str = ""
    notes: Sequence[str] = ()

    @property
    def keep(self) -> bool:
        """Whether it surely meets the objective, and the advised one does not, or is not cheaper by more than a tie."""
        dear = self.candidate.figures.usd_per_month > TIE * self.advised.usd_per_month
        return not self.too_short and self.margin[1] <= 0 and not (self.advised_margin[1] <= 0 and dear)

    @property
    def verdict(self) -> str:
        """Of the objective, in a few words."""
        low, high = self.margin
        return "met" if high <= 0 else "too close to call" if low <= 0 else f"missed by {100 * (low + high) / 2:.0f} %"

    @property
    def conclusion(self) -> str:
        """What to do, in a sentence."""
        if self.too_short:
            return f"too short to tell: {self.too_short}"
        saved = 1 - self.advised.usd_per_month / self.candidate.figures.usd_per_month
        if self.keep and self.advised_margin[1] > 0:
            return "keep what you have: it surely meets the objective, which the advised setting does not"
        if self.keep:
            saves = f"saves {100 * saved:.1f} %" if saved > 0 else "is no cheaper"
            return f"keep what you have: it surely meets the objective, and the advised setting {saves}"
        if self.advised_margin[1] > 0:
            return "neither setting surely meets the objective"
        if self.margin[1] > 0:
            return "change: the advised setting surely meets the objective, which what you have does not"
        return f"change: both settings surely meet the objective, and the advised one saves {100 * saved:.0f} %"

    @property
    def change(self) -> str:
        """The differences that there are, in words."""
        texts = []
        for name, (what, unit, factor) in COMPARED.items():
            mean, low, high = (factor * each for each in self.differences.get(name, (0.0, 0.0, 0.0)))
            if (mean, low, high) != (0.0, 0.0, 0.0):
                texts.append(f"{what} {mean:+.3g} ({low:+.3g} to {high:+.3g}) {unit}")
        return ", ".join(texts) or "no difference"


def beside(
    objective: Objective, today: Candidate, advised: Candidate, too_short: str = "", notes: Sequence[str] = ()
) -> Today:
    """Today's setting and the advised one of the same place, both with ``runs`` of the same seeds."""
    differences = {}
    for name in COMPARED:
        pairs = [(getattr(new, name), getattr(old, name)) for new, old in zip(advised.runs, today.runs, strict=True)]
        if all(new is not None and old is not None for new, old in pairs):
            mean, low, high = (float(each) for each in paired_t([new - old for new, old in pairs])[:3])
            differences[name] = (mean, mean, mean) if math.isnan(low) else (mean, low, high)  # all are the same
    margins = objective.interval(today.runs), objective.interval(advised.runs)
    return Today(today, margins[0], advised.figures, margins[1], differences, too_short, tuple(notes))
