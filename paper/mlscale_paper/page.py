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

import pandas as pd

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
from mlscale_paper.results import RESULTS, document_table, said

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
    """All published results, measured, rehearsed and simulated, between the words of page.md."""
    level_s, beside = published_protocol().level_s, {name: parts for (_, name), parts in beside_comparison().items()}
    everything, rehearsed = comparison.apart(load_runs(places.reference()))
    core = [run for run in everything if run.info.cell == "core"]
    rows, boots = summarise(core, level_s), tables.valid(rehearsed)
    effects, boot_rows = compare(rows), boot_time_rows(boots, level_s)
    evidence = twin_tables.live_evidence(effects, boot_rows)
    correction = Text([f"{ray_start.Correction(ray_start.published()).sentence()}."], "warning")
    parts = {
        "correction": cited([correction], "ray start", "corrected"),
        "comparison": _compared(core, rows, effects, level_s),
        "shipped": cited(beside["shipped"], "shipped", "effects, parts"),
        "rehearsal": cited(_rehearsed(boots, boot_rows, level_s), "rehearsal", "T_slo by boot time"),
        "claims": cited([*beside["claims"], *_simulated(evidence)], "claims", "arms"),
        "twin": cited(beside["twin"], "twin", "verdicts, controls, rivals"),
        "advice": cited(advice_published.document(), "advice", "runs and plan"),
        "measured": cited([*beside["measured"], *beside["cells"]], "runs", "run.json"),
    }
    sections = [
        Section(title, [part for text in words.split("\n\n") for part in _said(text, parts)])
        for title, words in _words(Path(__file__).with_name("page.md").read_text())
    ]
    return Document(TITLE, sections)


def _words(text: str) -> list[tuple[str, str]]:
    """The sections of page.md: title, and what stands below it."""
    opening, *others = text.strip().split("\n\n## ")
    return [("", opening), *((title, words) for title, _, words in (other.partition("\n\n") for other in others))]


def _said(text: str, parts: Mapping[str, Sequence[Part]]) -> Sequence[Part]:
    """A paragraph, or the parts that ``{name}`` stands for."""
    return parts[text[1:-1]] if text.startswith("{") else [Text([text.replace("\n", " ")])]


def cited(parts: Sequence[Part], name: str, field: str) -> list[Part]:
    """The same parts, from a field of one of `SOURCES`."""
    return [replace(part, source=Source(*SOURCES[name], field)) for part in parts]


def _compared(core: Sequence[Run], rows: pd.DataFrame, effects: pd.DataFrame, level_s: float) -> list[Part]:
    content = json.loads((places.figures() / RESULTS).read_text())
    good = comparison.behind(core, comparison.usable(rows))
    good_rows = rows[rows["run_id"].isin([run.info.run_id for run in good])]
    drawn = [
        picture("What clients saw", figures.trajectory(core, level_s)),
        picture("The ratios, with their uncertainty", figures.estimation(core, level_s, rows=rows, table=effects)),
        picture("What it cost in CPU", figures.resources(good, level_s, rows=good_rows)),
    ]
    numbers = document_table("What clients saw, in numbers", content["environments"])
    return [
        *said(content, partial(Source, *SOURCES["results"])),
        *cited(drawn, "core", "figure and caption"),
        *cited([numbers], "results", "environments"),
    ]


def _rehearsed(boots: Sequence[Run], rows: pd.DataFrame, level_s: float) -> list[Part]:
    drawn = picture("The response by boot time", figures.boot_response(boots, level_s, rows=rows))
    slope = slope_on_boot(rows)
    if slope is None:
        return [drawn]
    text = (
        f"Over {slope.n} runs that waited for a machine, each second of boot time makes T_slo later by "
        f"{slope.slope:.2f} s (interval {slope.low:.2f} to {slope.high:.2f} s{slope.left_out})."
    )
    return [Text([text]), drawn]


def _simulated(evidence: Mapping[str, str]) -> list[Part]:
    """The twin's draws of both sides of each claim."""
    record = published_record(twin_records.CLAIMS)
    if record is None:
        return []
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
    return [picture("The claims", drawn), document_table(heading, ratios)]
