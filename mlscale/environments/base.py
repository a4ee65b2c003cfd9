"""The contract between an environment and the rest of mlscale (DESIGN §3).

An environment deploys an `App` under an autoscaler, says where to send load, and reports what happens to the replicas.
It never sends load itself and never measures inference time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlscale.host.cgroups import Budget
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import Level, MlscaleError, Mode, Observation, RunClock
from mlscale.runs.rendering import facts_table


class ObservationLost(MlscaleError):  # noqa: N818 (the name the contract fixes)
    """The source of observations was lost during the run, which can't be completed."""


@dataclass(frozen=True)
class Component:
    """One model of an application: ``entry`` is "package.module:factory".

    ``factory()`` returns a callable ``answer(body: bytes) -> Mapping[str, Any]`` (JSON-able). It raises ValueError for
    a bad body; the error's attributes ``http_status`` (4xx) and ``reason`` are used if present, else 400 and its text.
    Any other exception is a server error (5xx).

    ``calls`` names the components that it calls. It then answers with a generator that yields (component's name, body),
    is sent the answer to each call, and returns its own. A failed call is raised inside it; if it is not caught, the
    answer is a 503 (`mlscale.serving.exchange.Exchange`).
    """

    name: str
    entry: str
    weights: tuple[Path, ...] = ()
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class App:
    """A containerised ML application; one component = whole, several = partitioned, entered at ``front``.

    ``check`` is "package.module:function" and decides whether an answer is right: ``function(label, answer) -> bool``,
    with the body's line of labels.jsonl and the answer decoded from JSON. None: the label's "answer" is the right one.
    """

    name: str
    version: str
    components: tuple[Component, ...]
    front: str
    image: str | None = None
    check: str | None = None


# What is billed: the user's own machines, or a cloud's tasks or instances.
PaidBy = Literal["own machines", "tasks", "instances"]


class Scaling(BaseModel):
    """Settings of one component that every environment has; each environment adds its own."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    no_zero: ClassVar[str] = "requests that arrive while nothing runs would be lost"
    """Why no environment with these settings scales to zero; empty: it does."""

    min_replicas: int = Field(default=1, ge=0, le=64, description="replicas at least")
    max_replicas: int = Field(default=4, ge=1, le=64, description="replicas at most")
    cpu_cores: float = Field(default=0.3, gt=0, le=64, description="CPU quota of one replica, cores")
    cpu_period_s: float = Field(default=0.1, ge=0.001, le=1, description="period of the CPU quota, s (CFS)")
    cpu_budget: Literal["replicas", "total"] = Field(
        default="replicas",
        description="what has a CPU quota: each replica alone, or also all replicas and the data plane together "
        "(max_replicas * cpu_cores)",
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas ({self.min_replicas}) is above max_replicas ({self.max_replicas})")
        if self.min_replicas == 0 and self.no_zero:
            raise ValueError(f"min_replicas can't be 0, since {self.no_zero}; rayserve and keda scale to zero")
        return self

    @classmethod
    def sized(cls, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """``sizes`` of a replica, rounded up to those that the environment offers."""
        return dict(sizes)

    @classmethod
    def matched(cls) -> Self:
        """The settings of the arm ``matched`` (METHOD §4). Those of ``shipped`` are the defaults."""
        return cls()

    @classmethod
    def of_arm(cls, arm: str) -> Self:
        """The settings of ``arm`` (METHOD §4).

        Raises:
            MlscaleError: an unknown arm.
        """
        matched = cls.matched()
        match arm:
            case "shipped":
                return cls()
            case "matched":
                return matched
            case "static-min":
                return matched.model_copy(update={"max_replicas": matched.min_replicas})
            case "static-max":
                return matched.model_copy(update={"min_replicas": matched.max_replicas})
        raise MlscaleError(f"unknown arm {arm!r}", "arm", "choose one of: shipped, matched, static-min, static-max")

    @property
    def fixed(self) -> bool:
        """Whether the number of replicas is fixed, without an autoscaler."""
        return self.min_replicas == self.max_replicas

    @classmethod
    def paid_by(cls, settings: Mapping[str, Any]) -> PaidBy:
        """What is billed for replicas with these ``settings``. An environment on the user's own machines is local."""
        return "own machines"

    def _repr_html_(self) -> str:
        fields = type(self).model_fields
        return facts_table({name: f"{getattr(self, name)} ({fields[name].description})" for name in fields})

    @property
    def shared_budget(self) -> Budget | None:
        """The quota on data plane and replicas together; None if only replicas have one."""
        if self.cpu_budget == "replicas":
            return None
        return Budget(self.max_replicas * self.cpu_cores, self.cpu_period_s)


