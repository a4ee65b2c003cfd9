"""The published experiment's pilot: photos that take the right time to decode on this host, and the protocol that fits
it (METHOD §5)."""

from __future__ import annotations

import json
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mlscale.loadgen.bodies import LABELS, BodySet
from mlscale.measurement.sizing import MOST_OF_HOST, Demand, Host, Size
from mlscale.progress import Bar
from mlscale_experiment import pilot
from mlscale_experiment.pilot import Measured, busy_replica, check_unused, copy_bodies, demand_of, host_of, protocol_of
from mlscale_experiment.protocol import Bodies, Protocol, check_free, write_protocol
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.sizing import PERIODS, fit, periods
from mlscale_paper.variants import REHEARSED
from onenode.keeper import ClusterKeeper

# Photos in the load's set: few enough to be served twice before time zero, many enough for a mix.
PHOTOS: Final = 16
# Where they go, beside the protocol.
_FOLDER: Final = "photos/load"
# Photos that are sent in the pilot, of the checkout's set.
SHOWN: Final = 8
# Of the pilot's replicas, more than in the experiment, so that they start quickly.
REPLICA_CORES: Final = 1.5
# How much longer a start takes under the experiment's quota than under the pilot's; for the time left alone.
_START_FACTOR: Final = 2.5
_LOADING_S, _CHOOSING_S, _EACH_S = 5.0, 15.0, 35.0


class LoadPhotos(typing.Protocol):
    """The application's part: the CPU time of decoding a photo here, and choosing photos by its median."""

    def cpu_s(self, body: bytes) -> list[float]: ...
    def choose(self, folder: Path, seed: int, count: int, about_s: float) -> None: ...


def run_pilot(
    environments: Sequence[str], runs: Path, file: Path, load_photos: Callable[[], LoadPhotos], *, seed: int = 0
) -> Protocol:
    """Measure, decide, report what and why; write ``file`` and the photos beside it.

    Raises:
        MlscaleError: blocks measured under the present protocol exist below ``runs``; a run that failed; a host that
            is too small.
    """
    check_free(file, runs)
    planned_s = _LOADING_S + _EACH_S * len(environments) + _CHOOSING_S
    with Bar(planned_s) as bar, tempfile.TemporaryDirectory() as folder:
        bar.step("pilot: how long decoding a photo takes here", _LOADING_S)
        source = load_photos()
        shown_photos = _shown(Path(folder) / "photos")
        measured, decoding_s = _measure_each(environments, shown_photos, source, Path(folder), seed, bar)
        bar.step("pilot: choosing photos", _CHOOSING_S)
        demands = {name: result.demand for name, result in measured.items()}
        host = host_of(measured)
        scale = fit(demands, host).model_s / decoding_s  # relative to a shown photo
        usual_s = float(np.mean([np.median(source.cpu_s(body)) for body in BodySet.read(shown_photos).bodies]))
        photos = Path(folder) / "chosen"
        source.choose(photos, seed, PHOTOS, scale * usual_s)
        size = fit(demands, host, _decoding_s(photos, source) / _decoding_s(shown_photos, source) * decoding_s)
        protocol = _protocol(demands, host, size, photos)
        copy_bodies(photos, file.parent / _FOLDER)  # now: a pilot that fails leaves the photos before it
        write_protocol(file, protocol, runs)
        for reason in protocol.why.values():
            bar.say(f"pilot: {reason}")
    return protocol


def ensure_protocol(
    root: Path, environments: Sequence[str], load_photos: Callable[[], LoadPhotos], *, given: Path | None, seed: int
) -> None:
    """Ensure that the runs below ``root`` have their own protocol: the one ``given``, the checkout's if it was measured
    on a host like this one, else that of a pilot run now (`mlscale_experiment.pilot.ensure_protocol`)."""

    def by_pilot(file: Path) -> None:
        check_unused(file.parent / _FOLDER)
        measured = dict.fromkeys("k3s" if name in REHEARSED else name for name in environments)
        run_pilot([*measured], root, file, load_photos, seed=seed)

    pilot.ensure_protocol(root, by_pilot, given=given, fallback=places.protocol_file())


