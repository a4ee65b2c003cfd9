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

from mlscale.runs import Arm, ClosedLoop, Connections, MlscaleError, OpenLoop, Schedule, Staircase
from mlscale.runs.schedule import ClosedStage, Step
from mlscale_paper.protocol import Protocol
from mlscale_paper.variants import (
    CELLS,
    CONTAINER,
    CONTAINER_ENVIRONMENTS,
    CORE,
    HOLDOUT,
    JUDGED,
    LEVELS,
    NAMED_CELLS,
    NO_MACHINES,
    PARTITION,
    REHEARSAL,
    REHEARSED,
    SENSITIVITY,
    SHIPPED,
    Boot,
    Cell,
    HeldOut,
    Variant,
)

# Blocks of cells other than core, whose number the user gives.
OTHER_BLOCKS: Final[Mapping[Cell, int]] = {"shipped": 6, "open": 6, "sensitivity": 3, "partition": 3, "container": 1}
REHEARSAL_BLOCKS: Final = 3
HOLDOUT_BLOCKS: Final = 4
# How long each of its schedules is watched from the first change of load, s: Ray Serve's second replica takes 50 s.
HOLDOUT_HORIZON_S: Final = 100.0
QUICK_BLOCKS: Final = 1
# How long the step is watched in the rehearsal, beside the time that a machine takes to boot, s.
REHEARSAL_HORIZON_S: Final = 150.0
# And how long after it, where the load goes back.
REHEARSAL_DOWN_S: Final = 120.0
QUICK_REHEARSAL: Final = "boot-10s"


class PlannedRun(BaseModel):
    """One run of the plan. ``folder`` is relative to RUNS; ``block`` and ``position`` count from 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: Cell
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
    environments: Sequence[str],
    cells: Sequence[str],
    blocks: int,
    protocol: Protocol,
    *,
    seed: int = 0,
    quick: bool = False,
) -> list[PlannedRun]:
    """Every run of an experiment, in the order in which they are measured.

    Args:
        environments: names, each once.
        cells: of `CELLS`; each is completed before the next. Environments in `REHEARSED` have the hold-out and the
            rehearsal, which is run wherever one of them is named, but not for the hold-out alone.
        blocks: of core; the others have `OTHER_BLOCKS` (container only of the environments that scale containers),
            holdout `HOLDOUT_BLOCKS`, a quick experiment one block; these have no A/A.
    Raises:
        MlscaleError: no environment, a duplicate one, an unknown cell, no block.
    """
    check(environments, cells, blocks)
    plain = [name for name in environments if name not in REHEARSED]
    rehearsed = list(_rehearsal(environments, protocol, seed, quick=quick)) if set(cells) != {"holdout"} else []
    if quick:
        return [*_blocks(plain, "core", CORE, QUICK_BLOCKS, protocol, seed, aa=False, quick=True), *rehearsed]
    runs: list[PlannedRun] = []
    for cell in CELLS:
        if cell not in cells or cell in ("rehearsal", "holdout"):
            continue
        number = OTHER_BLOCKS.get(cell, blocks)
        chosen = [name for name in plain if cell != "container" or name in CONTAINER_ENVIRONMENTS]
        cell_runs = [
            run
            for variant in _VARIANTS.get(cell, (CORE,))
            for run in _blocks(_fitting(chosen, variant), cell, variant, number, protocol, seed, aa=cell == "core")
        ]
        runs += sorted(
            cell_runs, key=lambda run: run.block
        )  # variants alternate, so that time of day affects all alike
    held_out = _held_out(environments, protocol, seed) if "holdout" in cells else ()
    return [*runs, *rehearsed, *held_out]


def baseline_s(protocol: Protocol, seed: int, block: int) -> float:
    """Length of a block's baseline, s: one draw per block, so that loop phases vary but not between environments."""
    extra = np.random.default_rng([seed, _STREAMS["baseline"], block]).uniform(0.0, protocol.baseline_jitter_s)
    return round(protocol.baseline_s + float(extra), 3)


