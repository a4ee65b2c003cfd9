"""What all figures share: they take runs and have a caption that says what a reader needs to judge them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any, Final, ParamSpec

import numpy as np
from matplotlib.figure import Figure

from mlscale.plots.style import style
from mlscale.runs import MlscaleError, Run, RunInfo
from mlscale.runs.info import host_name

P = ParamSpec("P")

# Up to this number, the variants of cells are named one by one.
_FEW_CELLS: Final = 4
_HPA_SETTINGS: Final = {
    "sync_period_s": "sync period {} s",
    "tolerance": "tolerance {}",
    "downscale_stabilisation_s": "downscale stabilisation {} s",
    "cpu_initialisation_period_s": "CPU initialisation period {} s",
    "initial_readiness_delay_s": "initial readiness delay {} s",
}


def figure(draw: Callable[P, Any]) -> Callable[P, Figure]:
    """``draw``, which takes runs first (one, several, or groups by name) and returns axes, as a function that returns
    their figure, in our style and with its caption. It raises MlscaleError where no run is given."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        runs = _runs_of(next(iter([*args, *kwargs.values()])))
        if not runs:
            raise MlscaleError("no run is given", "figure", "name one")
        with style():
            axes = np.asarray(draw(*args, **kwargs), dtype=object)
        whole: Figure = axes.flat[0].figure
        whole.set_label(caption(runs, with_invalid=True))
        return whole

    drawn.__signature__ = signature(draw).replace(return_annotation="Figure")  # type: ignore[attr-defined]
    return drawn


def _runs_of(given: Any) -> list[Run]:
    if isinstance(given, Mapping):
        return [run for group in given.values() for run in group] if all(given.values()) else []
    return [given] if isinstance(given, Run) else list(given)


def alternative_text(figure: Figure) -> str:
    """A text alternative to the picture: its headline, else the titles of its axes."""
    titles = (axes.get_title(loc) for axes in figure.axes for loc in ("left", "center"))
    return " ".join(figure.get_suptitle().split()) or "; ".join(" ".join(title.split()) for title in titles if title)


def caption_line(runs: Sequence[Run], *notes: str, simulated: bool = False) -> str:
    """What a reader has to know at first sight: measured or not, how many runs, and ``notes``. ``simulated``: the
    figure shows simulations besides ``runs``."""
    infos = [run.info for run in runs]
    modes = _listed([*dict.fromkeys(info.mode for info in infos), *["simulated"] * simulated]).capitalize()
    texts = [modes, _number(infos, "shown") if infos else "", *(note.rstrip(".") for note in notes)]
    return f"{'. '.join(filter(None, texts))}."


def caption(runs: Sequence[Run], *, with_invalid: bool = False, note: str = "") -> str:
    """One paragraph, from run.json alone, then ``note``. ``with_invalid``: the figure shows invalid runs too."""
    infos = [run.info for run in runs]
    if not infos:
        return f"{note.rstrip('.') or 'No runs'}."
    hosts = _listed(host_name(info.host) for info in infos if info.mode != "simulated")
    sentences = [
        _listed(info.mode for info in infos).capitalize() + (f" on {hosts}" if hosts else ""),
        f"Application: {_listed(info.application for info in infos)}",
        _quota(infos),
        _cell(infos),
        _number(infos, "shown" if with_invalid else "left out"),
        "Failures count as the timeout",
        note.rstrip("."),
    ]
    if any(info.environment in ("torchserve", "rayserve") for info in infos):
        sentences.insert(3, "TorchServe and Ray Serve run as processes, not containers")
    sentences[3:3] = [*_simulated(infos), *_rehearsed(infos), *_kubernetes(infos)]
    return ". ".join(sentence for sentence in sentences if sentence) + "."


def _cell(infos: Sequence[RunInfo]) -> str:
    """The load, the autoscaler's settings, and the experiment's cell if there is one."""
    cells = f"Cell {_cells(infos)}: arm" if any(info.cell for info in infos) else "Arm"
    loop, connections = _listed(info.schedule.loop for info in infos), _listed(info.connections for info in infos)
    return f"{cells} {_listed(info.arm for info in infos)}, {loop} loop, {connections} connections"


def _cells(infos: Sequence[RunInfo]) -> str:
    names = dict.fromkeys(info.cell or "none" for info in infos)
    if len(names) <= _FEW_CELLS:
        return _listed(names)
    variants = Counter(name.partition("/")[0] for name in names)
    return _listed(f"{name} ({number} variants)" if number > 1 else name for name, number in variants.items())


