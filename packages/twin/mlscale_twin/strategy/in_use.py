"""The setting that is in use, from the files that it was deployed with or from named settings, as a strategy."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from mlscale import environments
from mlscale.errors import MlscaleError, invalid_value
from mlscale.measurement.settings import parse_settings
from mlscale_twin.strategy.daily import minimums_of
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.manifests import Found, files_of, read_file
from mlscale_twin.strategy.strategies import Policy, Strategy, filled, own_settings

_DAY_S: Final = 86_400.0


def read_in_use(given: Sequence[str], demand: Demand, sizes: Mapping[str, Any]) -> tuple[Strategy, tuple[str, ...]]:
    """The setting that is in use as a strategy for the traffic, and what was assumed or ignored.

    Args:
        given: each a file, a folder of files, or "environment:key=value,key=value", which takes precedence. What none
            of them says is the framework's default.
        sizes: of a replica, as far as nothing says them.

    Raises:
        MlscaleError: nothing there scales replicas, or a field that cannot be simulated.
    """
    found, named, where = Found(), dict[str, Any](), f"--today {' '.join(given)}"
    for text in given:
        environment, colon, pairs = text.partition(":")
        if colon and ("=" in pairs or environment in environments.names()):
            environments.get(environment)  # or an error that names those that there are
            found.runs_on(environment, f"--today {text}")
            named |= parse_settings(pairs.split(",") if pairs else [], f"--today {text}")
        elif Path(text).exists():
            for file in files_of(Path(text)):
                read_file(file, found)
        else:
            raise MlscaleError("no such file", f"--today {text}", "name one, or write ENVIRONMENT:KEY=VALUE,...")
    if found.held is not None:
        found.settings["target_in_flight"] = found.held
    if found.settings.get("metric") == "in_flight" and "target_in_flight" not in {**found.settings, **named}:
        raise MlscaleError(
            "the target is missing", where, "name the InterceptorRoute's file, too: it holds targetValue"
        )
    if not found.scaler and found.replicas is not None:
        found.settings |= {"min_replicas": found.replicas, "max_replicas": found.replicas}
    if not found.environment or not (found.settings or named):
        raise MlscaleError(
            "nothing in it scales replicas", where, "name an autoscaler's file, or ENVIRONMENT:KEY=VALUE"
        )
    return _strategy(found, {**found.settings, **named}, demand, sizes, where)


def _strategy(
    found: Found, settings: Mapping[str, Any], demand: Demand, sizes: Mapping[str, Any], where: str
) -> tuple[Strategy, tuple[str, ...]]:
    environment = environments.get(found.environment)
    own = own_settings(found.environment, sizes)
    assumed = {name: value for name, value in own.items() if name not in settings}
    if "max_replicas" in settings and "min_replicas" not in settings:
        assumed["min_replicas"] = 1
    try:
        scaling = filled(environment.arm("shipped"), {**assumed, **settings})
    except ValidationError as error:
        raise invalid_value(error, "setting", where, environment.settings) from error
    for name, value in (("launch", "ec2"), ("node_group", scaling.get("node_group") or "-")):
        if scaling.get(name) == value:
            remedy = "compare it with mlscale simulate, or leave --today out"
            raise MlscaleError(f"{name}={value} can't be compared: nothing like it is tried", where, remedy)
    notes = [*found.notes, *(f"{name} is not given: {value} assumed" for name, value in assumed.items())]
    begins = demand.begins or datetime(1970, 1, 1, tzinfo=UTC)
    begins = begins.astimezone(UTC) if begins.tzinfo else begins.replace(tzinfo=UTC)
    low, high = scaling["min_replicas"], scaling["max_replicas"]
    over = minimums_of(found.daily, begins, demand.duration_s, low, high)
    after = minimums_of(found.daily, begins + timedelta(days=math.ceil(demand.duration_s / _DAY_S)), _DAY_S, low, high)
    policy: Policy = "scheduled" if over else "fixed" if low == high else "reactive"
    return Strategy(found.environment, policy, scaling, over, after), tuple(notes)
