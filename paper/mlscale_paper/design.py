"""The published experiment's plan: blocks as in any experiment, the rehearsal and the hold-out (METHOD §4, §8). Pure;
the same seed gives the same plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Staircase
from mlscale.runs.schedule import ClosedStage, Step
from mlscale_experiment import plan as blocks_of
from mlscale_experiment.plan import (
    AS_HPA_IS_SHIPPED,
    IDLE_S,
    ORDERS,
    SETTLED_S,
    PlannedRun,
    baseline_s,
    orders,
    quick_plan,
    run_folder,
)
from mlscale_experiment.protocol import Protocol
from mlscale_paper.variants import (
    BLOCK_CELLS,
    CELLS,
    CONTAINER_ENVIRONMENTS,
    HOLDOUT,
    JUDGED,
    LEVELS,
    NO_MACHINES,
    REHEARSAL,
    REHEARSED,
    Boot,
    HeldOut,
)

REHEARSAL_BLOCKS: Final = 6
HOLDOUT_BLOCKS: Final = 4
# How long each of its schedules is watched from the first change of load, s: Ray Serve's second replica takes 50 s.
HOLDOUT_HORIZON_S: Final = 100.0
# How long the step is watched in the rehearsal, beside the time that a machine takes to boot, s.
REHEARSAL_HORIZON_S: Final = 150.0
# And how long after it, where the load goes back.
REHEARSAL_DOWN_S: Final = 120.0
QUICK_REHEARSAL: Final = "boot-10s"
# Streams of their random orders. Never renumber: published runs lie in folders named after places.
_REHEARSAL_STREAM, _HOLDOUT_STREAM = 4, 5


def plan(
    environments: Sequence[str],
    cells: Sequence[str],
    blocks: int,
    protocol: Protocol,
    *,
    seed: int = 0,
    quick: bool = False,
) -> list[PlannedRun]:
    """Every run of the published experiment, in the order in which they are measured.

    Args:
        environments: names, each once.
        cells: of `CELLS`; each is completed before the next. Environments in `REHEARSED` have the hold-out and the
            rehearsal, which is run wherever one of them is named, but not for the hold-out alone.
        blocks: of core; the others have their own number, a quick experiment one.
    Raises:
        MlscaleError: no environment, a duplicate one, an unknown cell, no block.
    """
    check(environments, cells, blocks)
    plain = [name for name in environments if name not in REHEARSED]
    rehearsed = list(_rehearsal(environments, protocol, seed, quick=quick)) if set(cells) != {"holdout"} else []
    if quick:
        return [*quick_plan(plain, protocol, seed=seed), *rehearsed]
    chosen = [cell for cell in BLOCK_CELLS if cell.name in cells]
    runs = blocks_of.plan(plain, chosen, blocks, protocol, seed=seed)
    held_out = _held_out(environments, protocol, seed) if "holdout" in cells else ()
    return [*runs, *rehearsed, *held_out]


def check(environments: Sequence[str], cells: Sequence[str], blocks: int) -> None:
    """Raise MlscaleError for no environment, a duplicate one, an unknown cell, no block."""
    blocks_of.check(environments, cells, blocks, CELLS)
    if set(cells) == {"container"} and not set(environments) & set(CONTAINER_ENVIRONMENTS):
        names = ", ".join(CONTAINER_ENVIRONMENTS)
        raise MlscaleError("none of them scales containers", "--cells container", f"name {names} among --environments")
    if "rehearsal" in cells and not set(environments) & set(REHEARSED):
        names = ", ".join(REHEARSED)
        raise MlscaleError("none of them is rehearsed", "--cells rehearsal", f"name {names} among --environments")


def _rehearsal(environments: Sequence[str], protocol: Protocol, seed: int, *, quick: bool) -> Iterator[PlannedRun]:
    """Blocks in which every variant runs once; with ``k3s`` among the environments, its run without machines, too."""
    for environment in environments:
        if environment not in REHEARSED:
            continue
        variants = (*REHEARSAL, *((NO_MACHINES,) if "k3s" in environments else ()))
        if quick:
            variants = tuple(boot for boot in REHEARSAL if boot.variant.name == QUICK_REHEARSAL)
        stream = [seed, ORDERS, _REHEARSAL_STREAM]
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
    return PlannedRun(
        cell="rehearsal",
        label=f"rehearsal/{boot.variant.name}",
        variant=boot.variant.name,
        block=block,
        position=position,
        environment=name,
        arm="matched",
        connections="fresh",
        scaling={**_like_eks(protocol), **boot.variant.scaling},
        aa_label=None,
        predecessor=predecessor,
        schedule=protocol.quick_schedule() if quick else _step(boot, protocol, baseline_s(protocol, seed, block)),
        idle_s=IDLE_S,
        seed=seed,
        folder=run_folder("rehearsal", boot.variant.name, block, position, name),
    )


def _like_eks(protocol: Protocol) -> dict[str, Any]:
    """Kubernetes' frozen settings at the sync period that EKS has and nobody can change there."""
    return {**protocol.sizes, **protocol.matched.get("k3s", {}), **AS_HPA_IS_SHIPPED}


def _held_out(environments: Sequence[str], protocol: Protocol, seed: int) -> Iterator[PlannedRun]:
    """Blocks of the environments, the rehearsed among them, under one of the schedules; the schedules take turns, and
    each has another of the `LEVELS` than the others of its block, and than in the block before."""
    stream = [seed, ORDERS, _HOLDOUT_STREAM]
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
                arm = _like_eks(protocol) if environment in REHEARSED else protocol.matched.get(environment, {})
                yield PlannedRun(
                    cell="holdout",
                    label=f"holdout/{variant}",
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
                    idle_s=SETTLED_S,
                    seed=seed,
                    folder=run_folder("holdout", variant, block, position, environment),
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
