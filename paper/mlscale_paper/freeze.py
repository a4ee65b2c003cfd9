"""data/twin.json: the twin's profiles for a host, frozen before the runs that judge it are measured (METHOD §8).

Its profiles are frozen by their hashes. How fast the host is may not be read off the runs that judge the twin either:
calibrating runs tell it, of core's setup, which lie before, among and after them, since a shared host is not equally
fast all the time.
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
from mlscale_twin.transfer import Speed, at_speed, pooled, speed_of


class FrozenProfile(BaseModel):
    """One environment's profile: the hash of the one that is shipped."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frozen_at: datetime
    sha256: str


class Frozen(BaseModel):
    """By the host's name (`host_name`), then by environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[3] = 3
    hosts: Mapping[str, Mapping[str, FrozenProfile]] = {}

    def profile_of(self, run: Run) -> Profile:
        """The profile of a run's environment, as it was frozen for the run's host.

        Raises:
            MlscaleError: it was not frozen for that host, or is another one by now.
        """
        environment, host = run.info.environment, host_name(run.info.host)
        found = self.hosts.get(host, {}).get(environment)
        if found is None:
            what = f"the twin of {environment} was not frozen for {host}"
            raise MlscaleError(what, str(places.twin_file()), "measure and freeze on one host")
        profile = read_profile(environment)
        if found.sha256 != profile.sha256:
            raise MlscaleError(
                f"the profile {environment} is not the one that was frozen",
                str(places.twin_file()),
                "restore it, or freeze anew and measure new hold-out runs",
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
    """Fix the profiles as they are for this host, before hold-out runs of theirs lie below ``runs``. Those that were
    fixed as they are stay so.

    Returns:
        This host's name, and the environments whose profiles were not fixed so before.
    Raises:
        MlscaleError: hold-out runs of such an environment, measured on this host, are there already.
    """
    host, frozen = host_name(dict(host_facts())), read_frozen()
    before = frozen.hosts.get(host, {})
    now = datetime.now(UTC).replace(microsecond=0)
    found = {name: FrozenProfile(frozen_at=now, sha256=read_profile(name).sha256) for name in JUDGED}
    new = [name for name in JUDGED if name not in before or before[name].sha256 != found[name].sha256]
    folder = runs / "holdout"
    there = load_runs(folder, allow_incomplete=True) if next(folder.rglob("run.json"), None) else []
    late = sorted({run.info.environment for run in there if host_name(run.info.host) == host} & set(new))
    if late:
        what = f"hold-out runs of {', '.join(late)} are there already"
        raise MlscaleError(what, str(folder), "freeze before them, not after")
    whole = Frozen(hosts={**frozen.hosts, host: {**before, **{name: found[name] for name in new}}})
    write_text(places.twin_file(), whole.model_dump_json(indent=1) + "\n")
    return host, new


# Calibrating runs that lie further apart, or from a run, say nothing of each other: a shared host changes.
BREAK: Final = timedelta(minutes=90)


@dataclass(frozen=True)
class Calibrated:
    """What a calibrating run says of its host."""

    run: Run
    speed: Speed


def calibrated(calibrating: Sequence[Run], published: Sequence[Run]) -> list[Calibrated]:
    """How fast each run's host was around it, beside that of the valid published runs of the same setup."""
    found = []
    for run in sorted(calibrating, key=lambda each: each.info.wall_start):
        alike = [each for each in published if each.info.valid and _setup(each) == _setup(run)]
        if run.info.valid:
            found.append(Calibrated(run, speed_of([run], alike, read_profile(run.info.environment))))
    return found


def sessions(found: Sequence[Calibrated]) -> list[list[Calibrated]]:
    """Calibrating runs of one host each, in the order in which they were begun, without a break longer than `BREAK`."""
    rows: dict[str, list[list[Calibrated]]] = {}
    for each in sorted(found, key=lambda one: one.run.info.wall_start):
        mine = rows.setdefault(host_name(each.run.info.host), [])
        if mine and each.run.info.wall_start - mine[-1][-1].run.info.wall_start <= BREAK:
            mine[-1].append(each)
        else:
            mine.append([each])
    return [session for mine in rows.values() for session in mine]


def around(run: Run, found: Sequence[Sequence[Calibrated]]) -> Sequence[Calibrated]:
    """Of sessions, the one of the run's host in which it was begun: it tells how fast the host was; none: empty."""
    host, begun = host_name(run.info.host), run.info.wall_start
    for session in found:
        first, last = session[0].run.info, session[-1].run.info
        if host_name(first.host) == host and first.wall_start - BREAK <= begun <= last.wall_start + BREAK:
            return session
    return ()


def twins_by(frozen: Frozen, found: Sequence[Calibrated]) -> Callable[[Run], Profile]:
    """From a run to its twin's profile: the frozen one, at the speed that the calibrating runs around it show."""
    known = sessions(found)

    def profile_of(run: Run) -> Profile:
        profile, near = frozen.profile_of(run), around(run, known)
        if not near:
            what = f"no valid calibrating run of {host_name(run.info.host)} around {run.info.wall_start:%Y-%m-%d %H:%M}"
            raise MlscaleError(what, "data/reference", "measure and publish some")
        return at_speed(profile, pooled([each.speed for each in near]))

    return profile_of


def _setup(run: Run) -> tuple[str, object]:
    return run.info.environment, run.info.scaling
