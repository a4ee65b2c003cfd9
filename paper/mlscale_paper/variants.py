"""The cells of the published experiment beside those that any experiment can have, and their variants, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from mlscale.runs import Run
from mlscale_experiment import plan
from mlscale_experiment.plan import Cell, Variant


def cell_of(run: Run) -> str:
    """The cell that a run belongs to: the first part of its label "CELL/VARIANT"; "" for a run by hand."""
    return (run.info.cell or "").partition("/")[0]


# At the same total of replicas, at least and at most: a component has one at least, so the whole has two.
PARTITION: Final = (
    Variant(name="whole", scaling={"min_replicas": 2}),
    Variant(name="partitioned", partitioned=True),
)
# What notebook 04 shows of containers, beside core's own run: the cell ``container``.
CONTAINER_ENVIRONMENTS: Final = ("k3s",)
CONTAINER: Final = (
    Variant(name="kept-connections", connections="kept", environments=CONTAINER_ENVIRONMENTS),
    Variant(name="period-10ms", scaling={"cpu_period_s": 0.01}, environments=CONTAINER_ENVIRONMENTS),
    Variant(name="probe-10s", scaling={"readiness_period_s": 10}, environments=CONTAINER_ENVIRONMENTS),
)
# Every environment in blocks; the rehearsal and the hold-out have plans of their own (`mlscale_paper.design`).
BLOCK_CELLS: Final = (
    *plan.CELLS,
    Cell(name="partition", stream=8, variants=PARTITION, blocks=3, named=True),
    Cell(name="container", stream=3, variants=CONTAINER, blocks=3, named=True),
)
# Those of `mlscale experiment run`, in the order in which they are measured; advice has a command of its own.
CELLS: Final = (*(cell.name for cell in BLOCK_CELLS), "rehearsal", "holdout")
# Cells in which environments are compared.
COMPARED_CELLS: Final = tuple(cell.name for cell in plan.CELLS if cell.name != plan.WAKE_UPS)
# Cells for the twin alone: their runs are in no comparison and in no figure of an environment.
TWIN_CELLS: Final = ("holdout", "advice")


class Boot(BaseModel):
    """One variant of the rehearsal, all at a load step that needs more machines than there are.

    ``at_most_s`` is the longest time that a machine takes to boot in it; after the step it is watched for so much
    longer. ``down``: then the load goes back, and what is too much is watched as it goes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    variant: Variant
    at_most_s: float
    down: bool = False


# What the profile "ec2" draws (environments/machine_types.json), rounded.
EC2_S: Final = 26.0
# How the response depends on the time that a machine takes to boot, and what room kept free is worth.
REHEARSAL: Final = (
    *(
        Boot(variant=Variant(name=f"boot-{seconds}s", scaling={"boot": f"{seconds}s"}), at_most_s=seconds)
        for seconds in (0, 10, 60, 180)
    ),
    Boot(variant=Variant(name="boot-ec2", scaling={"boot": "ec2"}), at_most_s=EC2_S, down=True),
    Boot(variant=Variant(name="buffer", scaling={"boot": "ec2", "buffer_replicas": 2}), at_most_s=EC2_S),
)
# The same load on ``k3s``, where room for all replicas is always there.
NO_MACHINES: Final = Boot(variant=Variant(name="no-machines"), at_most_s=0.0)
# Of each environment's notebook: what it measures beside its own run where it is asked to.
SHOWN: Final[Mapping[str, tuple[Variant, ...]]] = {
    "k3s": CONTAINER,
    "eks": tuple(boot.variant for boot in REHEARSAL if boot.variant.name in ("boot-60s", "buffer")),
}
# Environments that are only rehearsed: they have a cell of their own, and no part in the others.
REHEARSED: Final = ("eks",)


# Environments whose twin can be compared with runs. Their order in a block is drawn over all of them, so that measuring
# only some of them is part of the same plan.
JUDGED: Final = ("torchserve", "rayserve", "k3s", "eks")


class HeldOut(BaseModel):
    """A schedule that the twin was not fitted to and is judged by, with one setting changed.

    ``peak``: the load after its rise, by environment: clients of a closed loop, or requests/s if ``open_loop``.
    ``shares``: (time since the rise began, s; share of the way from core's baseline to the peak), in order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    open_loop: bool = False
    peak: Mapping[str, float]
    shares: tuple[tuple[float, float], ...]
    scaling: Mapping[str, Mapping[str, Any]]


RAMP_S: Final = 60.0
RAMP_STEPS: Final = 12
# Unseen schedules for the twin (METHOD §8), fixed before they were measured, as its profiles are. The peaks are what
# the replicas of core's arm can serve once they are there, on core's host; Ray Serve's ramp is lower, since one of its
# replicas takes 50 s to start.
HOLDOUT: Final = (
    HeldOut(
        name="step",
        peak={"torchserve": 14, "rayserve": 12, "k3s": 14, "eks": 14},
        shares=((0.0, 1.0),),
        scaling={
            "torchserve": {"target_ongoing": 1.5},
            "rayserve": {"target_ongoing_requests": 1.5},
            "k3s": {"target_in_flight": 1.5},
            "eks": {"target_in_flight": 1.5, "boot": "20s"},
        },
    ),
    HeldOut(
        name="ramp",
        open_loop=True,
        peak={"torchserve": 7.0, "rayserve": 5.0, "k3s": 7.0, "eks": 7.0},
        shares=tuple((place * RAMP_S / RAMP_STEPS, (place + 1) / RAMP_STEPS) for place in range(RAMP_STEPS)),
        scaling={
            "torchserve": {"upscale_delay_s": 4.0},
            "rayserve": {"upscale_delay_s": 4.0},
            "k3s": {"readiness_period_s": 5},
            "eks": {"readiness_period_s": 5, "boot": "30s"},
        },
    ),
    HeldOut(
        name="burst",
        peak={"torchserve": 16, "rayserve": 14, "k3s": 16, "eks": 16},
        shares=((0.0, 1.0), (40.0, 0.4)),
        scaling={"torchserve": {}, "rayserve": {}, "k3s": {}, "eks": {"boot": "20s"}},
    ),
)
# Peaks relative to those above; a schedule takes the next one in each block. Within a block each schedule has another.
LEVELS: Final = (1.0, 0.8, 1.0, 1.2)
