"""The runs of an experiment and their order (METHOD §4 to §6). Pure; the same seed gives the same plan.

A block runs every environment once. With A/A, one environment of the block (rotating) runs a second time under the
label B: the noise floor beside every effect. Orders are rows of a Williams square over the block's runs (the second
run counts as a treatment of its own), so that every run stands in every place, and follows every other, equally often.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mlscale.runs import Arm, ClosedLoop, Connections, MlscaleError, OpenLoop, Schedule
from mlscale_experiment.protocol import Protocol

# How long the idle framework is observed before time zero, s: in cells that report idle costs, and elsewhere.
IDLE_S: Final = 30.0
SETTLED_S: Final = 10.0


class Variant(BaseModel):
    """What a run changes from core; ``scaling`` is put over the arm's settings.

    ``environments``: those it makes sense in; empty: all. ``partitioned``: the application in components.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    arm: Arm = "matched"
    connections: Connections = "fresh"
    scaling: Mapping[str, Any] = {}
    environments: tuple[str, ...] = ()
    partitioned: bool = False


CORE: Final = Variant(name="core")
SHIPPED: Final = Variant(name="shipped", arm="shipped")
# Kubernetes' HPA at the sync period that it is shipped with, averaging for as long as a look and a delay take
# elsewhere.
AS_HPA_IS_SHIPPED: Final[Mapping[str, Any]] = {
    "sync_period_s": 15.0,
    "metric_window_s": 1.6,
    "upscale_stabilisation_s": 0,
}
# The factors of the cell ``sensitivity``, after core's own settings as their reference; the window of m_t is a further
# factor, and needs no runs of its own.
SENSITIVITY: Final = (
    Variant(name="reference"),
    Variant(name="static-max", arm="static-max"),
    Variant(name="kept-connections", connections="kept"),
    Variant(name="period-10ms", scaling={"cpu_period_s": 0.01}),
    Variant(
        name="default-backoff",
        scaling={"backoff_multiplier": 2.0, "max_backoff_s": 0.5},
        environments=("rayserve",),
    ),
    Variant(name="sync-15s", scaling=AS_HPA_IS_SHIPPED, environments=("k3s",)),
    Variant(name="probe-10s", scaling={"readiness_period_s": 10}, environments=("k3s",)),
)


# Environments that scale to zero; the cell ``zero`` is theirs.
TO_ZERO: Final = ("rayserve", "keda")
# Both arms of the cell ``zero``: what waking up costs, and what one replica costs at rest.
ZERO: Final = (
    Variant(name="zero", scaling={"min_replicas": 0}, environments=TO_ZERO),
    Variant(name="one", scaling={"min_replicas": 1}, environments=TO_ZERO),
)


class Cell(BaseModel):
    """Blocks of one kind.

    Attributes:
        stream: of the random orders. Never renumber: published runs lie in folders named after their places.
        blocks: how many; None: as many as the user asks for.
        doubled: whether one environment runs twice in each block (A/A).
        named: whether each variant's runs lie in a folder of its name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    stream: int
    variants: tuple[Variant, ...] = (CORE,)
    blocks: int | None = None
    doubled: bool = False
    named: bool = False
    loop: Literal["closed", "open", "zero"] = "closed"
    idle_s: float = SETTLED_S


WAKE_UPS: Final = "zero"
# In the order in which they are measured.
CELLS: Final = (
    Cell(name="core", stream=0, doubled=True, idle_s=IDLE_S),
    Cell(name="shipped", stream=7, variants=(SHIPPED,), blocks=6, idle_s=IDLE_S),
    Cell(name="open", stream=1, blocks=6, loop="open"),
    Cell(name="sensitivity", stream=2, variants=SENSITIVITY, blocks=4, named=True),
    Cell(name=WAKE_UPS, stream=9, variants=ZERO, blocks=3, named=True, loop="zero"),
)
QUICK_BLOCKS: Final = 1
# Separate random streams, so that no draw affects another.
ORDERS, BASELINE, AA = 1, 2, 3


class PlannedRun(BaseModel):
    """One run of the plan. ``folder`` is relative to RUNS; ``block`` and ``position`` count from 1. ``label``: the
    cell as run.json has it; ``idle_s``: how long the idle framework is observed before time zero."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    label: str
    variant: str
    block: int
    position: int
    environment: str
    arm: Arm
    connections: Connections
    scaling: Mapping[str, Any]
    partitioned: bool = False
    aa_label: Literal["A", "B"] | None
    predecessor: str | None
    schedule: Schedule
    idle_s: float
    seed: int
    folder: str


