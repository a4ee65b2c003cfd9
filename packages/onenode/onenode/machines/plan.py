"""What to do with the machines next, from Karpenter's claims, the records, and what runs. Pure.

A machine is requested (its record is written, its boot time drawn), built while it boots, started once that time has
passed, on, joined once Karpenter has seen its node ready, stopped once its claim is gone. Every step can be repeated,
so the daemon may be killed at any time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from mlscale.environments.kubernetes.conditions import is_true

# Prefix of a machine's name in providerID, by Karpenter's kwok provider.
PROVIDER: Final = "kwok://"
MOST_MACHINES: Final = 60
# Between the starts of two machines. In a cloud, a joining machine costs neither its neighbours nor the load generator
# CPU (benchmarks/machines.py). The annotation `BOOTED` has the real time of the start.
APART_S: Final = 2.5
# How long a machine keeps running after its claim is gone: its kubelet still has to report that its pods have ended.
GRACE_S: Final = 5.0
_TYPE: Final = "node.kubernetes.io/instance-type"
_POOL: Final = "karpenter.sh/nodepool"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a machine needs of its NodeClaim. ``ready``: its node has joined and accepts pods; ``ending``: it is being
    deleted."""

    name: str
    machine: str
    type: str
    pool: str
    labels: Mapping[str, str]
    ready: bool = False
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A recorded machine. ``number``: 1 to `MOST_MACHINES`, for its addresses; ``asked_s``: time of the request;
    ``built``: everything exists but what joins the cluster; ``on_s``: time of its start; ``joined``: it has its full
    share of the host's CPU; ``gone_s``: when its claim was gone. Times are wall clock, s."""

    name: str
    number: int
    claim: str
    type: str
    pool: str
    labels: Mapping[str, str]
    asked_s: float
    boot_s: float
    built: bool = False
    on_s: float | None = None
    joined: bool = False
    gone_s: float | None = None

    @property
    def on(self) -> bool:
        return self.on_s is not None

    @property
    def due_s(self) -> float:
        """When to start it, wall clock, s."""
        return self.asked_s + self.boot_s


@dataclass(frozen=True, slots=True)
class Ask:
    """Record a machine for ``claim``, as ``number``."""

    claim: Claim
    number: int


@dataclass(frozen=True)
class _Step:
    machine: Machine


class Build(_Step):
    """It boots: create everything that the cluster does not see."""


class Start(_Step):
    """It is built, its boot time has passed, and no other was started just now."""


class Join(_Step):
    """Its node is ready: give it its full share of the CPU."""


class Leave(_Step):
    """Its claim is gone: it stops after `GRACE_S`."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End it and remove the rest; ``why`` in words. ``claim``: to be deleted, too, so that Karpenter requests another;
    empty if it is gone."""

    machine: Machine
    why: str
    claim: str = ""


@dataclass(frozen=True, slots=True)
class Refuse:
    """There is no room for another machine: delete the claim."""

    claim: Claim
    why: str


Action = Ask | Build | Start | Join | Leave | Stop | Refuse


def claim_of(node_claim: Mapping[str, Any]) -> Claim | None:
    """Read a NodeClaim; None before it has a machine's name."""
    metadata, status = node_claim["metadata"], node_claim.get("status") or {}
    provider = str(status.get("providerID", ""))
    if not provider.startswith(PROVIDER):
        return None
    labels = {str(key): str(value) for key, value in (metadata.get("labels") or {}).items()}
    return Claim(
        str(metadata["name"]),
        provider.removeprefix(PROVIDER),
        labels.get(_TYPE, ""),
        labels.get(_POOL, ""),
        labels,
        is_true(node_claim, "Initialized"),
        bool(metadata.get("deletionTimestamp")),
    )


def plan(
    claims: Iterable[Claim], machines: Iterable[Machine], running: Set[str], busy: Set[str], now_s: float
) -> Iterator[Action]:
    """What to do now.

    Args:
        machines: all recorded ones.
        running: names of machines whose first process runs.
        busy: names of machines with an action in progress.
        now_s: wall clock, s.
    """
    wanted = {claim.machine: claim for claim in claims}
    known = {machine.name: machine for machine in sorted(machines, key=lambda machine: machine.due_s)}
    one_starts = any(_has_just_started(machine, machine.name in busy, now_s) for machine in known.values())
    for machine in known.values():
        if machine.name in busy:
            continue
        action = _next(machine, wanted.get(machine.name), machine.name in running, now_s)
        if isinstance(action, Start):
            if one_starts:
                continue
            one_starts = True
        if action is not None:
            yield action
    taken = {machine.number for machine in known.values()}
    free = (number for number in range(1, MOST_MACHINES + 1) if number not in taken)
    for name, claim in wanted.items():
        if name in known or name in busy or claim.ending:
            continue
        number = next(free, None)
        yield Refuse(claim, f"at most {MOST_MACHINES} machines") if number is None else Ask(claim, number)


def _next(machine: Machine, claim: Claim | None, runs: bool, now_s: float) -> Action | None:
    if claim is None:
        if not machine.on or not runs:
            return Stop(machine, "no longer requested")
        if machine.gone_s is None:
            return Leave(machine)
        return Stop(machine, "no longer requested") if now_s >= machine.gone_s + GRACE_S else None
    if machine.on:
        if not runs:
            return Stop(machine, "it ended unexpectedly", claim.name)
        return Join(machine) if claim.ready and not machine.joined else None
    if claim.ending:
        return None
    if not (machine.built and runs):
        return Build(machine)
    return Start(machine) if now_s >= machine.due_s else None


def _has_just_started(machine: Machine, busy: bool, now_s: float) -> bool:
    """Also if it is being started."""
    if machine.on_s is None:
        return busy and machine.built and now_s >= machine.due_s
    return now_s < machine.on_s + APART_S