def _blocks(
    environments: Sequence[str],
    cell: Cell,
    variant: Variant,
    blocks: int,
    protocol: Protocol,
    seed: int,
    *,
    aa: bool,
    quick: bool = False,
) -> Iterator[PlannedRun]:
    if not environments:
        return
    treatments = len(environments) + aa
    stream = [seed, _STREAMS["orders"], _CELL_STREAMS[cell], *variant.name.encode()]
    first_doubled = int(np.random.default_rng([seed, _STREAMS["aa"]]).integers(len(environments))) if aa else 0
    for number, order in enumerate(orders(treatments, blocks, stream), start=1):
        doubled = environments[(first_doubled + number - 1) % len(environments)] if aa else None
        schedule = _schedule(protocol, cell, baseline_s(protocol, seed, number), quick=quick)
        predecessor = None
        for position, treatment in enumerate(order, start=1):
            environment = environments[treatment] if treatment < len(environments) else str(doubled)
            label: Literal["A", "B"] | None = None
            if environment == doubled:
                label = "A" if treatment < len(environments) else "B"
            yield PlannedRun(
                cell=cell,
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
                seed=seed,
                folder=_folder(cell, variant.name, number, position, environment, label),
            )
            predecessor = environment


def _rehearsal(environments: Sequence[str], protocol: Protocol, seed: int, *, quick: bool) -> Iterator[PlannedRun]:
    """Blocks in which every variant runs once; with ``k3s`` among the environments, its run without machines, too."""
    for environment in environments:
        if environment not in REHEARSED:
            continue
        variants = (*REHEARSAL, *((NO_MACHINES,) if "k3s" in environments else ()))
        if quick:
            variants = tuple(boot for boot in REHEARSAL if boot.variant.name == QUICK_REHEARSAL)
        stream = [seed, _STREAMS["orders"], _CELL_STREAMS["rehearsal"]]
        for number, order in enumerate(orders(len(variants), 1 if quick else REHEARSAL_BLOCKS, stream), start=1):
            predecessor = None
            for position, place in enumerate(order, start=1):
                boot = variants[place]
                run = _rehearsed(environment, boot, protocol, seed, number, position, predecessor, quick=quick)
                yield run
                predecessor = run.environment


def _rehearsed(
    environment: str,
    boot: Boot,
    protocol: Protocol,
    seed: int,
    block: int,
    position: int,
    predecessor: str | None,
    *,
    quick: bool,
) -> PlannedRun:
    name = "k3s" if boot == NO_MACHINES else environment
    frozen = {**protocol.sizes, **protocol.matched.get("k3s", {})}
    return PlannedRun(
        cell="rehearsal",
        variant=boot.variant.name,
        block=block,
        position=position,
        environment=name,
        arm="matched",
        connections="fresh",
        scaling={**frozen, **boot.variant.scaling},
        aa_label=None,
        predecessor=predecessor,
        schedule=protocol.quick_schedule() if quick else _step(boot, protocol, baseline_s(protocol, seed, block)),
        seed=seed,
        folder=_folder("rehearsal", boot.variant.name, block, position, name, None),
    )


def _held_out(environments: Sequence[str], protocol: Protocol, seed: int) -> Iterator[PlannedRun]:
    """Blocks of the environments, the rehearsed among them, under one of the schedules; the schedules take turns, and
    each has another of the `LEVELS` than the others of its block, and than in the block before."""
    stream = [seed, _STREAMS["orders"], _CELL_STREAMS["holdout"]]
    block_orders = {
        setup.name: orders(len(JUDGED), HOLDOUT_BLOCKS, [*stream, *setup.name.encode()]) for setup in HOLDOUT
    }
    for block in range(1, HOLDOUT_BLOCKS + 1):
        for turn, setup in enumerate(HOLDOUT):
            level = LEVELS[(block - 1 + turn) % len(LEVELS)]
            variant = f"{setup.name}-x{level:g}"
            predecessor = None
            for position, place in enumerate(block_orders[setup.name][block - 1], start=1):
                environment = JUDGED[place]
                if environment not in environments:
                    continue
                arm = protocol.matched.get("k3s" if environment in REHEARSED else environment, {})
                yield PlannedRun(
                    cell="holdout",
                    variant=variant,
                    block=block,
                    position=position,
                    environment=environment,
                    arm="matched",
                    connections="fresh",
                    scaling={**protocol.sizes, **arm, **setup.scaling[environment]},
                    aa_label=None,
                    predecessor=predecessor,
                    schedule=_unseen(setup, level, environment, protocol, baseline_s(protocol, seed, 100 + block)),
                    seed=seed,
                    folder=_folder("holdout", variant, block, position, environment, None),
                )
                predecessor = environment


