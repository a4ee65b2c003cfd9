"""data/twin.json: what the twin is on a host, before the runs exist by which it is judged there (METHOD §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy import stats

from mlscale.analysis.summary import host_name
from mlscale.experiment import places
from mlscale.experiment.protocol import write_text
from mlscale.experiment.variants import JUDGED
from mlscale.host.facts import host_facts
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale.simulator.profile import Profile, read_profile
from mlscale.simulator.transfer import Speed, at_speed, pooled, speed_of


class OnHost(BaseModel):
    """``profiles``: hashes, by environment, of those as they are shipped. ``speed``: of this host beside the one that
    they were fitted on, while it decoded a photo in ``photo_cpu_s`` of CPU time (`mlscale.experiment.host_speed`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    frozen_at: datetime
    profiles: Mapping[str, str]
    calibrated_with: Sequence[str]
    photo_cpu_s: float = Field(gt=0)
    speed: Speed


class Frozen(BaseModel):
    """By the host's name (`host_name`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[2] = 2
    hosts: Mapping[str, OnHost] = {}

    def profile_of(self, run: Run) -> Profile:
        """The twin of a run's environment on the run's host, at the speed that the host had around that run.

        Raises:
            MlscaleError: it was not frozen for that host, or the profile is another one by now; nobody looked how fast
                the host was.
        """
        environment, host = run.info.environment, host_name(run.info.host)
        found = self.hosts.get(host)
        if found is None or environment not in found.profiles:
            what = f"the twin of {environment} was not frozen for {host}"
            raise MlscaleError(what, str(places.twin_file()), "measure and freeze on one host")
        profile = read_profile(environment)
        if found.profiles[environment] != profile.sha256:
            raise MlscaleError(
                f"the profile {environment} is not the one that was frozen",
                str(places.twin_file()),
                "restore it, or freeze anew and measure new hold-out runs",
            )
        return at_speed(profile, found.speed.times(_photo_cpu_s([run]) / found.photo_cpu_s))


def read_frozen() -> Frozen:
    """What was frozen; nothing, where nothing was.

    Raises:
        MlscaleError: the file is broken.
    """
    file = places.twin_file()
    try:
        return Frozen.model_validate_json(file.read_text())
    except FileNotFoundError:
        return Frozen()
    except ValidationError as error:
        raise MlscaleError(f"broken: {error.errors()[0]['msg']}", str(file), "restore it") from None


def freeze(runs: Path) -> tuple[str, OnHost]:
    """Fix the twin on this host: the profiles as they are, and how fast it is, by its runs of the cell ``calibration``
    below ``runs`` beside the published ones of the same setup.

    Returns:
        This host's name, and what was written about it.
    Raises:
        MlscaleError: no runs to calibrate with, or hold-out runs of this host are there already.
    """
    host, frozen = host_name(dict(host_facts())), read_frozen()
    if _of_host(runs / "holdout", host):
        raise MlscaleError("hold-out runs are there already", str(runs / "holdout"), "freeze before them, not after")
    cells = [places.reference() / cell for cell in ("core", "rehearsal")]
    published = [run for run in load_runs(cells) if run.info.valid]
    here = [run for run in _of_host(runs / "calibration", host) if run.info.valid]
    if not here:
        raise MlscaleError("no valid run to calibrate with", str(runs), "measure some: --cells calibration")
    found = OnHost(
        frozen_at=datetime.now(UTC).replace(microsecond=0),
        profiles={name: read_profile(name).sha256 for name in JUDGED},
        calibrated_with=sorted(run.info.run_id for run in here),
        photo_cpu_s=round(_photo_cpu_s(here), 6),
        speed=_speed(here, published),
    )
    whole = Frozen(hosts={**frozen.hosts, host: found})
    write_text(places.twin_file(), whole.model_dump_json(indent=1) + "\n")
    return host, found


def _photo_cpu_s(runs: Sequence[Run]) -> float:
    """CPU time of a photo on the bare host around some runs, geometric mean, s.

    Raises:
        MlscaleError: nobody looked.
    """
    blind = next((run for run in runs if not run.info.host_photo_cpu_s), None)
    if blind is not None:
        what = "nobody looked how fast the host was around that run"
        raise MlscaleError(what, str(blind.path), "measure it again, with probe_host")
    return float(stats.gmean([stats.gmean(run.info.host_photo_cpu_s) for run in runs]))


def _speed(here: Sequence[Run], published: Sequence[Run]) -> Speed:
    """Of this host beside the published runs' one, by all environments that were calibrated with."""
    found = []
    for name in sorted({run.info.environment for run in here}):
        mine = [run for run in here if run.info.environment == name]
        alike = [run for run in published if run.info.environment == name and run.info.scaling == mine[0].info.scaling]
        found.append(speed_of(mine, alike, read_profile(name)))
    return pooled(found)


def _of_host(folder: Path, host: str) -> list[Run]:
    found = load_runs(folder) if next(folder.rglob("run.json"), None) else []
    return [run for run in found if host_name(run.info.host) == host]
