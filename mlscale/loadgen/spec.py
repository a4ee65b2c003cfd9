"""What a load is (`LoadSpec`), and the messages between a load worker and its parent: JSON lines on the worker's
standard streams."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, field_validator

from mlscale.errors import MlscaleError
from mlscale.loadgen.stimulus import Summary
from mlscale.runs.info import Connections
from mlscale.runs.schedule import ClosedLoop, OpenLoop

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)


def _absolute(path: Path) -> Path:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:  # messages could not hold it
        raise MlscaleError("it is not UTF-8", ascii(str(path)), "use a name that is") from error
    return path.absolute()


def _utf8(text: str) -> str:
    text.encode()  # else UnicodeEncodeError, which is a ValueError
    return text


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Text = Annotated[str, AfterValidator(_utf8)]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")


class SendOptions(_Frozen):
    """How requests are sent, in a load test as in a measurement."""

    connections: Connections = "fresh"
    workers: int = Field(default=1, ge=1, le=64, description="processes that share the schedule")
    timeout_s: float = Field(
        default=30.0, ge=0.001, allow_inf_nan=False, description="a request not answered by then has failed"
    )
    seed: int = Field(default=0, ge=0, description="of the load's random draws")


class LoadOptions(SendOptions):
    """Rarely changed settings of a load test."""

    check: Text | None = Field(
        default=None, description="module:function(label, answer), or none; else labels.jsonl is compared"
    )
    headers: dict[Text, Text] = Field(default={}, description="headers.NAME=VALUE is sent with every request")
    method: str | None = Field(
        default=None, pattern=r"\A[A-Za-z-]+\z", description="else POST with a body, GET without"
    )
    body: Text | None = Field(default=None, description="text to send, in place of --bodies")
    ray: str | None = Field(default=None, description="address of a Ray cluster, whose machines send")

    @field_validator("headers")
    @classmethod
    def _one_line_each(cls, headers: Mapping[str, str]) -> Mapping[str, str]:
        for name, value in headers.items():
            if not _HEADER_NAME.fullmatch(name) or re.search(r"[\r\n\0]", value):
                raise ValueError(f"{name + ': ' + value!r} is not a header")
        return headers


class LoadSpec(LoadOptions):
    """What to send, where and how: all that load workers are told but the start time.

    Attributes:
        url: target; bodies are POSTed, without bodies requests are GETs.
        bodies: folder of files to send, or one file (`mlscale.loadgen.bodies.BodySet`).
        block: with the seed, determines everything random.
        abort_lateness_s, abort_after_s: an open loop is aborted when sending is that late for that long.
        max_open: also aborted at so many open requests in one worker; None: as many as file descriptors allow.
    """

    url: Text
    schedule: Annotated[ClosedLoop | OpenLoop, Field(discriminator="loop")]
    bodies: AbsolutePath | None = None
    block: int = 0
    abort_lateness_s: float = 1.0
    abort_after_s: float = 3.0
    max_open: int | None = None


class WorkerSpec(_Frozen):
    """First line on standard input: everything but the start time. Not a file, since headers may hold tokens.

    Attributes:
        worker: number of this worker.
        stream: file of its part of the requests table.
    """

    load: LoadSpec
    worker: int
    stream: AbsolutePath


class Go(_Frozen):
    """Second line on standard input: when the schedule starts. End of file then means stop."""

    origin_s: float = Field(description="zero of the run's clock, time.monotonic() seconds")
    start_s: float = Field(description="zero of the schedule on the run's clock")


class Ready(_Frozen):
    """The worker has its bodies and first send times and is waiting for `Go`."""

    type: Literal["ready"] = "ready"
    not_before_s: float = Field(
        default=0.0, description="the schedule may start from here on, time.monotonic() seconds"
    )


class Beat(_Frozen):
    """Progress, twice a second while the worker sends."""

    type: Literal["beat"] = "beat"
    t_s: float = Field(description="run clock")
    begun: int = 0
    finished: int = 0
    failed: int = 0
    open: int = 0
    cpu_s: float = Field(default=0.0, description="CPU time of the worker since its start")
    rss_bytes: float = 0.0
    answered: int = Field(default=0, description="requests that ended and are in the table")
    response_sum_s: float = Field(default=0.0, description="sum of their responses")


class Done(_Frozen):
    """Last message of a worker that has sent its part or was stopped."""

    type: Literal["done"] = "done"
    summary: Summary


class Failed(_Frozen):
    """Last message of a worker that failed: an MlscaleError."""

    type: Literal["failed"] = "failed"
    what: str
    where: str
    remedy: str

    @classmethod
    def of(cls, error: MlscaleError) -> Failed:
        return cls(what=error.what, where=error.where, remedy=error.remedy)


WorkerMessage = Ready | Beat | Done | Failed
MESSAGE: Final[TypeAdapter[WorkerMessage]] = TypeAdapter(Annotated[WorkerMessage, Field(discriminator="type")])