def _unseen(
    setup: HeldOut, level: float, environment: str, protocol: Protocol, baseline_s: float
) -> ClosedLoop | OpenLoop:
    """Core's baseline (with block numbers of its own), then the setup's changes of load."""
    peak, duration_s = level * setup.peak[environment], baseline_s + HOLDOUT_HORIZON_S
    base = protocol.open_baseline_rps if setup.open_loop else protocol.baseline_clients
    loads = [(0.0, float(base)), *((baseline_s + at_s, base + share * (peak - base)) for at_s, share in setup.shares)]
    if setup.open_loop:
        steps = tuple(Step(start_s=at_s, rate_rps=round(load, 3)) for at_s, load in loads)
        return OpenLoop(duration_s=duration_s, rate=Staircase(steps=steps), arrivals="poisson")
    stages = tuple(ClosedStage(start_s=at_s, clients=round(load)) for at_s, load in loads)
    core = protocol.closed_schedule(baseline_s)
    return core.model_copy(update={"duration_s": duration_s, "stages": stages})


def _step(boot: Boot, protocol: Protocol, baseline_s: float) -> ClosedLoop:
    """Core's step, observed for as long as machines may take to boot; then back down for variants that ask for it."""
    core = protocol.closed_schedule(baseline_s)
    end_s = baseline_s + REHEARSAL_HORIZON_S + boot.at_most_s
    if not boot.down:
        return core.model_copy(update={"duration_s": end_s})
    back = core.stages[0].model_copy(update={"start_s": end_s})
    return core.model_copy(update={"duration_s": end_s + REHEARSAL_DOWN_S, "stages": (*core.stages, back)})


def _scaling(protocol: Protocol, environment: str, variant: Variant) -> dict[str, Any]:
    frozen = protocol.matched.get(environment, {}) if variant.arm == "matched" else {}
    return {**protocol.sizes, **frozen, **variant.scaling}


def _fitting(environments: Sequence[str], variant: Variant) -> list[str]:
    return [name for name in environments if not variant.environments or name in variant.environments]


def _schedule(protocol: Protocol, cell: Cell, baseline_s: float, *, quick: bool) -> ClosedLoop | OpenLoop:
    if quick:
        return protocol.quick_schedule()
    return protocol.open_schedule(baseline_s) if cell == "open" else protocol.closed_schedule(baseline_s)


def _folder(cell: Cell, variant: str, block: int, position: int, environment: str, label: str | None) -> str:
    name = f"{position}-{environment}" + (f"-{label}" if label else "")
    return "/".join((cell, *((variant,) if cell in NAMED_CELLS else ()), f"block-{block:02d}", name))


def check(environments: Sequence[str], cells: Sequence[str], blocks: int) -> None:
    """Raise MlscaleError for no environment, a duplicate one, an unknown cell, no block."""
    if not environments:
        raise MlscaleError("no environment is named", "--environments", 'name some, such as "torchserve rayserve"')
    doubles = sorted({name for name in environments if environments.count(name) > 1})
    if doubles:
        raise MlscaleError(
            f"{', '.join(doubles)}: named twice", "--environments", "name each once; A/A doubles one by itself"
        )
    unknown = sorted(set(cells) - set(CELLS))
    if unknown or not cells:
        raise MlscaleError(
            f"unknown cell {', '.join(unknown) or '(none named)'}", "--cells", f"choose one of: {', '.join(CELLS)}"
        )
    if set(cells) == {"container"} and not set(environments) & set(CONTAINER_ENVIRONMENTS):
        names = ", ".join(CONTAINER_ENVIRONMENTS)
        raise MlscaleError("none of them scales containers", "--cells container", f"name {names} among --environments")
    if "rehearsal" in cells and not set(environments) & set(REHEARSED):
        names = ", ".join(REHEARSED)
        raise MlscaleError("none of them is rehearsed", "--cells rehearsal", f"name {names} among --environments")
    if blocks < 1:
        raise MlscaleError(f"{blocks} blocks", "--blocks", "ask for at least one")


# Separate random streams, so that no draw affects another.
_STREAMS: Final = {"orders": 1, "baseline": 2, "aa": 3}
# Streams of the orders by cell. Never renumber: published runs lie in folders named after places.
_CELL_STREAMS: Final[Mapping[Cell, int]] = {
    "core": 0, "open": 1, "sensitivity": 2, "container": 3, "rehearsal": 4, "holdout": 5,
    "shipped": 7, "partition": 8, "advice": 9,
}  # fmt: skip
_VARIANTS: Final[Mapping[Cell, tuple[Variant, ...]]] = {
    "shipped": (SHIPPED,),
    "sensitivity": SENSITIVITY,
    "partition": PARTITION,
    "container": CONTAINER,
}
