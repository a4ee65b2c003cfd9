"""What each numbered notebook opens with: what was found, how sure that is, where it does not hold, and one figure.

Computed from the published figures' manifest, the results and the records; `mlscale experiment publish` writes it into
the notebooks.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final

from mlscale.analysis.endpoints import PRIMARY
from mlscale.atomic import write_text
from mlscale.notebook.manifest import read_manifest
from mlscale.plots.style import display_name
from mlscale.runs import MlscaleError
from mlscale_paper import places, ray_start
from mlscale_paper.partition_theory import Way, best_case, capacity_rps
from mlscale_paper.protocol import photo_cpu_s
from mlscale_paper.results import RESULTS
from mlscale_paper.twin_records import CLAIMS, VALIDATION
from mlscale_twin.negative_controls import NOTICED_SHARE

# Found, how sure, where it does not hold.
Sentences = tuple[str, str, str]
_BLOCK: Final = re.compile(r"(<!-- opening: [^\n]*-->\n).*?(\n<!-- end of opening -->)", re.DOTALL)
_WIDTH_PX: Final = 560


class Published:
    """What the sentences are made of: ``results``, ``figures`` (the manifest's entries) and ``record``."""

    def __init__(self) -> None:
        self.figures = read_manifest(places.figures())
        self.results: Mapping[str, Any] = json.loads((places.figures() / RESULTS).read_text())

    def headline(self, figure: str) -> str:
        """What a figure shows."""
        return str(self.figures[figure]["headline"])

    def runs(self, figure: str) -> str:
        """How many runs a figure shows, in how many blocks."""
        found = re.search(r"\d+ runs?( in \d+ blocks?)?", self.figures[figure]["note"])
        return found[0] if found else "no run"

    def record(self, name: str) -> Mapping[str, Any]:
        """A long computation's record."""
        return dict(json.loads((places.reference() / name).read_text()))

    def setting(self) -> str:
        """Where and under which load the comparison was measured."""
        content = self.results
        cores = " or ".join(f"{cores:g}" for cores in content["settings"]["cpu_cores"])
        return f"this host ({' and '.join(content['hosts'])}), {cores} core per replica, {' or '.join(content['load'])}"


def application(published: Published) -> Sentences:
    return (
        f"It reads the codes in {published.headline('application_reads').removeprefix('Read: ')} photos, and needs "
        f"{1000 * photo_cpu_s():.0f} ms of CPU for a photo of the load.",
        str(published.figures["application_reads"]["note"]),
        "On photos of other kinds (the model card has real ones) and, as for the CPU time, on another CPU.",
    )


def framework(environment: str, limit: str) -> Callable[[Published], Sentences]:
    """Of the framework's own notebook; ``limit``: what else is particular about its runs."""

    def sentences(published: Published) -> Sentences:
        content, figure = published.results, f"{environment}_response"
        row = next(row for row in content["environments"] if row["environment"] == display_name(environment))
        first_s, decision_s = re.findall(r"(\d+) s \((\d+) s\)", published.headline(figure))[0]
        return (
            f"A new replica first answers {first_s} s after the load step, of which the decision takes {decision_s} s "
            f"(medians); the moving mean of the response is below L = {content['level_s']:g} s again after "
            f"{row['mean T_slo (s)']:.0f} s (mean).",
            f"{published.runs(figure)}, each a mark of the figure.",
            f"Beyond {published.setting()}; {limit}.",
        )

    return sentences


def ecs(published: Published) -> Sentences:
    return (
        f"{published.headline('ecs_periods')} (the metric that the alarms look at, and how often it is stored).",
        f"{published.runs('ecs_periods')}, all simulated with numbers from documents: not validated, so without an "
        "interval.",
        "On AWS as it is: nothing here was measured there.",
    )


def eks(published: Published) -> Sentences:
    return (
        f"{published.headline('eks_boot')}.",
        f"{published.runs('eks_boot')}, rehearsed on one host with real pods and made-up boot times.",
        "For how long AWS takes to boot a machine, pull an image or notice a new pod.",
    )


def compare(published: Published) -> Sentences:
    effects = published.results["effects"]
    wins = Counter(row["favours"] for row in effects if row["favours"])
    first, most = wins.most_common(1)[0] if wins else ("", 0)
    ratios = {}
    for row in effects:
        if row["endpoint"] == PRIMARY[0].name and row["b"] == first:
            ratios[row["a"]] = (row["ratio"], row["low"], row["high"])
        elif row["endpoint"] == PRIMARY[0].name and row["a"] == first:
            ratios[row["b"]] = (1 / row["ratio"], 1 / row["high"], 1 / row["low"])
    times = [
        f"{ratio:.2f} times as long on {display_name(other)} ({low:.2f} to {high:.2f})"
        for other, (ratio, low, high) in sorted(ratios.items(), key=lambda item: item[1])
    ]
    clear = most == len(PRIMARY) * len(ratios) > 0
    found = (
        f"{display_name(first)} is faster, steadier and sooner back than each other framework: after the step, the "
        f"mean response is {' and '.join(times)} (95 % intervals)."
        if clear
        else f"{published.headline('compare_estimation')}."
    )
    noise = next(row for row in effects if row["endpoint"] == PRIMARY[0].name)
    means, withdrawn = ray_start.Correction(ray_start.published()).changes()
    return (
        found,
        f"{published.runs('compare_estimation')}; the same framework measured twice differs by a factor of "
        f"{noise['aa_low']:.2f} to {noise['aa_high']:.2f}; without a package that slows the start of its replicas, Ray "
        f"Serve's mean response would be {' and '.join([*means, *withdrawn])}.",
        f"Beyond {published.setting()}, settings as alike as the frameworks allow; TorchServe is scaled by a "
        "controller of ours, and nothing was measured on AWS.",
    )


def referee(published: Published) -> Sentences:
    record = published.record(CLAIMS)
    judged = record["arms"]["matched"]
    counts = Counter(judged["verdicts"].values())
    words = ", ".join(f"{count} {word}" for word, count in counts.items())
    exact = ", ".join(f"{claim} {verdict}" for claim, verdict in judged["exact_verdicts"].items())
    return (
        f"By simulation, of the paper's {len(judged['verdicts'])} claims about clouds: {words}.",
        f"{record['draws']} draws in which everything uncertain varies, the twin's own error included; without that "
        f"error: {exact}.",
        "On AWS itself: nobody ran it here, so none of this reproduces or refutes a claim.",
    )


def partition(published: Published) -> Sentences:
    halves_s, whole_s = best_case()
    ways: tuple[Way, ...] = ("whole", "overlapping", "blocking")
    whole, overlapping, blocking = (capacity_rps(way, halves_s, (2, 2), whole_s) for way in ways)
    measured = (places.reference() / "partition").is_dir()
    return (
        f"By theory, four replicas serve {whole:.1f} requests a second whole, at most {overlapping:.1f} split, and "
        f"{blocking:.1f} split with a front that waits.",
        f"{'Runs' if measured else 'No run'} of both ways {'are' if measured else 'is'} published; the numbers are the "
        "best case of a split, halves of equal cost and nothing done twice.",
        "Where a quota is not simply a slower CPU, which the notebook measures.",
    )


def twin(published: Published) -> Sentences:
    record = published.record(VALIDATION)
    wrong = [row for row in record["controls"] if row["twin"] != "as it is"]
    noticed = sum(row["rejected"] >= NOTICED_SHARE for row in wrong)
    claimed = sum(row["not_claimed"] == "" for row in record["verdicts"])
    return (
        f"{published.headline('twin_verdicts')}.",
        f"{published.runs('twin_verdicts')} that it was not fitted to; {noticed} of {len(wrong)} twins that were made "
        "wrong on purpose were noticed.",
        f"For the {len(record['verdicts']) - claimed} of {len(record['verdicts'])} figures that are not claimed, for "
        "other hosts and loads, and for AWS, which was never compared.",
    )


def strategy(published: Published) -> Sentences:
    return (
        f"{published.headline('strategy_cost')}, for the day below.",
        f"Simulated; deployed live for two other traffics ({published.runs('strategy_live')}): "
        f"{published.headline('strategy_live')[:1].lower()}{published.headline('strategy_live')[1:]}.",
        "For other traffic, prices or hosts, and least of all in the cloud, which was never compared with live runs.",
    )


# Notebook -> its figure (none: its next cell draws one), and what makes its sentences.
OPENINGS: Final[Mapping[str, tuple[str, Callable[[Published], Sentences]]]] = {
    "01_application": ("application_reads", application),
    "02_torchserve": ("torchserve_response", framework("torchserve", "the controller is ours")),
    "03_rayserve": (
        "rayserve_response",
        framework("rayserve", "the starts are longer than need be, because of a package (METHOD, section 4)"),
    ),
    "04_k3s": ("k3s_response", framework("k3s", "one node, with the image already on it")),
    "05_ecs": ("ecs_periods", ecs),
    "06_eks": ("eks_boot", eks),
    "07_compare": ("compare_estimation", compare),
    "07b_referee": ("compare_claims", referee),
    "08_partition": ("", partition),
    "09_twin": ("twin_verdicts", twin),
    "10_strategy": ("strategy_cost", strategy),
}


def openings() -> dict[Path, str]:
    """Each notebook's file, with its opening as published now.

    Raises:
        MlscaleError: a notebook without a block for it.
    """
    published = Published()
    return {places.notebooks() / f"{name}.ipynb": _opened(published, name) for name in OPENINGS}


def write_openings() -> None:
    """Write them into the notebooks."""
    for file, text in openings().items():
        write_text(file, text)


def _opened(published: Published, name: str) -> str:
    file = places.notebooks() / f"{name}.ipynb"
    content = json.loads(file.read_text())
    first, (figure, sentences) = content["cells"][0], OPENINGS[name]
    labels = ("Found", "How sure", "Where it does not hold")
    lines = [f"- **{label}.** {text}" for label, text in zip(labels, sentences(published), strict=True)]
    if figure:
        alt = escape(published.headline(figure))
        lines += ["", f'<img src="../figures/{figure}.png" width="{_WIDTH_PX}" alt="{alt}">']
    block = "\n".join(lines)
    text, times = _BLOCK.subn(lambda found: f"{found[1]}{block}{found[2]}", "".join(first["source"]))
    if times != 1:
        raise MlscaleError(f"{times} blocks of opening", file.name, "restore <!-- opening: ... --> in its first cell")
    first["source"] = text.splitlines(keepends=True)
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
