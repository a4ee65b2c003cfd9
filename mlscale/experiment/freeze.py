"""data/twin.json: what the twin is, before the runs exist by which it is judged (METHOD §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from mlscale.analysis.summary import host_name
from mlscale.experiment import places
from mlscale.experiment.protocol import write_text
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale.simulator.profile import Profile, read_profile
from mlscale.simulator.transfer import Speed, at_speed, pooled, speed_of


class Frozen(BaseModel):
    """``profiles``: hashes of those that were fitted. ``speed``: of ``host``, on which the hold-out is measured, beside
    theirs; empty where it is the same."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    frozen_at: datetime
    profiles: Mapping[str, str]
    host: str
    calibrated_with: Sequence[str]
    speed: Mapping[str, Speed]

    def profile(self, environment: str) -> Profile:
        """The twin of an environment on the host of the hold-out.

        Raises:
            MlscaleError: the profile is another one by now.
        """
        profile = read_profile(environment)
        if self.profiles.get(environment) != profile.sha256:
            raise MlscaleError(
                f"the profile {environment} is not the one that was frozen",
                str(places.twin_file()),
                "restore it, or freeze anew and measure new hold-out runs",
            )
        return at_speed(profile, self.speed[environment]) if environment in self.speed else profile


def read_frozen() -> Frozen:
    """What was frozen.

    Raises:
        MlscaleError: nothing was, or the file is broken.
    """
    file = places.twin_file()
    try:
        return Frozen.model_validate_json(file.read_text())
    except FileNotFoundError:
        raise MlscaleError("nothing was frozen", str(file), "mlscale experiment freeze") from None
    except ValidationError as error:
        raise MlscaleError(f"broken: {error.errors()[0]['msg']}", str(file), "restore it") from None


def freeze(runs: Path) -> Frozen:
    """Fix the twin by the profiles as they are, and by how fast this host is: by the cell ``calibration`` below
    ``runs``, beside the published runs of the same setup.

    Raises:
        MlscaleError: no runs to calibrate with, of several hosts, or hold-out runs are there already.
    """
    if next((runs / "holdout").rglob("run.json"), None):
        raise MlscaleError("hold-out runs are there already", str(runs / "holdout"), "freeze before them, not after")
    here = _valid(load_runs(runs / "calibration")) if (runs / "calibration").is_dir() else []
    if not here:
        raise MlscaleError("no valid run to calibrate with", str(runs), "measure some: --cells calibration")
    hosts = sorted({host_name(run.info.host) for run in here})
    if len(hosts) > 1:
        raise MlscaleError(f"of several hosts: {', '.join(hosts)}", str(runs / "calibration"), "use those of one")
    published = _valid([*load_runs(places.reference() / "core"), *load_runs(places.reference() / "rehearsal")])
    found: dict[str, Speed] = {}
    for name in sorted({run.info.environment for run in here}):
        mine = [run for run in here if run.info.environment == name]
        alike = [run for run in published if run.info.environment == name and _setup(run) == _setup(mine[0])]
        found[name] = speed_of(mine, alike, read_profile(name))
    starts = pooled(list(found.values()))
    frozen = Frozen(
        frozen_at=datetime.now(UTC).replace(microsecond=0),
        profiles={name: read_profile(name).sha256 for name in found},
        host=hosts[0],
        calibrated_with=sorted(run.info.run_id for run in here),
        speed={name: Speed(work=each.work, starts=starts) for name, each in found.items()},
    )
    write_text(places.twin_file(), frozen.model_dump_json(indent=1) + "\n")
    return frozen


def _valid(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.info.validity is None or run.info.validity.valid]


def _setup(run: Run) -> object:
    return dict(run.info.scaling)
