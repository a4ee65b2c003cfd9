"""One function per figure: runs or tables in, matplotlib axes out; `plotted` returns the numbers that they show."""

from mlscale.plots.captions import caption
from mlscale.plots.estimates import effect_panel, estimation, runs_panel
from mlscale.plots.parts import response_parts
from mlscale.plots.sensitivity import window_sensitivity
from mlscale.plots.spreads import sigma_parts
from mlscale.plots.style import COLOURS, colour, display_name, mark_modes, plotted, style
from mlscale.plots.survival import survival as kaplan_meier
from mlscale.plots.timelines import timeline
from mlscale.plots.trajectories import replica_panel, response_panel, trajectory
from mlscale.plots.usage import cores_panel, cost_panel, resources

__all__ = [
    "COLOURS",
    "caption",
    "colour",
    "cores_panel",
    "cost_panel",
    "display_name",
    "effect_panel",
    "estimation",
    "kaplan_meier",
    "mark_modes",
    "plotted",
    "replica_panel",
    "resources",
    "response_panel",
    "response_parts",
    "runs_panel",
    "sigma_parts",
    "style",
    "timeline",
    "trajectory",
    "window_sensitivity",
]
