"""The primary endpoints, fixed before the data (METHOD §1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Endpoint:
    """``column`` is what is compared, in seconds; ``better``/``worse`` the words for a ratio under / over 1;
    ``seconds`` the column of the means, where that is another one; ``by_window`` the same figure by each W, where it
    depends on W."""

    name: str
    label: str
    column: str
    better: str
    worse: str
    seconds: str | None = None
    censored: str | None = None
    without_failures: str | None = None
    by_window: tuple[str, ...] = ()


P1: Final = Endpoint(
    "P1", "mean response", "mean_response_s", "faster", "slower", without_failures="mean_response_ok_s"
)
P2: Final = Endpoint(
    "P2", "sd of response", "sd_response_s", "steadier", "less steady", without_failures="sd_response_ok_s"
)
P3: Final = Endpoint(
    "P3",
    "T_slo + W",
    "t_slo_confirmed_s",
    "sooner back",
    "later back",
    "t_slo_s",
    censored="t_slo_censored",
    by_window=tuple(f"t_slo_confirmed_w{window}_s" for window in (2, 5, 10, 30)),
)
PRIMARY: Final = (P1, P2, P3)
