"""mlscale_paper: the experiment behind the published figures.

The modules that notebooks use are names of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale_paper import (
        advice_published,
        comparison,
        paper_strategy,
        partition_runs,
        partition_theory,
        ray_start,
        results,
        twin_records,
        twin_tables,
    )
    from mlscale_paper.plots import advice_check as advice_plots
    from mlscale_paper.plots import application as application_plots
    from mlscale_paper.plots import partition as partition_plots
    from mlscale_paper.plots import predictions as prediction_plots

_MODULES = {
    "advice_published": "mlscale_paper.advice_published",
    "advice_plots": "mlscale_paper.plots.advice_check",
    "comparison": "mlscale_paper.comparison",
    "paper_strategy": "mlscale_paper.paper_strategy",
    "partition_runs": "mlscale_paper.partition_runs",
    "partition_theory": "mlscale_paper.partition_theory",
    "application_plots": "mlscale_paper.plots.application",
    "partition_plots": "mlscale_paper.plots.partition",
    "prediction_plots": "mlscale_paper.plots.predictions",
    "ray_start": "mlscale_paper.ray_start",
    "results": "mlscale_paper.results",
    "twin_records": "mlscale_paper.twin_records",
    "twin_tables": "mlscale_paper.twin_tables",
}

__getattr__, __dir__, __all__ = attach(__name__, {}, _MODULES)