def williams(treatments: int) -> list[list[int]]:
    """A Williams square: each treatment once per place, each ordered pair of neighbours equally often.

    Returns ``treatments`` rows where that number is even, twice as many (the square and its mirror) where it is odd.
    Source: E. J. Williams, Australian Journal of Scientific Research A 2 (1949), 149-168.
    """
    if treatments < 1:
        raise ValueError(f"{treatments} treatments")
    zigzag = [(step + 1) // 2 if step % 2 else (treatments - step // 2) % treatments for step in range(treatments)]
    square = [[(first + row) % treatments for first in zigzag] for row in range(treatments)]
    return square if treatments % 2 == 0 or treatments == 1 else square + [row[::-1] for row in square]


def orders(treatments: int, blocks: int, seed: Sequence[int]) -> list[list[int]]:
    """The order of treatments in each block: Williams squares, relabelled and shuffled by the seed, then truncated.

    More blocks with the same seed only extend the list.
    """
    square = williams(treatments)
    sequence: list[list[int]] = []
    for chunk in range(-(-blocks // len(square))):
        rng = np.random.default_rng([*seed, chunk])
        names = rng.permutation(treatments)
        sequence += [[int(names[treatment]) for treatment in square[row]] for row in rng.permutation(len(square))]
    return sequence[:blocks]


def plan(
    environments: Sequence[str], cells: Sequence[Cell], blocks: int, protocol: Protocol, *, seed: int = 0
) -> list[PlannedRun]:
    """Every run of these cells, in the order in which they are measured; each cell is completed before the next.

    Args:
        blocks: of the cells that don't say how many they have.
    """
    runs: list[PlannedRun] = []
    for cell in cells:
        of_cell = [
            run
            for variant in cell.variants
            for run in block_runs(environments, cell, variant, cell.blocks or blocks, protocol, seed)
        ]
        runs += sorted(of_cell, key=lambda run: run.block)  # variants alternate, so that time of day affects all alike
    return runs


def quick_plan(
    environments: Sequence[str], protocol: Protocol, *, seed: int = 0, idle_s: float = IDLE_S
) -> list[PlannedRun]:
    """One short run of each environment, for a first look."""
    core = CELLS[0].model_copy(update={"doubled": False, "idle_s": idle_s})
    runs = block_runs(environments, core, CORE, QUICK_BLOCKS, protocol, seed)
    return [run.model_copy(update={"schedule": protocol.quick_schedule()}) for run in runs]


def baseline_s(protocol: Protocol, seed: int, block: int) -> float:
    """Length of a block's baseline, s: one draw per block, so that loop phases vary but not between environments."""
    extra = np.random.default_rng([seed, BASELINE, block]).uniform(0.0, protocol.baseline_jitter_s)
    return round(protocol.baseline_s + float(extra), 3)


def block_runs(
    environments: Sequence[str], cell: Cell, variant: Variant, blocks: int, protocol: Protocol, seed: int
) -> Iterator[PlannedRun]:
    """The runs of one variant, block by block."""
    chosen = [name for name in environments if not variant.environments or name in variant.environments]
    if not chosen:
        return
    treatments = len(chosen) + cell.doubled
    stream = [seed, ORDERS, cell.stream, *variant.name.encode()]
    first_doubled = int(np.random.default_rng([seed, AA]).integers(len(chosen))) if cell.doubled else 0
    for number, order in enumerate(orders(treatments, blocks, stream), start=1):
        doubled = chosen[(first_doubled + number - 1) % len(chosen)] if cell.doubled else None
        schedule = _schedule(protocol, cell, baseline_s(protocol, seed, number))
        predecessor, variant_folder = None, variant.name if cell.named else None
        for position, treatment in enumerate(order, start=1):
            environment = chosen[treatment] if treatment < len(chosen) else str(doubled)
            label: Literal["A", "B"] | None = None
            if environment == doubled:
                label = "A" if treatment < len(chosen) else "B"
            yield PlannedRun(
                cell=cell.name,
                label=f"{cell.name}/{variant.name}" if cell.named else cell.name,
                variant=variant.name,
                block=number,
                position=position,
                environment=environment,
                arm=variant.arm,
                connections=variant.connections,
                scaling=_scaling(protocol, environment, variant),
                partitioned=variant.partitioned,
                aa_label=label,
                predecessor=predecessor,
                schedule=schedule,
                idle_s=cell.idle_s,
                seed=seed,
                folder=run_folder(cell.name, variant_folder, number, position, environment, label),
            )
            predecessor = environment


def run_folder(
    cell: str, variant: str | None, block: int, position: int, environment: str, label: str | None = None
) -> str:
    """Where a run's attempts lie, relative to RUNS; ``variant``: of a cell whose variants have folders."""
    name = f"{position}-{environment}" + (f"-{label}" if label else "")
    return "/".join((cell, *((variant,) if variant else ()), f"block-{block:02d}", name))


def _scaling(protocol: Protocol, environment: str, variant: Variant) -> dict[str, Any]:
    frozen = protocol.matched.get(environment, {}) if variant.arm == "matched" else {}
    return {**protocol.sizes, **frozen, **variant.scaling}


def _schedule(protocol: Protocol, cell: Cell, baseline_s: float) -> ClosedLoop | OpenLoop:
    match cell.loop:
        case "open":
            return protocol.open_schedule(baseline_s)
        case "zero":
            return protocol.zero_schedule()
    return protocol.closed_schedule(baseline_s)


def check(environments: Sequence[str], cells: Sequence[str], blocks: int, known: Sequence[str]) -> None:
    """Raise MlscaleError for no environment, a duplicate one, a cell that is not ``known``, no block."""
    if not environments:
        raise MlscaleError("no environment is named", "--environments", 'name some, such as "torchserve rayserve"')
    doubles = sorted({name for name in environments if environments.count(name) > 1})
    if doubles:
        raise MlscaleError(
            f"{', '.join(doubles)}: named twice", "--environments", "name each once; A/A doubles one by itself"
        )
    unknown = sorted(set(cells) - set(known))
    if unknown or not cells:
        raise MlscaleError(
            f"unknown cell {', '.join(unknown) or '(none named)'}", "--cells", f"choose one of: {', '.join(known)}"
        )
    if [*cells] == [WAKE_UPS] and not set(environments) & set(TO_ZERO):
        what = "none of them scales to zero"
        raise MlscaleError(what, f"--cells {WAKE_UPS}", f"name {' or '.join(TO_ZERO)} among --environments")
    if blocks < 1:
        raise MlscaleError(f"{blocks} blocks", "--blocks", "ask for at least one")
