"""The pilot: measures what an answer demands of this host, and derives a protocol that fits it (METHOD §5).

One replica of each environment, with more CPU than in the experiment so that it starts quickly, is kept busy for some
seconds. What is decided from what that shows is pure (`mlscale.measurement.sizing`).
"""

from __future__ import annotations

import json
import shutil
import tempfile
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from mlscale import environments as installed
from mlscale.analysis.durations import durations
from mlscale.analysis.resources import cpu_by_role
from mlscale.host.facts import host_facts
from mlscale.loadgen.bodies import LABELS, BodySet
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.measurement.sizing import MOST_OF_HOST, Demand, Host, Size
from mlscale.progress import Bar
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.protocol import (
    Photos,
    Protocol,
    check_free,
    other_host,
    photos_folder,
    read_protocol,
    write_protocol,
)
from mlscale_paper.sizing import PERIODS, fit, periods
from mlscale_paper.variants import REHEARSED
from onenode.keeper import ClusterKeeper

# Photos in the load's set: few enough to be served twice before time zero, many enough for a mix.
PHOTOS: Final = 16
# Where they go, beside the protocol.
_FOLDER: Final = "photos/load"
# Photos that are sent in the pilot, of the checkout's set.
SHOWN: Final = 8
REPLICA_CORES: Final = 1.5
CLIENTS: Final = 2
# Keeps a replica busy most of the time while hardly anything waits: a router's work of polling grows with the number of
# waiting requests, which in the experiment is small once all replicas are there.
THINK_S: Final = 0.03
SETTLE_S: Final = 1.5
LOAD_S: Final = 6.0
_LEAST_ANSWERS: Final = 20
_MOST_WRONG: Final = 0.01
# Upper limit of CPU outside a run's roles (kernel, the observer). More is due to other programs, not to the host.
_MOST_OTHER_CORES: Final = 0.1
# How much longer a start takes under the experiment's quota than under the pilot's; for the time left alone.
_START_FACTOR: Final = 2.5
_MOVE: Final = "move them away, or name another --runs"
_LOADING_S, _CHOOSING_S, _EACH_S = 5.0, 15.0, 35.0


class LoadPhotos(typing.Protocol):
    """The application's part: the CPU time of decoding a photo here, and choosing photos by its median."""

    def cpu_s(self, body: bytes) -> list[float]: ...
    def choose(self, folder: Path, seed: int, count: int, about_s: float) -> None: ...


@dataclass(frozen=True)
class Measured:
    """One environment's demand, and the host's other work meanwhile."""

    demand: Demand
    load_s: float
    other_cores: float


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
        host = _host(measured)
        scale = fit(demands, host).model_s / decoding_s  # relative to a shown photo
        usual_s = float(np.mean([np.median(source.cpu_s(body)) for body in BodySet.read(shown_photos).bodies]))
        photos = Path(folder) / "chosen"
        source.choose(photos, seed, PHOTOS, scale * usual_s)
        size = fit(demands, host, _decoding_s(photos, source) / _decoding_s(shown_photos, source) * decoding_s)
        protocol = _protocol(demands, host, size, photos)
        _copy(photos, file.parent / _FOLDER)  # only now: a pilot that fails leaves the photos of an earlier protocol
        write_protocol(file, protocol, runs)
        for reason in protocol.why.values():
            bar.say(f"pilot: {reason}")
    return protocol


def ensure_protocol(
    root: Path, environments: Sequence[str], load_photos: Callable[[], LoadPhotos], *, given: Path | None, seed: int
) -> None:
    """Ensure that the runs below ``root`` have their own protocol and photos, which never change afterwards.

    Where they have none yet: the protocol ``given``; else the checkout's, if it was measured on a host like this one;
    else the result of a pilot run now.

    Raises:
        MlscaleError: the runs were begun under another protocol than the one given; there is none at ``given``; other
            photos are where the protocol's belong; see `run_pilot`.
    """
    file = root / places.protocol_file().name
    chosen = read_protocol(given) if given is not None else None
    if given is not None and chosen is None:
        raise MlscaleError("there is no protocol", str(given), "name a file that `mlscale experiment pilot` wrote")
    existing = read_protocol(file)
    if existing is not None:
        if chosen is not None and chosen != existing:
            raise MlscaleError("the runs there were begun under another protocol", str(root), "name another --runs")
        return
    check_free(file, root)
    checkout_protocol = read_protocol(places.protocol_file())
    if chosen is None and checkout_protocol is not None and other_host(checkout_protocol) is None:
        given, chosen = places.protocol_file(), checkout_protocol
    if given is None or chosen is None:
        if (root / _FOLDER).exists():
            raise MlscaleError("photos are there without a protocol", str(root / _FOLDER), _MOVE)
        measured = dict.fromkeys("k3s" if name in REHEARSED else name for name in environments)
        run_pilot([*measured], root, file, load_photos, seed=seed)
        return
    _take_over(photos_folder(chosen, given), photos_folder(chosen, file))
    write_protocol(file, chosen, root)


def _take_over(photos: Path, folder: Path) -> None:
    """Copy a photo set to ``folder``; photos that are there already are used if they are the same, and never deleted.

    They are compared with ``photos``, not with the protocol's sha256, which older ones computed from other bytes.
    """
    content = BodySet.read(photos).facts["sha256"]
    if folder.exists():
        if BodySet.read(folder).facts["sha256"] != content:
            raise MlscaleError("other photos are there", str(folder), _MOVE)
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a call that was killed
    _copy(photos, partial)
    partial.rename(folder)


