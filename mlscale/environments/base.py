"""The contract between an environment and the rest (DESIGN §3).

An environment brings an `App` up under an autoscaler, says where to send load, and reports what happens to its
replicas. It never sends load itself and never measures inference time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlscale.host.cgroups import Budget
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import Level, MlscaleError, Mode, Observation, RunClock


class ObservationLost(MlscaleError):  # noqa: N818 (the name the contract fixes)
    """The source of observations went away while the run still lasted: the run can't be completed."""


@dataclass(frozen=True)
class Component:
    """One model of an application: ``entry`` is "package.module:factory".

    ``factory()`` returns a callable ``answer(body: bytes) -> Mapping[str, Any]`` (JSON-able). It raises ValueError for
    a body that is the sender's fault; the error's attributes ``http_status`` (4xx) and ``reason`` are used where
    present, else 400 and its text. Anything else raised is a server error (5xx).

    ``calls`` names the components that it needs. It then answers with a generator that yields (component's name, body),
    is sent the other's answer to each call, and returns its own; what fails is raised inside it and, where it does not
    catch it, a 503 (`mlscale.serving.exchange.Exchange`).
    """

    name: str
    entry: str
    weights: tuple[Path, ...] = ()
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class App:
    """A containerised ML application; one component = whole, several = partitioned, entered at ``front``.

    ``check`` is "package.module:function", which says whether an answer is right: ``function(label, answer) -> bool``,
    with the body's line of labels.jsonl and the answer decoded from JSON. None: the label's "answer" is the right one.
    """

    name: str
    version: str
    components: tuple[Component, ...]
    front: str
    image: str | None = None
    check: str | None = None


class Scaling(BaseModel):
    """What every environment lets you set for one component; each environment adds its own settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    min_replicas: int = Field(default=1, ge=1, le=64, description="replicas at least")
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
        return self

    @classmethod
    def sized(cls, sizes: Mapping[str, Any]) -> dict[str, Any]:
        """A protocol's sizes of replicas, as the environment offers them."""
        return dict(sizes)

    @property
    def shared_budget(self) -> Budget | None:
        """The quota over data plane and replicas together; None where only replicas have one."""
        if self.cpu_budget == "replicas":
            return None
        return Budget(self.max_replicas * self.cpu_cores, self.cpu_period_s)


AnyScaling = TypeVar("AnyScaling", bound=Scaling)


def scaling_of_arm(arm: str, shipped: AnyScaling, matched: AnyScaling) -> AnyScaling:
    """The settings of ``arm`` (METHOD §4), where ``shipped`` and ``matched`` are those of the arms so called.

    Raises:
        MlscaleError: an unknown arm.
    """
    match arm:
        case "shipped":
            return shipped
        case "matched":
            return matched
        case "static-min":
            return matched.model_copy(update={"max_replicas": matched.min_replicas})
        case "static-max":
            return matched.model_copy(update={"min_replicas": matched.max_replicas})
    raise MlscaleError(f"unknown arm {arm!r}", "arm", "choose one of: shipped, matched, static-min, static-max")


@dataclass(frozen=True)
class Problem:
    """Something preflight found. ``fatal`` ones stop a run; the others limit it."""

    what: str
    where: str
    remedy: str
    fatal: bool = True


@runtime_checkable
class Deployed(Protocol):
    """A deployed application; handed out when every component's first replica has served every photo twice."""

    url: str
    """Where load is POSTed to."""
    headers: Mapping[str, str]
    """Headers that every request needs (authorisation)."""
    load_prefix: Sequence[str]
    """argv that places the load generator beside the application, in front of its own argv."""
    facts: Mapping[str, Any]
    """Versions and every default read off the running system; goes into run.json."""
    versions: Mapping[str, str]

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """What happens, until ``stop`` is set; runs in a thread of its own. Raises ObservationLost."""
        ...


class Environment(Protocol):
    """One way to run an application under an autoscaler."""

    name: ClassVar[str]
    level: ClassVar[Level]
    modes: ClassVar[frozenset[Mode]]
    settings: ClassVar[type[Scaling]]
    # And where `reap` takes kinds of ledger entries that the host does not know: ledger_kinds: frozenset[str]

    def arm(self, arm: str) -> Scaling:
        """The settings of an arm: shipped, matched, static-min, static-max (METHOD §4)."""
        ...

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """What stands in the way, without side effects."""
        ...

    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> AbstractContextManager[Deployed]:
        """Bring the application up; on leaving, nothing of it is left.

        ``warm_up`` holds the bodies (photos) that the first replica serves twice before this is handed out.
        """
        ...

    def reap(self, entry: LedgerEntry) -> None:
        """Remove what ``entry`` names, if it is still there; idempotent, may be called from another process."""
        ...


def own_model(entry: str) -> App:
    """A user's model, whole: "package.module:factory", as it is importable from here."""
    return App(name=entry, version="unknown", components=(Component("app", entry),), front="app")
