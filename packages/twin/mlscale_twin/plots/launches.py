"""Scaling to thousands of containers: published times beside what the clouds' numbers give."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mlscale.plots.style import BAND, INK, MUTED, attach, colour, headline, mark_modes, new_axes, shade, style

_TITLES: Final = {
    "ecs-fargate": "ECS, Fargate",
    "ecs-ec2": "ECS, EC2",
    "eks-fargate": "EKS, Fargate",
    "eks-karpenter": "EKS, Karpenter",
    "eks-node-group": "EKS, node group",
}


def launch_panels(curves: pd.DataFrame, table: pd.DataFrame) -> npt.NDArray[Any]:
    """One panel per variant: containers that run, by minutes since all were asked for. The line is the median of the
    draws, the band 90 % of them; dots are published.

    Args:
        curves: of `studies.launch_curves.launch_curves`. table: of `launch_table`, of the same curves.
    Returns:
        Axes 1 x variants; `plotted` of the first: the table.
    """
    groups = list(curves.groupby("variant", sort=False))
    points = table[table["what"] != "node ready"]
    with style():
        grid = new_axes(1, len(groups), 2.6, sharey=True)
        for axes, (variant, group) in zip(grid[0], groups, strict=True):
            ink = colour(str(variant).partition("-")[0])
            early, middle, late = np.quantile(np.stack(group["times_s"].tolist()), [0.05, 0.5, 0.95], axis=0) / 60
            containers = np.arange(1, len(middle) + 1)
            axes.fill_betweenx(containers, early, late, color=shade(ink, 0.35), lw=0)
            axes.plot(middle, containers, color=ink, lw=1.6)
            own = points[points["variant"] == variant]
            heights = [containers[0], containers[-1]]
            for row, height in zip(own.to_dict("records"), heights, strict=True):
                filled = INK if row["inside"] else "white"
                axes.plot(row["published_low_s"] / 60, height, "o", ms=5.5, mfc=filled, mec=INK, clip_on=False)
            axes.set_title(_TITLES.get(str(variant), str(variant)), fontsize=8.5)
            axes.set_xlim(0, 20)
            axes.set_xlabel("minutes")
            mark_modes(axes, {"simulated"})
        grid[0, 0].set_ylabel("containers running")
        handles = [
            Line2D([], [], color=MUTED, lw=1.6, label="our numbers, median"),
            Patch(color=BAND, label="90 % of draws"),
            Line2D([], [], marker="o", ls="", ms=5.5, mfc=INK, mec=INK, label="published, inside"),
            Line2D([], [], marker="o", ls="", ms=5.5, mfc="white", mec=INK, label="published, outside"),
        ]
        grid[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=4)
        attach(grid[0, 0], table)
        said = f"{int(points['inside'].sum())} of {len(points)} published times lie inside what our numbers give"
        headline(grid[0, 0], said, {"simulated"})
    return grid
