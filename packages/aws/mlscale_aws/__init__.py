"""Amazon ECS as an environment of mlscale, what a run on AWS may cost, and AWS's list prices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale_aws.run_cost import shown_cost

__getattr__, __dir__, __all__ = attach(__name__, {"mlscale_aws.run_cost": "shown_cost"})
