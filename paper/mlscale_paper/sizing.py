"""What the photos of the published set should cost, for the load that `mlscale.measurement.sizing` fits to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mlscale.measurement import sizing
from mlscale.measurement.sizing import PERIOD_S, Demand, Host, Size

# CPU of an answer, in units of what a quota period gives: in the middle between one and two, so that a small change
# of its work does not change how many periods it takes.
PERIODS: Final = 1.5


def photo_cpu_s(demands: Mapping[str, Demand], quota_cores: float) -> float:
    """CPU that decoding a photo should take, s: an answer then takes `PERIODS` quota periods, in the middle of the
    environments."""
    own_s = [demand.own_s for demand in demands.values()]
    return PERIODS * quota_cores * PERIOD_S - (min(own_s) + max(own_s)) / 2


def periods(demand: Demand, photo_s: float, quota_cores: float) -> float:
    """An answer's CPU, in quota periods."""
    return (photo_s + demand.own_s) / (quota_cores * PERIOD_S)


def fit(demands: Mapping[str, Demand], host: Host, photo_s: float | None = None) -> Size:
    """`mlscale.measurement.sizing.fit`; ``photo_s``: what decoding one of the photos takes that were chosen; None: what
    it should take."""
    return sizing.fit(demands, host, lambda cores: photo_cpu_s(demands, cores) if photo_s is None else photo_s)
