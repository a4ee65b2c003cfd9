"""The lab: checks with hints for the student notebooks, and an autoscaling sandbox on the twin."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale_lab import experiments
    from mlscale_lab.lessons import cold_starts, comparison, machines, queues, thresholds
    from mlscale_lab.sandbox.widget import Sandbox

_LESSONS = ("cold_starts", "comparison", "machines", "queues", "thresholds")
_MODULES = {name: f"mlscale_lab.lessons.{name}" for name in _LESSONS} | {"experiments": "mlscale_lab.experiments"}
_NAMES = {"mlscale_lab.sandbox.widget": "Sandbox"}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES, _MODULES)
