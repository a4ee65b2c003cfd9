"""``mlscale cleanup``: remove what runs that died have left, and say what it was."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from typing import Final

from mlscale.host.reap import Reaper
from mlscale.runs import MlscaleError

LASTING: Final = "mlscale.reapers"
_UNITS_S: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration_s(text: str) -> float:
    """Seconds of "90s", "15m", "2h", "1.5d" or a bare number of seconds.

    Raises:
        MlscaleError: it is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([smhd]?)", text.strip())
    if found is None:
        raise MlscaleError(f"{text!r} is not a duration", "--older-than", "write 90s, 15m, 2h or 1d")
    return float(found[1]) * _UNITS_S[found[2] or "s"]


def reapers() -> dict[str, Reaper]:
    """Who removes which kind of ledger entry: what environments leave, and what packages with an entry point of the
    group ``mlscale.reapers``, named like the kind, keep beyond a run."""
    from mlscale import environments

    return {**environments.reapers(), **{entry.name: entry.load() for entry in entry_points(group=LASTING)}}


def clean_before_a_run() -> None:
    """Remove what dead runs left, as far as it can be reached now: what lies on a cluster that is stopped has to wait.

    Raises:
        MlscaleError: something could not be removed.
    """
    from mlscale.host.reap import cleanup

    cleanup(reapers=reapers(), strict=False)


def cleanup_command(older_than: str, *, aws: bool = False) -> str:
    """One line for each thing that was removed, or "nothing to remove". ``aws``: also look for stacks of runs in the
    AWS account of the present credentials, by their names and tags.

    Raises:
        MlscaleError: a malformed duration, or something that could not be removed (the rest was).
    """
    from mlscale.host.reap import cleanup

    removed = cleanup(duration_s(older_than), reapers())
    said = [f"removed {entry.kind}: {_named(entry.identity)}" for entry in removed]
    if aws:
        said += _in_account()
    return "\n".join(said) or "nothing to remove"


def _in_account() -> list[str]:
    from mlscale.environments.ecs import KIND as STACK
    from mlscale.environments.ecs.account import Account
    from mlscale.environments.ecs.leftovers import remove_leftovers
    from mlscale.host.ledger import ledger_paths, read_ledger

    ledgers = filter(None, map(read_ledger, ledger_paths()))
    entries = [entry for ledger in ledgers for entry in ledger.open_entries]
    living = {str(entry.identity["stack"]) for entry in entries if entry.kind == STACK}
    return remove_leftovers(Account(), living)


def _named(identity: dict[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in identity.items() if value not in (None, [], ""))
