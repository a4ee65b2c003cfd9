"""``mlscale cleanup``: remove the resources left by crashed runs."""

from __future__ import annotations

import json
import re
from typing import Final

from mlscale.runs import MlscaleError

_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """Seconds from "90s", "15m", "2h", "1.5d" or a bare number of seconds.

    Raises:
        MlscaleError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)", text.strip())
    if match is None:
        raise MlscaleError(f"{text!r} is not a duration", "--older-than", "write 90s, 15m, 2h or 1d")
    return float(match[1]) * _UNITS_S[match[2] or "s"]


def cleanup_command(older_than: str, *, aws: bool = False, as_json: bool = False) -> str:
    """A line per removed resource, or "nothing to remove"; as JSON, a list. ``aws``: also look for the stacks of runs
    in the AWS account of the current credentials, by their names and tags.

    Raises:
        MlscaleError: a malformed duration, or something that could not be removed (the rest was).
    """
    from mlscale import environments
    from mlscale.host.reap import cleanup

    left: list[str] = []
    later = (lambda error: left.append(f"left for later: {error}")) if aws else None  # the account is looked at next
    removed = cleanup(duration_s(older_than), environments.reapers(), unreachable=later)
    stacks = left + (_remove_stacks() if aws else [])
    if as_json:
        return json.dumps([{"kind": entry.kind, **entry.identity} for entry in removed] + [{"aws": s} for s in stacks])
    lines = [f"removed {entry.kind}: {_described(entry.identity)}" for entry in removed] + stacks
    return "\n".join(lines) or "nothing to remove"


def _remove_stacks() -> list[str]:
    """What the package mlscale-aws removed from the account, a line each."""
    from mlscale.importing import load_offered

    remove = load_offered("mlscale.cleanup", "aws")
    if remove is None:
        raise MlscaleError("the package mlscale-aws is not installed", "--aws", "install it")
    lines: list[str] = remove()
    return lines


def _described(identity: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items() if value not in (None, [], ""))
