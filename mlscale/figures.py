"""Every figure: runs in, a matplotlib Figure out, with its caption as the figure's label (``figure.get_label()``).

``level_s`` is L, the highest moving mean that counts as good, s. ``rows`` is `mlscale.summarise` of the same runs (of
the figures by boot time: `mlscale.analysis.boot_time_rows`), computed if omitted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    pass

_NAMES = {
    "mlscale.plots.boots": "boot_parts boot_response",
    "mlscale.plots.coldstart": "cold_starts",
    "mlscale.plots.estimates": "estimation",
    "mlscale.plots.parts": "response",
    "mlscale.plots.periods": "inference_by_period",
    "mlscale.plots.sharing": "sharing",
    "mlscale.plots.spreads": "sigma",
    "mlscale.plots.timelines": "timeline",
    "mlscale.plots.trajectories": "trajectory",
    "mlscale.plots.usage": "resources",
    "mlscale.plots.variants": "variants",
    "mlscale.plots.wakeup": "wake_up",
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES)
