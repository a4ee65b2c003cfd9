"""Published figures beside the same ones drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from mlscale.notebook.manifest import read_manifest
from mlscale_paper import places

# Drawn again by ``make proof``: these simulate for a minute each.
SIMULATING: Final = ("09_twin.ipynb", "10_strategy.ipynb")


def figures_of(*notebooks: str) -> set[str]:
    """The names of the published figures of some notebooks."""
    entries = read_manifest(places.figures()).items()
    return {name for name, entry in entries if f"{entry['notebook']}.ipynb" in notebooks}


def check(redrawn: Mapping[str, Any]) -> None:
    """Each figure shows the runs, the simulations, the caption and the numbers that the published one does."""
    recorded = read_manifest(places.figures())
    for name, entry in redrawn.items():
        for part in ("runs", "simulated", "note"):
            assert entry.get(part) == recorded[name].get(part), name
        old = numbers(recorded[name]["numbers"])
        assert numbers(entry["numbers"]) == pytest.approx(old, rel=1e-4, abs=1e-6), name


def numbers(entry: Any) -> dict[str, float]:
    """All numbers of a manifest's entry, by their place in it."""
    if isinstance(entry, dict):
        return {f"{key}.{place}": value for key, part in entry.items() for place, value in numbers(part).items()}
    return {"": float(entry)} if isinstance(entry, int | float) else {}
