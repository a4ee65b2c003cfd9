"""Sets the document: collects the published results, fills the template, and has Typst make PDF and HTML of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import pandas as pd

from mlscale.analysis.boot_time_response import boot_time_rows, slope_on_boot
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.notebook import tables
from mlscale.plots.style import display_name
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, load_runs
from mlscale_paper import comparison, places, ray_start, results, twin_records, twin_tables
from mlscale_paper.manuscript import figures
from mlscale_paper.manuscript.figures import Drawn
from mlscale_paper.manuscript.numbers import Numbers, plain, shown
from mlscale_paper.plots.predictions import CLAIMS

TEMPLATE: Final = "paper.typ.j2"
PUBLISH: Final = "mlscale experiment publish --runs data/reference"
# Name in the template -> file or folder in the checkout, and the command that makes what is said of it.
FILES: Final[Mapping[str, tuple[str, str]]] = {
    "results": ("figures/results.json", PUBLISH),
    "core": ("data/reference/core", "make paper"),
    "shipped": ("data/reference/shipped", "mlscale compare data/reference/shipped"),
    "rehearsal": ("data/reference/rehearsal", "make paper"),
    "protocol": ("data/reference/protocol.json", "mlscale experiment pilot"),
    "claims": (f"data/reference/{twin_records.CLAIMS}", "mlscale experiment claims"),
    "ray_start": ("data/ray-start", "python benchmarks/ray_start.py"),
    "validation": (f"data/reference/{twin_records.VALIDATION}", "mlscale experiment validate"),
}
_SCREEN: Final = (
    "body{max-width:46rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 Georgia,serif;color:#222}"
    "img{max-width:100%;height:auto}a{color:#1a4f8b;text-decoration-style:dotted}figure{margin:1.5rem 0}"
    "table{border-collapse:collapse;font-size:.85rem;margin:auto}"
    "td,th{padding:.2rem .5rem;border-top:1px solid #ccc;text-align:left}"
    "figcaption{font-size:.85rem;color:#444}div:has(>table){overflow-x:auto}:target{background:#fff3bf}"
)  # fmt: skip


def make(out: Path) -> list[Path]:
    """Draw the figures and set the document into ``out``; returns paper.pdf and paper.html.

    Raises:
        MlscaleError: no runs are published, or ``out`` can't be written.
    """
    if not (places.figures() / results.RESULTS).exists():
        raise MlscaleError("no results are published", str(places.figures()), f"publish runs: {PUBLISH}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with Shown() as progress:
            progress("reading the published runs, drawing the figures", 0.0)
            contents, drawn = _measured(out)
            progress("setting the document", 0.95)
            return _set(out, {**published(), **contents}, drawn)
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(out), "make room there, or make it writable") from error


def published() -> dict[str, Any]:
    """The files of results in the checkout, by their names in `FILES`; None where one is not published."""
    named = {name: places.checkout() / file for name, (file, _) in FILES.items() if file.endswith(".json")}
    return {name: json.loads(file.read_text()) if file.exists() else None for name, file in named.items()}


def _measured(out: Path) -> tuple[dict[str, Any], list[Drawn]]:
    """What is computed from the runs themselves, and the figures."""
    level_s = float(published()["protocol"]["level_s"])
    everything, rehearsed = comparison.apart(load_runs(places.reference()))
    core = [run for run in everything if run.info.cell == "core"]
    rows = summarise(core, level_s)
    good = comparison.behind(core, comparison.usable(rows))
    effects = compare(rows)
    drawn = figures.draw_compared(core, rows, good, effects, level_s, out)
    boots = tables.valid(rehearsed)
    boot_rows = boot_time_rows(boots, level_s)
    drawn.append(figures.draw_rehearsed(boots, boot_rows, level_s, out))
    note = twin_records.simulated_from(twin_records.CLAIMS).sentence
    evidence = twin_tables.live_evidence(effects, boot_rows)
    drawn.append(figures.draw_claims(published()["claims"]["arms"]["matched"], evidence, note, out))
    shipped = results.cell_results([run for run in everything if run.info.cell == "shipped"], level_s)
    slope = slope_on_boot(boot_rows)
    return {
        "shipped": shipped,
        "rehearsal": {"slope": asdict(slope) if slope else None, "runs": len(boots)},
        "ray_start": {"sentence": ray_start.Correction(ray_start.published()).sentence()},
    }, drawn


def _set(out: Path, contents: Mapping[str, Any], drawn: list[Drawn]) -> list[Path]:
    """Write the document's sources into ``out`` and compile them."""
    import typst

    write_text(out / "paper.typ", rendered(contents, drawn))
    for name in ("layout.typ", "references.yml"):
        write_text(out / name, files(__package__).joinpath(name).read_text())
    made = []
    for form in ("pdf", "html"):
        document = typst.compile(
            str(out / "paper.typ"), format=form, sys_inputs={"form": form}, ignore_system_fonts=True
        )
        if form == "html":
            document = document.replace(b"</head>", f"<style>{_SCREEN}</style></head>".encode(), 1)
        made.append(out / f"paper.{form}")
        made[-1].write_bytes(document)
    return made


def rendered(contents: Mapping[str, Any], drawn: list[Drawn]) -> str:
    """The document as Typst markup; pure.

    Args:
        contents: the contents of `FILES`, as plain data.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    numbers = Numbers(contents, FILES)
    environment = Environment(
        loader=PackageLoader("mlscale_paper", "manuscript"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "shown": shown, "display": display_name}
    return environment.get_template(TEMPLATE).render(
        **contents,
        numbers=numbers,
        figures={figure.name: figure for figure in drawn},
        sentences=results.sentences,
        pairs=results.pairs,
        verdicts=_verdicts(contents["claims"]),
        stale=contents["claims"]["code_sha256"] != twin_records.record_hash(twin_records.CLAIMS),
        validated=_validated(contents["validation"]),
    )


def _verdicts(claims: Mapping[str, Any]) -> list[dict[str, str]]:
    """The twin's word on each claim of the paper, with its own error counted in, and without."""
    judged = claims["arms"]["matched"]
    return [
        {"name": name, "says": says, "word": judged["verdicts"][name], "exact": judged["exact_verdicts"][name]}
        for name, says in CLAIMS.items()
    ]


def _validated(record: Mapping[str, Any] | None) -> list[str]:
    """How the twin compares with live runs that it was not fitted to, a sentence per environment; empty: it was not."""
    if record is None:
        return []
    groups = pd.DataFrame(record["verdicts"]).groupby("environment", sort=False)["verdict"]
    counted = {str(name): Counter(verdicts) for name, verdicts in groups}
    words = ("equivalent", "inconclusive", "different")
    return [
        f"{display_name(name)}: {', '.join(f'{counts[word]} {word}' for word in words)}"
        for name, counts in counted.items()
    ]