@dataclass(frozen=True)
class Problem:
    """A finding of preflight. A ``fatal`` one prevents the run; any other restricts it."""

    what: str
    where: str
    remedy: str
    fatal: bool = True

    @classmethod
    def of(cls, error: MlscaleError) -> Self:
        return cls(error.what, error.where, error.remedy)


class EnvironmentUnavailable(MlscaleError):  # noqa: N818
    """An environment can't run here as asked."""


def raise_fatal(problems: Iterable[Problem]) -> None:
    """Raise the first fatal problem, if any.

    Raises:
        EnvironmentUnavailable: there is one.
    """
    for problem in problems:
        if problem.fatal:
            raise EnvironmentUnavailable(problem.what, problem.where, problem.remedy)


@dataclass(frozen=True)
class Look:
    """How an environment appears in figures: the same everywhere.

    Args:
        title: its name. short: the same for ticks and legends.
        colour: "#rrggbb"; told apart from the others' with every common colour blindness (after Okabe and Ito, 2008).
        marker: matplotlib's, so that colour is never the only difference.
        order: places it among the others.
    """

    title: str
    short: str
    colour: str
    marker: str
    order: int


@runtime_checkable
class Deployed(Protocol):
    """A deployed application; every component's first replica has served every body twice."""

    url: str
    """Load is POSTed here."""
    headers: Mapping[str, str]
    """Headers that every request needs (authorisation)."""
    load_prefix: Sequence[str]
    """Put in front of the load generator's argv, it runs the load generator beside the application."""
    facts: Mapping[str, Any]
    """Settings read from the running system, and after the load how late observations were; stored in run.json."""
    versions: Mapping[str, str]

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """Yield what happens until ``stop`` is set. Called in a thread of its own. Raises ObservationLost."""
        ...


class Environment(Protocol):
    """One way to run an application under an autoscaler."""

    name: ClassVar[str]
    level: ClassVar[Level]
    modes: ClassVar[frozenset[Mode]]
    settings: ClassVar[type[Scaling]]
    # Optional: ledger_kinds: frozenset[str], the kinds of ledger entries that only `reap` can remove;
    # start_up_s(scaling) -> float, how long after a load step a new replica may be ready: default loads last longer;
    # look: Look, without which figures show ``name`` in a spare colour;
    # for_load(schedule, bodies) -> Environment, the same for what is about to be sent, which it may cost or refuse;
    # in_mode(mode) -> Environment, the one that runs in this mode, where level or settings differ from those of others.

    def arm(self, arm: str) -> Scaling:
        """The settings of an arm: shipped, matched, static-min, static-max (METHOD §4)."""
        ...

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Why a run can't start, without side effects."""
        ...

    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> AbstractContextManager[Deployed]:
        """Deploy the application; on leaving, everything is removed.

        ``warm_up`` holds the bodies that the first replicas serve twice before `Deployed` is returned.
        """
        ...

    def reap(self, entry: LedgerEntry) -> None:
        """Remove what ``entry`` names, if it still exists. Idempotent; may be called from another process."""
        ...


def own_model(entry: str, /, **calls: str) -> App:
    """A user's model "package.module:factory", importable from here, as an application.

    Args:
        calls: further components by name, which the model calls and which scale separately: ``boxes="my.model:boxes"``.
    """
    if not calls:
        return App(name=entry, version="unknown", components=(Component("app", entry),), front="app")
    parts = (Component(name, each) for name, each in calls.items())
    front = Component("front", entry, calls=(*calls,))
    return App(name=entry, version="unknown", components=(front, *parts), front="front")
