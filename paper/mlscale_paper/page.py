"""`make paper`: the published set on one page, in which every number leads to its data and the command behind it."""

from __future__ import annotations

import base64
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

from mlscale.analysis.boot_time_response import boot_time_rows, slope_on_boot
from mlscale.atomic import write_text
from mlscale.notebook.manifest import read_manifest
from mlscale.progress import Shown
from mlscale.reporting.document import Document, Element, Picture, Section, Source, Text
from mlscale.reporting.render import to_html
from mlscale.runs import MlscaleError, load_runs
from mlscale_paper import advice_published, places, ray_start, twin_records
from mlscale_paper.protocol import published_protocol
from mlscale_paper.publish import beside_comparison, published_record
from mlscale_paper.results import RESULTS, document_table, said

PUBLISH: Final = "mlscale experiment publish --runs data/reference"
# What is said is from a file or folder of the checkout, and made by a command.
SOURCES: Final[Mapping[str, tuple[str, str]]] = {
    "results": (f"figures/{RESULTS}", PUBLISH),
    "runs": ("data/reference", PUBLISH),
    "figures": ("figures/manifest.json", PUBLISH),
    "shipped": ("data/reference/shipped", "mlscale compare data/reference/shipped"),
    "rehearsal": ("data/reference/rehearsal", "mlscale experiment paper"),
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
        progress("reading the published runs", 0.0)
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
    """All published results, measured, rehearsed and simulated, with their figures, between the words of page.md."""
    beside = {name: parts for (_, name), parts in beside_comparison().items()}
    content = json.loads((places.figures() / RESULTS).read_text())
    correction = Text([f"{ray_start.Correction(ray_start.published()).sentence()}."], "warning")
    parts = {
        "correction": cited([correction], "ray start", "corrected"),
        "comparison": said(content, partial(Source, *SOURCES["results"])),
        "environments": cited([document_table("", content["environments"])], "results", "environments"),
        "shipped": cited(beside["shipped"], "shipped", "effects, parts"),
        "slope": cited(_slope(), "rehearsal", "T_slo by boot time"),
        "claims": cited(beside["claims"], "claims", "arms.*.verdicts"),
        "ratios": cited(_ratios(), "claims", "arms.matched.rows"),
        "twin": cited(beside["twin"], "twin", "verdicts, controls, rivals"),
        "advice": cited(advice_published.document(), "advice", "runs and plan"),
        "measured": cited([*beside["measured"], *beside["cells"]], "runs", "run.json"),
    }
    opening, *others = Path(__file__).with_name("page.md").read_text().strip().split("\n\n## ")
    sections = [("", opening), *(tuple(other.split("\n\n", 1)) for other in others)]
    manifest = read_manifest(places.figures())
    return Document(
        TITLE,
        [
            Section(title, [part for text in words.split("\n\n") for part in _said(text, parts, manifest)])
            for title, words in sections
        ],
    )


def _said(text: str, parts: Mapping[str, Sequence[Element]], manifest: Mapping[str, Any]) -> Sequence[Element]:
    """What a paragraph of page.md stands for: ``{name}`` parts, ``{figure NAME HEADING}`` a figure, if published."""
    if text.startswith("{figure "):
        _, name, heading = text[1:-1].split(" ", 2)
        if name not in manifest:
            return []
        image = base64.b64encode((places.figures() / f"{name}.png").read_bytes()).decode()
        drawn = Picture(heading, f"data:image/png;base64,{image}", manifest[name]["headline"], manifest[name]["note"])
        return cited([drawn], "figures", name)
    return parts[text[1:-1]] if text.startswith("{") else [Text([text.replace("\n", " ")])]


def cited(parts: Sequence[Element], name: str, field: str) -> list[Element]:
    """The same parts, from a field of one of `SOURCES`."""
    return [replace(part, source=Source(*SOURCES[name], field)) for part in parts]


def _slope() -> list[Element]:
    """How the response depends on the boot time, where enough boot times were rehearsed."""
    folder = places.reference() / "rehearsal"
    runs = [run for run in load_runs(folder) if run.info.valid] if folder.is_dir() else []
    slope = slope_on_boot(boot_time_rows(runs, published_protocol().level_s))
    if slope is None:
        return []
    text = (
        f"Over {slope.n} runs that waited for a machine, each second of boot time makes T_slo later by "
        f"{slope.slope:.2f} s (interval {slope.low:.2f} to {slope.high:.2f} s{slope.left_out})."
    )
    return [Text([text])]


def _ratios() -> list[Element]:
    """The twin's draws of both sides of each claim."""
    record = published_record(twin_records.CLAIMS)
    rows = [
        {
            "comparison": f"{row['claim']}, {row['what']}, {row['figure']}",
            "ratio": f"{row['ratio']:.2f}",
            "range of draws": f"{row['low']:.2f} to {row['high']:.2f}",
            "verdict": row["verdict"],
        }
        for row in (record["arms"]["matched"]["rows"] if record else ())
    ]
    heading = "The side that the original paper calls worse, divided by the other side"
    return [document_table(heading, rows)] if rows else []
