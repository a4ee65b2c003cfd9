"""run.json: the full description of a run (DESIGN §4)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from mlscale.runs.schedule import ClosedLoop, OpenLoop

SCHEMA_VERSION: Final = 2

Mode = Literal["live", "rehearsal", "simulated"]
Level = Literal["application", "application+machine", "container", "container+machine", "none"]
Connections = Annotated[
    Literal["fresh", "kept"],
    Field(description="a new one for each request, or kept"),
]
Preset = Literal["shipped", "matched", "static-min", "static-max"]
"""The arms that set an autoscaler up (METHOD §4)."""
Arm = Literal[Preset, "none"]
"""Of any run; "none": a load test, which has no autoscaler."""


class _Info(BaseModel):
    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")


class WindowDeviation(_Info):
    """Requests due and sent in one 5 s window of an open-loop schedule (METHOD §6)."""

    start_s: float
    due: int
    sent: int


class ClockOffset(_Info):
    """Another machine's clock beside this one's, before and after the load that it sent."""

    machine: str
    ahead_s: float = Field(description="subtracted from its times")
    within_s: float = Field(description="how far off that may be, drift included")


class StimulusReport(_Info):
    """What the load generator had to send and what it sent (METHOD §6)."""

    due: int = Field(description="requests due by the schedule (open loop) or started (closed loop)")
    sent: int
    finished: int
    lateness_p50_s: float
    lateness_p99_s: float
    lateness_max_s: float
    worst_window: WindowDeviation | None = Field(default=None, description="open loop: largest |sent - due| / due")
    client_change_error_s: float | None = Field(
        default=None,
        description="closed loop: longest time that active clients differed from the schedule after a change",
    )
    load_cpu_cores: float = Field(description="CPU of all load workers / wall time")
    aborted: str | None = Field(default=None, description="why the load was stopped before its end")
    workers: int = 1
    clocks: tuple[ClockOffset, ...] = Field(default=(), description="of machines that sent load from elsewhere")


class Validity(_Info):
    """Whether the run may support latency claims (METHOD §6), and every violated rule."""

    valid: bool
    host_bound: bool = False
    disturbed: bool = Field(default=False, description="CPU was used outside the run, or stolen by the hypervisor")
    pre_scaled: bool = False
    reasons: tuple[str, ...] = ()


class RunInfo(_Info):
    """The contents of run.json; units are in the names."""

    schema_version: int = SCHEMA_VERSION
    run_id: str
    environment: str
    level: Level
    mode: Mode
    app: str
    app_version: str
    components: tuple[str, ...] = ("app",)
    entries: dict[str, str] = Field(default_factory=dict, description="component -> package.module:factory")
    schedule: Annotated[ClosedLoop | OpenLoop, Field(discriminator="loop")]
    step_s: float | None = Field(default=None, description="t0: start of the upscaling step, s on the run's clock")
    arm: Arm = "none"
    scaling: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="component -> every setting, defaults spelled out"
    )
    connections: Connections = "fresh"
    timeout_s: float = 30.0
    bodies: dict[str, Any] = Field(
        default_factory=dict,
        validation_alias=AliasChoices("bodies", "photos"),  # photos: in schema 1
        description="what was sent: count, bytes, sha256, whether labelled, CPU per body",
    )
    seed: int = 0
    experiment: str | None = None
    cell: str | None = None
    block: int | None = None
    position: int | None = None
    predecessor: str | None = None
    aa_label: Literal["A", "B"] | None = None
    attempt: int = Field(default=0, description="0 for the first run of its place in the block, then 1, 2")
    wall_start: datetime
    host: dict[str, Any] = Field(default_factory=dict)
    versions: dict[str, str] = Field(default_factory=dict)
    facts: dict[str, Any] = Field(default_factory=dict, description="read off the running framework")
    waits: dict[str, float] = Field(default_factory=dict, description="quiet_s, deploy_s, idle_s, teardown_s ...")
    idle: dict[str, float] = Field(default_factory=dict, description="control plane at idle: cores, rss bytes, by role")
    stimulus: StimulusReport | None = None
    validity: Validity | None = None
    complete: bool = False
    incomplete_reason: str | None = None

    @property
    def valid(self) -> bool:
        """Whether the run may support latency claims: judged valid, or not judged."""
        return self.validity is None or self.validity.valid

    @property
    def no_quota(self) -> bool:
        """Whether replicas ran without the CPU quota that their settings name, since its user may not make cgroups."""
        return self.facts.get("sandbox", {}).get("limited") is False

    @property
    def application(self) -> str:
        """Name, version and, where they are recorded and say more, the components' entries."""
        entries = ", ".join(f"{name} = {entry}" for name, entry in sorted(self.entries.items()) if entry != self.app)
        version = "" if self.app_version == "unknown" else f" {self.app_version}"
        return f"{self.app}{version}" + (f" ({entries})" if entries else "")


def host_name(host: dict[str, Any]) -> str:
    """A host's description; runs with equal descriptions are taken to be of the same host."""
    memory = host.get("memory_bytes")
    parts = [
        str(host.get("cpu_model") or "unknown CPU"),
        f"{host.get('cores') or '?'} of {host.get('cores_online') or '?'} cores",
        f"{memory / 2**30:.0f} GiB" if isinstance(memory, int | float) else "? GiB",
        str(host.get("architecture") or "?"),
    ]
    return ", ".join(parts)
