"""The protocol that a pilot on a host of two cores would write."""

from __future__ import annotations

from typing import Final

from mlscale.measurement.model_load import TYPICAL
from mlscale.measurement.sizing import Host
from mlscale.measurement.trial import Cost
from mlscale_experiment.choice import choose
from mlscale_experiment.pilot import protocol_of
from mlscale_experiment.protocol import Bodies, Protocol

TWO: Final = ["torchserve", "rayserve"]


def protocol_for(cost: Cost) -> Protocol:
    """Of a model with this cost, for both local frameworks."""
    demands, start_s = {name: TYPICAL[name] for name in TWO}, dict.fromkeys(TWO, 20.0)
    chosen = choose(cost, demands, Host(2, 24e9, 0.0025, 0.06), start_s)
    bodies = Bodies(folder="bodies", count=3)
    return protocol_of(demands, chosen.size, start_s, bodies=bodies, why=dict(chosen.why))
