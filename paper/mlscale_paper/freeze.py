"""data/twin.json: the twin of a host, frozen before the runs that judge it are measured (METHOD §8).

Profiles and code are frozen by their hashes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mlscale.atomic import write_text
from mlscale.errors import first_invalid
from mlscale.host.facts import host_facts
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale.runs.info import host_name
from mlscale_paper import places
from mlscale_paper.variants import JUDGED
from mlscale_twin.code_hash import code_hash
from mlscale_twin.host_speed import at_own_speed
from mlscale_twin.profile import Profile, read_profile


class FrozenProfile(BaseModel):
    """One environment's twin: the hashes of the shipped profile, and of the code and all profiles."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frozen_at: datetime
    sha256: str
    code_sha256: str


class Frozen(BaseModel):
    """Frozen twins, by host (`host_name`) and environment. ``same_results``: hashes of later code whose record of the
    hold-out was the frozen code's to the last digit (`mlscale experiment validate --same-results`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[4] = 4
    hosts: Mapping[str, Mapping[str, FrozenProfile]] = {}
    same_results: tuple[str, ...] = ()

    def profile_of(self, run: Run) -> Profile:
        """The profile of a run's environment, as it was frozen for the run's host.

        Raises:
            MlscaleError: it was not frozen for that host, or it or the code has changed since.
        """
        return self.profile_on(host_name(run.info.host), run.info.environment)

    def profile_on(self, host: str, environment: str) -> Profile:
        """The same, by host and environment."""
        frozen = self.hosts.get(host, {}).get(environment)
        if frozen is None:
            what = f"the twin of {environment} was not frozen for {host}"
            raise MlscaleError(what, str(places.twin_file()), "mlscale experiment freeze, on that host")
        profile = read_profile(environment)
        changed = self.changed(frozen, profile)
        if changed:
            raise MlscaleError(
                f"the {changed} is not the one that was frozen",
                str(places.twin_file()),
                "restore it, or freeze again and measure new hold-out runs",
            )
        return profile

    def changed(self, frozen: FrozenProfile, profile: Profile) -> str:
        """What is no longer as it was frozen, in words; empty if all is."""
        if frozen.sha256 != profile.sha256:
            return f"profile {profile.environment}"
        return "" if code_hash() in (frozen.code_sha256, *self.same_results) else "twin's code"

    def with_same_results(self) -> Frozen:
        """With the present code among that which gives the same results."""
        return self.model_copy(update={"same_results": tuple(dict.fromkeys([*self.same_results, code_hash()]))})

    def write(self) -> None:
        write_text(places.twin_file(), self.model_dump_json(indent=1) + "\n")


def read_frozen() -> Frozen:
    """The frozen twins; empty if there are none.

    Raises:
        MlscaleError: the file is broken.
    """
    file = places.twin_file()
    try:
        return Frozen.model_validate_json(file.read_text())
    except FileNotFoundError:
        return Frozen()
    except ValidationError as error:
        raise MlscaleError(f"broken: {first_invalid(error)}", str(file), "restore it") from None


def freeze(runs: Path) -> tuple[str, list[str]]:
    """Freezes the current twins for this host, before hold-out runs of them exist below ``runs``. Those that are frozen
    already and unchanged are kept.

    Returns:
        This host's name, and the newly frozen environments.
    Raises:
        MlscaleError: this host has hold-out runs of such an environment already.
    """
    host, frozen = host_name(dict(host_facts())), read_frozen()
    before, code = frozen.hosts.get(host, {}), code_hash()
    now = datetime.now(UTC).replace(microsecond=0)
    current = {
        name: FrozenProfile(frozen_at=now, sha256=read_profile(name).sha256, code_sha256=code) for name in JUDGED
    }
    new = [name for name in JUDGED if name not in before or frozen.changed(before[name], read_profile(name))]
    folder = runs / "holdout"
    held_out = load_runs(folder, allow_incomplete=True) if next(folder.rglob("run.json"), None) else []
    late = sorted({run.info.environment for run in held_out if host_name(run.info.host) == host} & set(new))
    if late:
        what = f"hold-out runs of {', '.join(late)} are there already"
        raise MlscaleError(what, str(folder), "freeze before them, not after")
    hosts = {**frozen.hosts, host: {**before, **{name: current[name] for name in new}}}
    frozen.model_copy(update={"hosts": hosts}).write()
    return host, new


def check_frozen(environments: Sequence[str]) -> None:
    """Raise MlscaleError unless the present twins of these environments are frozen for this host: what the hold-out
    needs before its first run."""
    frozen, host = read_frozen(), host_name(dict(host_facts()))
    for name in environments:
        if name in JUDGED:
            frozen.profile_on(host, name)


def frozen_profile_of(frozen: Frozen, runs: Sequence[Run], others: Sequence[Run]) -> Callable[[Run], Profile]:
    """Maps each of the runs to its twin's profile: the frozen one, at the speed that the light loads of these runs and
    of ``others`` (of any host) show for it."""
    for run in runs:
        frozen.profile_of(run)
    return at_own_speed([*others, *runs], lambda run: read_profile(run.info.environment))
