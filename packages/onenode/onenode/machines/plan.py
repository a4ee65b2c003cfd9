"""What to do with the machines next: pure, from what Karpenter claims, what is on record, and what runs.

A machine goes through: asked for (its record is written, its boot time drawn), built while it boots, started once that
time has passed, on, joined once Karpenter has seen its node ready, stopped once its claim is gone. Every step can be
repeated, so the daemon may be killed between any two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any, Final

from onenode.conditions import condition

# What Karpenter's kwok provider puts before a machine's name.
PROVIDER: Final = "kwok://"
MOST_MACHINES: Final = 60
# Between the starts of two machines: what one that joins costs its host (benchmarks/machines.py), in a cloud neither
# its neighbours nor the load generator pay. When a machine really has started, its `BOOTED` says.
APART_S: Final = 2.5
# How long a machine stays on once its claim is gone: its kubelet then still reports that its pods have ended.
GRACE_S: Final = 5.0
_TYPE: Final = "node.kubernetes.io/instance-type"
_POOL: Final = "karpenter.sh/nodepool"


@dataclass(frozen=True, slots=True)
class Claim:
    """A NodeClaim, as far as a machine is concerned. ``ready``: its node has joined and can take pods; ``ending``: its
    deletion has been asked for."""

    name: str
    machine: str
    type: str
    pool: str
    labels: Mapping[str, str]
    ready: bool = False
    ending: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine on record. ``number``: 1 to `MOST_MACHINES`, of its addresses; ``asked_s``: wall clock, s; ``built``:
    there is all of it but what joins the cluster; ``on_s``: since when it has been started; ``joined``: it has its full
    share of the host's CPU; ``gone_s``: since when its claim is gone, both wall clock, s."""

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
        """When it should be on, wall clock, s."""
        return self.asked_s + self.boot_s


@dataclass(frozen=True, slots=True)
class Ask:
    """Put a machine for ``claim`` on record, as ``number``."""

    claim: Claim
    number: int


@dataclass(frozen=True, slots=True)
class Build:
    """It boots: make all of it that is not seen from the cluster."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Start:
    """It is built, its boot time has passed, and no other has started just now."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Join:
    """Its node is ready: from now on it competes with its neighbours on equal terms."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Leave:
    """Its claim is gone: from now on it has `GRACE_S` left."""

    machine: Machine


@dataclass(frozen=True, slots=True)
class Stop:
    """End it and what is left of it; ``why`` in words. ``claim``: to be deleted, too, so that Karpenter asks for
    another; empty where that is gone."""

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
    """A NodeClaim as Karpenter holds it; None before it has a machine's name."""
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
        condition(node_claim, "Initialized"),
        bool(metadata.get("deletionTimestamp")),
    )


def plan(
    claims: Iterable[Claim], machines: Iterable[Machine], running: Set[str], busy: Set[str], now_s: float
) -> Iterator[Action]:
    """What to do now.

    Args:
        machines: all that are on record.
        running: names of machines whose first process runs.
        busy: names of machines that something is being done with.
        now_s: wall clock, s.
    """
    wanted = {claim.machine: claim for claim in claims}
    known = {machine.name: machine for machine in sorted(machines, key=lambda each: each.due_s)}
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
        yield Refuse(claim, f"{MOST_MACHINES} machines are the most") if number is None else Ask(claim, number)


def _next(machine: Machine, claim: Claim | None, runs: bool, now_s: float) -> Action | None:
    if claim is None:
        if not machine.on or not runs:
            return Stop(machine, "no longer asked for")
        if machine.gone_s is None:
            return Leave(machine)
        return Stop(machine, "no longer asked for") if now_s >= machine.gone_s + GRACE_S else None
    if machine.on:
        if not runs:
            return Stop(machine, "it went dark", claim.name)
        return Join(machine) if claim.ready and not machine.joined else None
    if claim.ending:
        return None
    if not (machine.built and runs):
        return Build(machine)
    return Start(machine) if now_s >= machine.due_s else None


def _has_just_started(machine: Machine, busy: bool, now_s: float) -> bool:
    """Or is being started."""
    if machine.on_s is None:
        return busy and machine.built and now_s >= machine.due_s
    return now_s < machine.on_s + APART_S
