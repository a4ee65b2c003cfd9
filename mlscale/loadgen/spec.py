"""Messages between a load worker and its parent: JSON lines on the worker's standard streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mlscale.errors import MlscaleError
from mlscale.loadgen.stimulus import Summary
from mlscale.runs.info import Connections
from mlscale.runs.schedule import ClosedLoop, OpenLoop


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class WorkerSpec(_Message):
    """First line on standard input: everything but the start time. Not a file, since headers may hold tokens."""

    url: str
    headers: dict[str, str]
    schedule: Annotated[ClosedLoop | OpenLoop, Field(discriminator="loop")]
    bodies: Path | None
    body: str | None = None
    method: str | None = None
    seed: int
    block: int
    connections: Connections
    timeout_s: float
    check: str | None
    check_answers: bool
    stream: Path
    worker: int
    workers: int
    abort_lateness_s: float
    abort_after_s: float
    max_open: int | None

    @field_validator("*")
    @classmethod
    def _utf8(cls, value: Any, info: ValidationInfo) -> Any:
        try:
            json.dumps(value, default=str, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            where = ascii(str(value)) if isinstance(value, Path) else f"the load's {info.field_name}"
            raise MlscaleError("it is not UTF-8", where, "use a name or a text that is") from error
        return value


class Go(_Message):
    """Second line on standard input: when the schedule starts. End of file then means stop."""

    origin_s: float = Field(description="zero of the run's clock, time.monotonic() seconds")
    start_s: float = Field(description="zero of the schedule on the run's clock")


class Ready(_Message):
    """The worker has its bodies and first send times and is waiting for `Go`."""

    type: Literal["ready"] = "ready"
    not_before_s: float = Field(
        default=0.0, description="the schedule may start from here on, time.monotonic() seconds"
    )


class Beat(_Message):
    """Progress, twice a second while the worker sends."""

    type: Literal["beat"] = "beat"
    t_s: float = Field(description="run clock")
    begun: int
    finished: int
    failed: int
    open: int
    cpu_s: float = Field(description="CPU time of the worker since its start")
    rss_bytes: float
    answered: int = Field(default=0, description="requests that ended and are in the table")
    response_sum_s: float = Field(default=0.0, description="sum of their responses")


class Done(_Message):
    """Last message of a worker that has sent its part or was stopped."""

    type: Literal["done"] = "done"
    summary: Summary


class Failed(_Message):
    """Last message of a worker that failed: an MlscaleError."""

    type: Literal["failed"] = "failed"
    what: str
    where: str
    remedy: str


WorkerMessage = Annotated[Ready | Beat | Done | Failed, Field(discriminator="type")]