def _number(infos: Sequence[RunInfo], invalid_ones: str) -> str:
    """Number of runs, blocks and invalid runs; of a run by itself, what may be said of it."""
    invalid = [info for info in infos if not info.valid]
    blocks = {info.block for info in infos if info.block is not None}
    if len(infos) == 1 and not blocks:
        reasons = [reason for info in invalid if info.validity for reason in info.validity.reasons]
        doubt = f"Invalid, so no claim may rest on it: {'; '.join(reasons) or 'no reason recorded'}" if invalid else ""
        return doubt or "One run: how much another would differ is unknown"
    left_out = f", {len(invalid)} invalid ({invalid_ones})" if invalid else ""
    in_blocks = f" in {_count(len(blocks), 'block')}" if blocks else ""
    return f"{_count(len(infos), 'run')}{in_blocks}{left_out}"


def _quota(infos: Sequence[Any]) -> str:
    quotas = {
        (setting.get("cpu_cores"), setting.get("cpu_period_s"), setting.get("max_replicas"))
        for info in infos
        for setting in info.scaling.values()
        if not info.no_quota
    }
    texts = ["no CPU quota: replicas share all cores"] if any(info.no_quota for info in infos) else []
    texts += [
        f"{cores:g} core per replica, {1000 * period:g} ms quota period, at most {replicas} replicas"
        for cores, period, replicas in sorted(quota for quota in quotas if None not in quota)
    ]
    return " or ".join(texts)


def hpa_in_effect(info: RunInfo) -> dict[str, dict[str, Any]]:
    """Settings of the autoscaler that worked on a run: name -> ``value``, and ``from`` where that was read. What the
    run's own settings say (the HPA's ``behavior``) stands before the controller's default."""
    observed = {name: dict(fact) for name, fact in info.facts.get("hpa", {}).items()}
    chosen = {name: value for settings in info.scaling.values() for name, value in settings.items()}
    return observed | {
        name: {"value": chosen[name], "from": "the run's settings"} for name in observed if chosen.get(name) is not None
    }


def _kubernetes(infos: Sequence[RunInfo]) -> list[str]:
    """Which Kubernetes answered, and the settings of its autoscaler that were in effect."""
    groups: dict[str, list[RunInfo]] = {}
    for info in infos:
        if "distribution" in info.facts:
            groups.setdefault(f"{info.facts['distribution']} {info.facts.get('version', '')}", []).append(info)
    return [_cluster(name, [hpa_in_effect(info) for info in group]) for name, group in groups.items()]


def _cluster(name: str, in_effect: Sequence[dict[str, dict[str, Any]]]) -> str:
    settings = []
    for key, text in _HPA_SETTINGS.items():
        values = sorted({float(hpa[key]["value"]) for hpa in in_effect if key in hpa})
        if values:
            settings.append(text.format(" or ".join(f"{value:g}" for value in values)))
    documented = any(str(setting["from"]).startswith("documented") for hpa in in_effect for setting in hpa.values())
    note = " (documented defaults where it does not show them)" if documented else ""
    return f"Kubernetes is {name}; its HPA: {', '.join(settings)}{note}"


def _simulated(infos: Sequence[RunInfo]) -> list[str]:
    """States that nothing was measured, and which profile the twin used."""
    profiles = {info.environment: info.facts["profile"] for info in infos if info.mode == "simulated"}
    return [
        f"SIMULATED, not measured: the twin with profile {name} ({profile['what']}; {profile['validated']})"
        for name, profile in profiles.items()
    ]


def _rehearsed(infos: Sequence[RunInfo]) -> list[str]:
    """States that no cloud was involved, and where the boot times come from."""
    boots = [info.facts["boot"] for info in infos if info.mode == "rehearsal" and "boot" in info.facts]
    if not boots:
        return []
    times = sorted({float(seconds) for boot in boots for seconds in boot["samples_s"]})
    text = " or ".join(f"{seconds:g}" for seconds in times)
    sources = _listed(f"{boot['source']}{', ' * bool(boot['date'])}{boot['date']}" for boot in boots)
    return [
        "A rehearsal, not a run on EKS: HPA, Karpenter, kubelets and pods are real, machines are namespaces of one "
        f"host whose boot time of {text} s is made up or drawn ({sources})"
    ]


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _listed(values: Any) -> str:
    return " and ".join(dict.fromkeys(str(value) for value in values))