def _measure_each(
    environments: Sequence[str], photos: Path, source: LoadPhotos, folder: Path, seed: int, bar: Bar
) -> tuple[dict[str, Measured], float]:
    """Each environment's measurement, and the mean time of decoding a photo before, between and after them: a shared
    host's speed varies."""
    measured: dict[str, Measured] = {}
    samples_s = [_decoding_s(photos, source)]
    with ClusterKeeper() as keeper:
        for name in environments:
            bar.step(f"pilot: what an answer demands on {name}", _EACH_S)
            keeper.prepare(name, {})
            run = busy_replica(name, code_reader(), photos, folder / name, cpu_cores=REPLICA_CORES, seed=seed)
            samples_s.append(_decoding_s(photos, source))
            measured[name] = demand_of(run, float(np.mean(samples_s[-2:])))
    return measured, float(np.mean(samples_s))


def _protocol(demands: Mapping[str, Demand], host: Host, size: Size, photos: Path) -> Protocol:
    labelled_s = _labelled_s(photos)
    photo_set = BodySet.read(photos)
    return protocol_of(
        demands,
        size,
        {name: _START_FACTOR * demand.start_s for name, demand in demands.items()},
        bodies=Bodies(
            folder=_FOLDER,
            count=len(photo_set.bodies),
            sha256=str(photo_set.facts.get("sha256", "")),
            cpu_mean_s=round(size.model_s, 5),
            cpu_min_s=min(labelled_s),
            cpu_max_s=max(labelled_s),
        ),
        why=_why(demands, host, size),
    )


def _why(demands: Mapping[str, Demand], host: Host, size: Size) -> dict[str, str]:
    """Field of the protocol -> where its number comes from."""
    dearest = max(size.forecast_cores, key=lambda name: size.forecast_cores[name])
    cores = size.forecast_cores[dearest]
    answer_s = [size.model_s + each.own_s for each in demands.values()]
    each = [periods(one, size.model_s, size.quota_cores) for one in demands.values()]
    all_cores = f"{cores:.2f} of {host.cores:g} cores ({cores / host.cores:.0%}, at most {MOST_OF_HOST:.0%})"
    return {
        "replicas": f"{size.replicas} replicas of {size.quota_cores:g} core: {dearest}, the most expensive, is "
        f"forecast to use {all_cores} at full load, with everything around it",
        "photos": f"photos of {1000 * size.model_s:.0f} ms CPU, so that an answer takes {_range(answer_s, 1000)} ms: "
        f"{_range(each, digits=2)} times what a quota period gives (aimed at: {PERIODS:g})",
        "think_mean_s": f"clients think {size.think_s:g} s, so that {size.baseline_clients} of them use "
        f"{_range(size.baseline_use.values(), digits=2)} of one replica",
        "step_clients": f"{size.clients} clients after the step, who ask for "
        f"{_range(size.step_replicas.values(), digits=2)} replicas while nobody waits",
        "level_s": f"L = {size.level_s:g} s: the mean response of those clients on all replicas, if requests went to "
        "one at random and took exponential times, rounded up to 50 ms",
        "open_step_rps": f"open loop: {size.open_baseline_rps:.2f}, then {size.open_step_rps:.2f} requests/s, what "
        "those clients then send",
    }


def _range(values: Iterable[float], factor: float = 1.0, digits: int = 0) -> str:
    texts = [f"{factor * value:.{digits}f}" for value in sorted(values)]
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _shown(folder: Path) -> Path:
    """A subset of the checkout's load photos, as a photo set."""
    photos = places.data() / "photos" / "load"
    lines = (photos / LABELS).read_text().splitlines()[:SHOWN]
    folder.mkdir()
    for line in lines:
        shutil.copy(photos / json.loads(line)["file"], folder)
    (folder / LABELS).write_text("\n".join(lines) + "\n")
    return folder


def _decoding_s(photos: Path, source: LoadPhotos) -> float:
    """Mean CPU time of decoding one of the photos now, s; as in a run, slow moments count."""
    return float(np.mean([source.cpu_s(body) for body in BodySet.read(photos).bodies]))


def _labelled_s(photos: Path) -> list[float]:
    """Each photo's median CPU time when it was chosen, s."""
    lines = (photos / LABELS).read_text().splitlines()
    return [float(json.loads(line)["cpu_s"]) for line in lines if line.strip()]
