"""mlscale: compare autoscaling frameworks for containerised machine-learning applications.

Everything that a notebook or a script needs is a name of this module; docs/api.md lists them. ``import mlscale`` loads
no torch, ray, boto3 or pandas: a name is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale import analysis, figures
    from mlscale.analysis.inference import compare
    from mlscale.analysis.summary import summarise
    from mlscale.cost import cost_table, read_prices
    from mlscale.environments.base import (
        App,
        Component,
        Deployed,
        Environment,
        ObservationLost,
        Problem,
        Scaling,
        own_model,
    )
    from mlscale.loadgen.spec import LoadOptions
    from mlscale.measurement.load_test import load
    from mlscale.measurement.measure import MeasureOptions, measure
    from mlscale.measurement.requirements import use_requirements
    from mlscale.measurement.simulation import simulate
    from mlscale.notebook import tables
    from mlscale.notebook.manifest import Simulated
    from mlscale.notebook.parameters import (
        ApplicationParameters,
        CompareParameters,
        EcsParameters,
        KubernetesParameters,
        MeasureParameters,
        PartitionParameters,
        RehearsalParameters,
        StrategyParameters,
        TwinParameters,
        check_parameters,
    )
    from mlscale.notebook.show import Figures, remark, show_figure
    from mlscale.notebook.study import Study
    from mlscale.progress import Shown
    from mlscale.runs import (
        ClosedLoop,
        ClosedStage,
        Constant,
        Event,
        MlscaleError,
        OpenLoop,
        Ramp,
        ReplicaSample,
        ResourceSample,
        Run,
        RunClock,
        Sine,
        Spike,
        Staircase,
        Step,
        Trace,
        load_run,
        load_runs,
    )

_MODULES = {"analysis": "mlscale.analysis", "figures": "mlscale.figures", "tables": "mlscale.notebook.tables"}
_RUNS = (
    "ClosedLoop ClosedStage Constant Event MlscaleError OpenLoop Ramp ReplicaSample ResourceSample Run RunClock Sine "
    "Spike Staircase Step Trace load_run load_runs"
)
_NAMES = {
    "mlscale.runs": _RUNS,
    "mlscale.measurement.measure": "MeasureOptions measure",
    "mlscale.measurement.simulation": "simulate",
    "mlscale.measurement.load_test": "load",
    "mlscale.loadgen.spec": "LoadOptions",
    "mlscale.cost": "cost_table read_prices",
    "mlscale.environments.base": "App Component Deployed Environment ObservationLost Problem Scaling own_model",
    "mlscale.measurement.requirements": "use_requirements",
    "mlscale.analysis.summary": "summarise",
    "mlscale.analysis.inference": "compare",
    "mlscale.notebook.study": "Study",
    "mlscale.notebook.show": "Figures remark show_figure",
    "mlscale.notebook.manifest": "Simulated",
    "mlscale.notebook.parameters": "ApplicationParameters CompareParameters EcsParameters KubernetesParameters "
    "MeasureParameters PartitionParameters RehearsalParameters StrategyParameters TwinParameters check_parameters",
    "mlscale.progress": "Shown",
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES, _MODULES)
