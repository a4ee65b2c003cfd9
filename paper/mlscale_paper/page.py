"""`make paper`: the published set on one page, in which every number leads to its data and the command behind it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from mlscale import figures
from mlscale.analysis.boot_time_response import boot_time_rows, slope_on_boot
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.notebook import tables
from mlscale.plots.captions import caption
from mlscale.progress import Shown
from mlscale.reporting.document import Document, Part, Section, Source, Text, picture
from mlscale.reporting.render import to_html
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale_paper import advice_published, comparison, places, ray_start, twin_records, twin_tables
from mlscale_paper.plots.predictions import claim_ratios
from mlscale_paper.protocol import published_protocol
from mlscale_paper.publish import beside_comparison, published_record
from mlscale_paper.results import RESULTS, Cite, document_table, said

PUBLISH: Final = "mlscale experiment publish --runs data/reference"
# What is said is from a file or folder of the checkout, and made by a command.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "results": (f"figures/{RESULTS}", PUBLISH),
    "runs": ("data/reference", PUBLISH),
    "core": ("data/reference/core", "mlscale report data/reference/core"),
    "shipped": ("data/reference/shipped", "mlscale compare data/reference/shipped"),
    "rehearsal": ("data/reference/rehearsal", "make paper"),
    "claims": (f"data/reference/{twin_records.CLAIMS}", "mlscale experiment claims"),
    "twin": (f"data/reference/{twin_records.VALIDATION}", "mlscale experiment validate"),
    "advice": ("data/advice", PUBLISH),
    "ray start": ("data/ray-start", "python benchmarks/ray_start.py"),
}
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PRINT_S: Final = 120.0
TITLE: Final = "Comparing autoscaling frameworks for a containerised machine-learning application"
_THREATS: Final = (
    "Internal. Host and hypervisor are not under our control: runs during which other work used the host are marked as "
    "disturbed and repeated. TorchServe and Ray Serve start processes, Kubernetes starts containers whose image is "
    "already on the node, so nothing is pulled. In the arm matched, control loops still differ: the "
    "HorizontalPodAutoscaler looks far less often than the others.",
    "Construct. TorchServe is scaled by a controller of ours, so its results are those of this controller. In a closed "
    "loop a slow server slows its clients down and so gets fewer requests, which flatters it. A failure counts as the "
    "timeout, which is severe. The windows of the moving statistics and L are choices; the comparison is repeated with "
    "other windows.",
    "External. One host, one quota, one application, one load step. A ranking here is no promise for a machine with "
    "many cores or for a model on an accelerator. Nothing was measured on AWS.",
    "Conclusion. Few blocks allow only large differences to be shown; the noise floor shows how large chance is. Only "
    "the arm matched has p-values.",
)


def make(out: Path) -> tuple[Path, Path | None]:
    """Write paper.html into ``out`` and print it to paper.pdf beside it; None: there is no Chromium.

    Raises:
        MlscaleError: no runs are published, ``out`` can't be written, or the browser fails.
    """
    if not (places.figures() / RESULTS).exists():
        raise MlscaleError("no results are published", str(places.figures()), f"publish runs: {PUBLISH}")
    page = out.resolve() / "paper.html"
    with Shown() as progress:
        progress("reading the published runs, drawing the figures", 0.0)
        document = published_set()
        checkout = places.checkout()
        inside = page.is_relative_to(checkout)  # elsewhere, links would name folders of this machine
        write_text(page, to_html(document, f"{os.path.relpath(checkout, page.parent)}/" if inside else ""))
        progress("printing the page", 0.95)
        return page, printed(document, page.with_suffix(".pdf"))


def printed(document: Document, pdf: Path) -> Path | None:
    """Print a document without links to files of this machine.

    Raises:
        MlscaleError: the browser fails.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        return None
    with TemporaryDirectory() as scratch:
        page = Path(scratch) / "page.html"
        page.write_text(to_html(document))
        command = [browser, "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        command += ["--no-sandbox"] * (os.geteuid() == 0)  # Chromium refuses to run as root in its sandbox
        command += [f"--user-data-dir={scratch}/profile", "--no-pdf-header-footer", f"--print-to-pdf={pdf}"]
        try:
            subprocess.run([*command, page.as_uri()], check=True, capture_output=True, timeout=_PRINT_S)
        except (OSError, subprocess.SubprocessError) as error:
            remedy = f"print {pdf.with_suffix('.html')} in a browser"
            raise MlscaleError(f"{browser} did not print: {error}", str(pdf), remedy) from error
    return pdf


def published_set() -> Document:
    """All published results: measured, rehearsed and simulated."""
    level_s = published_protocol().level_s
    everything, rehearsed = comparison.apart(load_runs(places.reference()))
    core = [run for run in everything if run.info.cell == "core"]
    rows = summarise(core, level_s)
    effects, boots = compare(rows), tables.valid(rehearsed)
    boot_rows = boot_time_rows(boots, level_s)
    good = comparison.behind(core, comparison.usable(rows))
    good_rows = rows[rows["run_id"].isin([run.info.run_id for run in good])]
    content = json.loads((places.figures() / RESULTS).read_text())
    drawn = [
        picture("What clients saw", figures.trajectory(core, level_s)),
        picture("The ratios, with their uncertainty", figures.estimation(core, level_s, rows=rows, table=effects)),
        picture("What it cost in CPU", figures.resources(good, level_s, rows=good_rows)),
    ]
    beside = {name: parts for (_, name), parts in beside_comparison().items()}
    correction = ray_start.Correction(ray_start.published())
    measured = [
        Text([f"{correction.sentence()}."], "warning", cite("ray start")("corrected")),
        *said(content, cite("results")),
        *cited(drawn, cite("core")("figure and caption")),
        document_table("What clients saw, in numbers", content["environments"], cite("results")("environments")),
    ]
    evidence = twin_tables.live_evidence(effects, boot_rows)
    return Document(
        TITLE,
        [
            Section("", _opening(content)),
            Section("Measured: the load step on one host", measured),
            Section(
                "Measured: the same load with each framework's defaults",
                cited(beside["shipped"], cite("shipped")("effects, parts")),
            ),
            Section("Rehearsed: machines that come and go", _rehearsed(boots, boot_rows, level_s)),
            Section("Simulated: the original paper's claims about clouds", _simulated(evidence, beside["claims"])),
            Section("The twin against live runs", cited(beside["twin"], cite("twin")("verdicts, controls, rivals"))),
            Section("Advice, deployed", cited(advice_published.document(), cite("advice")("runs and plan"))),
            Section("What was measured", cited([*beside["measured"], *beside["cells"]], cite("runs")("run.json"))),
            Section("Threats to validity", [Text(_THREATS)]),
        ],
    )


def cite(name: str) -> Cite:
    """The source of a field of one of `SOURCES`."""
    return partial(Source, *SOURCES[name])


def cited(parts: Sequence[Part], source: Source | None) -> list[Part]:
    """The same parts with a source."""
    return [replace(part, source=source) for part in parts]


def _opening(content: Mapping[str, Any]) -> list[Part]:
    return [
        Text(
            [
                "Which autoscaling framework keeps the inference time of a containerised machine-learning application "
                "low and steady when the number of clients jumps? One application, photographs in and bar codes out, "
                "was deployed on TorchServe with a worker controller of ours, on Ray Serve and on Kubernetes, after "
                "Schroeder, Boehm and Lampe (arXiv 2311.18659)."
            ]
        ),
        Text(
            [f"{content['runs']} runs in {content['blocks']} blocks are compared, all on one host."],
            source=cite("results")("runs, blocks"),
        ),
        Text(
            [
                "What the original paper says of clouds was not measured: machines that come and go are rehearsed on "
                "the same host, and the cloud environments are simulated. Without runs on AWS, F1 and F3 can neither "
                "be reproduced nor refuted.",
                "Every number is a link to an entry at the end of the page. Definitions: docs/METHOD.md.",
            ]
        ),
    ]


def _rehearsed(boots: Sequence[Run], rows: Any, level_s: float) -> list[Part]:
    slope = slope_on_boot(rows)
    what = (
        "In a cloud a new pod may have to wait for a new machine. Nobody here ran one. In the rehearsal "
        "HorizontalPodAutoscaler, Karpenter, kubelets and pods are real, machines are namespaces of the measuring "
        "host, and the time that a virtual machine takes to boot was set. It shows how the response depends on the "
        "boot time, not how long AWS takes."
    )
    parts: list[Part] = [Text([what])]
    if slope:
        said = (
            f"Over {slope.n} runs that waited for a machine, each second of boot time makes T_slo later by "
            f"{slope.slope:.2f} s (interval {slope.low:.2f} to {slope.high:.2f} s{slope.left_out})."
        )
        parts.append(Text([said], source=cite("rehearsal")("T_slo by boot time")))
    drawn = picture("The response by boot time", figures.boot_response(boots, level_s, rows=rows))
    return [*parts, *cited([drawn], cite("rehearsal")("figure and caption"))]


def _simulated(evidence: Mapping[str, str], verdicts: Sequence[Part]) -> list[Part]:
    """The twin's draws of both sides of each claim."""
    what = (
        "Both sides of a claim are simulated by mlscale's twin: the same clients and settings, the frameworks' own "
        "decision rules, and a profile of the rest. The clouds' profiles are taken from documents, as ranges, and are "
        "not validated. Each draw takes one value of everything uncertain. A claim is implied if nearly all draws lie "
        "on its side, contradicted if nearly all lie on the other."
    )
    record = published_record(twin_records.CLAIMS)
    if record is None:
        return [Text([what]), *verdicts]
    judged = record["arms"]["matched"]
    drawn: Any = claim_ratios(judged, evidence).figure
    drawn.set_label(caption([], note=twin_records.simulated_from(twin_records.CLAIMS).sentence))
    ratios = [
        {
            "comparison": f"{row['claim']}, {row['what']}, {row['figure']}",
            "ratio": f"{row['ratio']:.2f}",
            "range of draws": f"{row['low']:.2f} to {row['high']:.2f}",
            "verdict": row["verdict"],
        }
        for row in judged["rows"]
    ]
    heading = "The side that the original paper calls worse, divided by the other side"
    return [
        Text([what]),
        *cited(verdicts, cite("claims")("arms.*.verdicts")),
        *cited([picture("The claims", drawn)], cite("claims")("arms.matched")),
        document_table(heading, ratios, cite("claims")("arms.matched.rows")),
    ]
