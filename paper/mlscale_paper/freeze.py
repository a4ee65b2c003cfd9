"""data/twin.json: the twin's profiles for a host, frozen before the runs that judge it are measured (METHOD §8).

Profiles are frozen by their hashes. The host's speed may not come from the runs that judge the twin either: it comes
from calibrating runs of core's setup before, among and after them, since the speed of a shared host varies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mlscale.analysis.summary import host_name
from mlscale.atomic import write_text
from mlscale.errors import first_invalid
from mlscale.host.facts import host_facts
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale_paper import places
from mlscale_paper.variants import JUDGED
from mlscale_twin.profile import Profile, read_profile
from mlscale_twin.transfer import Speed, at_speed, pool_speeds, speed_of


class FrozenProfile(BaseModel):
    """One environment's profile: the hash of the shipped one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frozen_at: datetime
    sha256: str


class Frozen(BaseModel):
    """Frozen profiles, by host (`host_name`) and environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[3] = 3
    hosts: Mapping[str, Mapping[str, FrozenProfile]] = {}

    def profile_of(self, run: Run) -> Profile:
        """The profile of a run's environment, as it was frozen for the run's host.

        Raises:
            MlscaleError: it was not frozen for that host, or has changed since.
        """
        environment, host = run.info.environment, host_name(run.info.host)
        frozen = self.hosts.get(host, {}).get(environment)
        if frozen is None:
            what = f"the twin of {environment} was not frozen for {host}"
            raise MlscaleError(what, str(places.twin_file()), "measure and freeze on one host")
        profile = read_profile(environment)
        if frozen.sha256 != profile.sha256:
            raise MlscaleError(
                f"the profile {environment} is not the one that was frozen",
                str(places.twin_file()),
                "restore it, or freeze again and measure new hold-out runs",
            )
        return profile


def read_frozen() -> Frozen:
    """The frozen profiles; empty if there are none.

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
    """Freezes the current profiles for this host, before hold-out runs of them exist below ``runs``. Profiles that are
    frozen already and unchanged are kept.

    Returns:
        This host's name, and the newly frozen environments.
    Raises:
        MlscaleError: this host has hold-out runs of such an environment already.
    """
    host, frozen = host_name(dict(host_facts())), read_frozen()
    before = frozen.hosts.get(host, {})
    now = datetime.now(UTC).replace(microsecond=0)
    current = {name: FrozenProfile(frozen_at=now, sha256=read_profile(name).sha256) for name in JUDGED}
    new = [name for name in JUDGED if name not in before or before[name].sha256 != current[name].sha256]
    folder = runs / "holdout"
    held_out = load_runs(folder, allow_incomplete=True) if next(folder.rglob("run.json"), None) else []
    late = sorted({run.info.environment for run in held_out if host_name(run.info.host) == host} & set(new))
    if late:
        what = f"hold-out runs of {', '.join(late)} are there already"
        raise MlscaleError(what, str(folder), "freeze before them, not after")
    updated = Frozen(hosts={**frozen.hosts, host: {**before, **{name: current[name] for name in new}}})
    write_text(places.twin_file(), updated.model_dump_json(indent=1) + "\n")
    return host, new


# Longest time between calibrating runs of one session, or from a run to a session: a shared host's speed varies.
MAX_GAP: Final = timedelta(minutes=90)


@dataclass(frozen=True)
class CalibratingRun:
    """A calibrating run, and the speed of its host."""

    run: Run
    speed: Speed


def speeds_of(calibrating: Sequence[Run], published: Sequence[Run]) -> list[CalibratingRun]:
    """Speed of each valid run's host, relative to the valid published runs of the same setup."""
    speeds = []
    for run in sorted(calibrating, key=lambda run: run.info.wall_start):
        same_setup = [other for other in published if other.info.valid and _setup(other) == _setup(run)]
        if run.info.valid:
            speeds.append(CalibratingRun(run, speed_of([run], same_setup, read_profile(run.info.environment))))
    return speeds


def sessions(calibrating: Sequence[CalibratingRun]) -> list[list[CalibratingRun]]:
    """Groups calibrating runs by host and time, without gaps longer than `MAX_GAP`."""
    by_host: dict[str, list[list[CalibratingRun]]] = {}
    for entry in sorted(calibrating, key=lambda entry: entry.run.info.wall_start):
        of_host = by_host.setdefault(host_name(entry.run.info.host), [])
        if of_host and entry.run.info.wall_start - of_host[-1][-1].run.info.wall_start <= MAX_GAP:
            of_host[-1].append(entry)
        else:
            of_host.append([entry])
    return [session for of_host in by_host.values() for session in of_host]


def session_around(run: Run, candidates: Sequence[Sequence[CalibratingRun]]) -> Sequence[CalibratingRun]:
    """The session on the run's host during which it began; empty if there is none."""
    host, begun = host_name(run.info.host), run.info.wall_start
    for session in candidates:
        first, last = session[0].run.info, session[-1].run.info
        if host_name(first.host) == host and first.wall_start - MAX_GAP <= begun <= last.wall_start + MAX_GAP:
            return session
    return ()


def frozen_profile_of(frozen: Frozen, calibrating: Sequence[CalibratingRun]) -> Callable[[Run], Profile]:
    """Maps a run to its twin's profile: the frozen one, at the speed of the calibrating runs around it."""
    known = sessions(calibrating)

    def profile_of(run: Run) -> Profile:
        profile, near = frozen.profile_of(run), session_around(run, known)
        if not near:
            what = f"no valid calibrating run of {host_name(run.info.host)} around {run.info.wall_start:%Y-%m-%d %H:%M}"
            raise MlscaleError(what, "data/reference", "measure and publish some")
        return at_speed(profile, pool_speeds([entry.speed for entry in near]))

    return profile_of


def _setup(run: Run) -> tuple[str, object]:
    return run.info.environment, run.info.scaling