def _copy(photos: Path, folder: Path) -> None:
    try:
        shutil.copytree(photos, folder, dirs_exist_ok=True)
    except OSError as error:
        raise MlscaleError(f"the photos can't be copied: {error}", str(folder), "make room there") from error


def demand_of(run: Run, decoding_s: float) -> Measured:
    """What an answer demands, from a run that kept one replica busy with photos that take ``decoding_s`` to decode.

    Raises:
        MlscaleError: too few right answers, too many wrong ones, or no sample of a replica's CPU.
    """
    to_s = run.info.schedule.duration_s
    answers = durations(run.requests, timeout_s=run.info.timeout_s)
    wrong = float((~answers["ok"]).mean()) if len(answers) else 0.0
    inside = answers[answers["ok"] & answers["done_s"].between(SETTLE_S, to_s)]
    if wrong > _MOST_WRONG or len(inside) < _LEAST_ANSWERS:
        raise MlscaleError(
            f"one replica gave {len(inside)} right answers in {to_s - SETTLE_S:g} s, and {wrong:.1%} were wrong",
            f"pilot: {run.info.environment}",
            "see `mlscale doctor`, and whether something else uses this host",
        )
    used = cpu_by_role(run.resources, SETTLE_S, to_s)
    cpu_s = used["cpu_s"].reindex(["replica", "data_plane", "control_plane", "load_generator", "host"]).fillna(0.0)
    if not cpu_s["replica"] > 0:
        raise MlscaleError("no CPU of a replica was sampled", f"pilot: {run.info.environment}", "see `mlscale doctor`")
    service_s = inside["queue_s"] + inside["inference_s"]
    span_s, number = to_s - SETTLE_S, len(inside)
    demand = Demand(
        own_s=max(cpu_s["replica"] / number - decoding_s, 0.0),
        data_plane_s=cpu_s["data_plane"] / number,
        control_cores=cpu_s["control_plane"] / span_s,
        way_s=max(float((inside["response_s"] - service_s).median()), 0.0),
        memory_bytes=float(used["peak_rss_bytes"].get("replica", 0.0)),
        start_s=run.info.waits["deploy_s"],
    )
    others = max(cpu_s["host"] - cpu_s.drop("host").sum(), 0.0) / span_s
    return Measured(demand, cpu_s["load_generator"] / number, others)


def _measure_each(
    environments: Sequence[str], photos: Path, source: LoadPhotos, folder: Path, seed: int, bar: Bar
) -> tuple[dict[str, Measured], float]:
    """Each environment's measurement, and the mean time of decoding a photo before, between and after them: a shared
    host's speed varies."""
    schedule = ClosedLoop(
        duration_s=SETTLE_S + LOAD_S, stages=(ClosedStage(start_s=0, clients=CLIENTS),), think_mean_s=THINK_S
    )
    measured: dict[str, Measured] = {}
    samples_s = [_decoding_s(photos, source)]
    with ClusterKeeper() as keeper:
        for name in environments:
            bar.step(f"pilot: what an answer demands on {name}", _EACH_S)
            keeper.prepare(name, {})
            run = measure(
                name,
                code_reader(),
                schedule,
                bodies=photos,
                out=folder / name,
                arm="static-min",
                scaling={"cpu_cores": REPLICA_CORES},
                options=MeasureOptions(seed=seed, idle_s=0.5, quiet_at_most_s=2.0),
            )
            samples_s.append(_decoding_s(photos, source))
            measured[name] = demand_of(run, float(np.mean(samples_s[-2:])))
    return measured, float(np.mean(samples_s))


def _host(measured: Mapping[str, Measured]) -> Host:
    facts = host_facts()
    return Host(
        cores=float(facts["cores_online"]),
        memory_bytes=float(facts["memory_bytes"] or np.inf),
        load_s=max(result.load_s for result in measured.values()),
        other_cores=min(_MOST_OTHER_CORES, *(result.other_cores for result in measured.values())),
    )


def _protocol(demands: Mapping[str, Demand], host: Host, size: Size, photos: Path) -> Protocol:
    labelled_s = _labelled_s(photos)
    photo_set = BodySet.read(photos)
    sizes = {"max_replicas": size.replicas, "cpu_cores": size.quota_cores}
    return Protocol(
        origin="pilot",
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        host=dict(host_facts()),
        photos=Photos(
            folder=_FOLDER,
            count=len(photo_set.bodies),
            sha256=str(photo_set.facts.get("sha256", "")),
            cpu_mean_s=round(size.model_s, 5),
            cpu_min_s=min(labelled_s),
            cpu_max_s=max(labelled_s),
        ),
        replicas=size.replicas,
        cpu_cores=size.quota_cores,
        think_mean_s=size.think_s,
        step_clients=size.clients,
        level_s=size.level_s,
        open_baseline_rps=round(size.open_baseline_rps, 3),
        open_step_rps=round(size.open_step_rps, 3),
        start_s={name: round(_START_FACTOR * demand.start_s, 1) for name, demand in demands.items()},
        matched={name: {**installed.get(name).arm("matched").model_dump(), **sizes} for name in demands},
        costs={
            name: {key: float(f"{value:.4g}") for key, value in asdict(demand).items()}
            for name, demand in demands.items()
        },
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
