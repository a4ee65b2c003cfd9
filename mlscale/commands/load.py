"""``mlscale load``: its settings, and the schedule that its options describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mlscale.commands.options import refuse
from mlscale.loadgen.schedule_files import invalid_schedule, is_csv, read_schedule
from mlscale.loadgen.spec import LoadOptions
from mlscale.runs import SCHEDULE, ClosedLoop, MlscaleError, OpenLoop


class LoadSettings(LoadOptions):
    """Keys of ``mlscale load --set``: a load's options, and what the schedule is made of."""

    arrivals: Literal["even", "poisson"] | None = Field(default=None, description="with --rate: even, or poisson")
    think_mean_s: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="with --clients: mean think time"
    )
    speed: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="of a CSV trace: 2 replays it twice as fast"
    )
    keep: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="share of its arrivals, or factor on its rates"
    )

    def options(self) -> LoadOptions:
        return LoadOptions(**{name: getattr(self, name) for name in LoadOptions.model_fields})


def schedule_of(
    settings: LoadSettings, *, rate: float | None, clients: int | None, file: Path | None, duration_s: float | None
) -> ClosedLoop | OpenLoop:
    """The schedule that the command's options describe.

    Raises:
        MlscaleError: not exactly one of rate, clients and file, an option without effect, or an invalid schedule.
    """
    if [rate, clients, file].count(None) != 2:
        raise MlscaleError("give exactly one of --rate, --clients and --schedule", "load", "see mlscale load --help")
    is_trace = file is not None and is_csv(file)
    if rate is None:
        refuse({"--set arrivals": settings.arrivals}, "without --rate")
    if clients is None:
        refuse({"--set think_mean_s": settings.think_mean_s}, "without --clients")
    if not is_trace:
        refuse({"--set speed": settings.speed, "--set keep": settings.keep}, "on a load that is not a CSV trace")
    if file is not None:
        if not is_trace:
            refuse({"--duration": duration_s}, "on a JSON schedule, which has its own")
        return read_schedule(file, duration_s=duration_s, speed=settings.speed or 1.0, keep=settings.keep or 1.0)
    data: dict[str, Any] = {"duration_s": 60.0 if duration_s is None else duration_s}
    if rate is not None:
        constant = {"shape": "constant", "rate_rps": rate}
        data |= {"loop": "open", "rate": constant, "arrivals": settings.arrivals or "poisson"}
    else:
        stages = [{"start_s": 0.0, "clients": clients}]
        data |= {"loop": "closed", "stages": stages, "think_mean_s": settings.think_mean_s or 0.0}
    try:
        return SCHEDULE.validate_python(data)
    except ValidationError as error:
        raise invalid_schedule(error, "load") from error
