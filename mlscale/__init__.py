"""mlscale: compare autoscaling frameworks for containerised machine-learning applications.

``import mlscale`` loads no torch, ray or boto3; names below are imported when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlscale.measure.measurement import measure
    from mlscale_twin.simulate import simulate
    from mlscale.runs import MlscaleError, Run, load_run, load_runs

__all__ = ["MlscaleError", "Run", "load_run", "load_runs", "measure", "simulate"]


def __getattr__(name: str) -> Any:
    if name == "measure":
        from mlscale.measure.measurement import measure

        return measure
    if name == "simulate":
        from mlscale_twin.simulate import simulate

        return simulate
    if name in __all__:
        from mlscale import runs

        return getattr(runs, name)
    raise AttributeError(f"module 'mlscale' has no attribute {name!r}")
