"""Published figures, drawn again from data/reference, show the numbers that their manifest records: in ``make test``
those of one environment and of the comparison, which states the documents' numbers; in ``make proof`` all."""

from __future__ import annotations

import io
import json
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from nbconvert import HTMLExporter

from browser import browser, needs_browser
from mlscale.notebook import tables
from mlscale.notebook.manifest import read_manifest
from mlscale.notebook.parameters import CompareParameters
from mlscale.progress import Bar
from mlscale.reporting.render import to_markdown
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.protocol import read_protocol
from mlscale_paper import drawing, places, twin_tables
from mlscale_paper.protocol import current_protocol
from mlscale_paper.publish import experiment_in
from mlscale_paper.results import RESULTS, filled, said, summary

REFERENCE = places.data() / "reference"
DRAWN: Final = ("04_k3s.ipynb", "07_compare.ipynb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `DRAWN` draws, drawn anew."""
    return redrawn(tmp_path_factory.mktemp("redrawn"), DRAWN)


def redrawn(folder: Path, notebooks: Collection[str]) -> Path:
    """The figures of some notebooks, drawn into ``folder`` from data/reference alone."""
    if not REFERENCE.is_dir():
        pytest.skip("no runs are published in data/reference yet")
    experiment = replace(experiment_in(REFERENCE), figures=folder)
    draw = drawing.draw

    def draw_some(experiment: Experiment, output: Path, notebook: Path, *more: Any) -> None:
        if notebook.name in notebooks:
            draw(experiment, output, notebook, *more)

    with pytest.MonkeyPatch.context() as patch, Bar(60.0, io.StringIO()) as bar:
        patch.setattr(drawing, "draw", draw_some)
        drawing.draw_all(experiment, experiment.states(), bar, executed=folder / "executed")
    return folder


def test_published_runs_name_no_path_of_the_machine_that_measured_them() -> None:
    for file in REFERENCE.rglob("run.json"):
        assert '": "/' not in file.read_text(), file


def test_published_runs_are_judged_by_the_level_of_their_own_protocol() -> None:
    published = read_protocol(places.reference_protocol_file())
    assert published
    assert experiment_in(REFERENCE).protocol.level_s == published.level_s
    assert tables.level_to_compare(CompareParameters()) == published.level_s
    assert tables.level_to_compare(CompareParameters(level_s=9.0)) == 9.0
    assert tables.level_to_compare(CompareParameters(run_dirs=(Path("mine"),))) == current_protocol().level_s


def test_what_is_simulated_beside_them_has_as_many_clients_for_its_replicas() -> None:
    published = read_protocol(places.reference_protocol_file())
    assert published
    clients = round(published.step_clients * twin_tables.CLOUD_CORES / published.cpu_cores)
    assert [stage.clients for stage in twin_tables.long_schedule().stages] == [2, clients]
    assert twin_tables.long_schedule().think_mean_s == published.think_mean_s


def test_every_published_figure_is_there_and_of_committed_code() -> None:
    for name, entry in read_manifest(places.figures()).items():
        for kind in ("pdf", "png"):
            assert (places.figures() / f"{name}.{kind}").is_file()
        assert entry["tree"]["clean"], f"{name} was drawn with code that is not committed"


def test_drawn_again_they_show_the_same_numbers(folder: Path) -> None:
    check(folder, DRAWN)


@pytest.mark.proof
def test_the_others_drawn_again_show_the_same_numbers(tmp_path: Path) -> None:
    others = {path.name for path in places.notebooks().glob("*.ipynb")} - set(DRAWN)
    check(redrawn(tmp_path, others), others)


@needs_browser
def test_the_comparison_is_answered_on_the_first_of_at_most_ten_screens(folder: Path, tmp_path: Path) -> None:
    """As a reader of the executed notebook sees it, at 1280 x 800; every picture has a text in its place."""
    (tmp_path / "figures").symlink_to(places.figures())
    (tmp_path / "notebooks").mkdir()
    html, _ = HTMLExporter().from_filename(str(folder / "executed/07_compare.ipynb"))
    page = tmp_path / "notebooks/07_compare.html"
    page.write_text(html)
    with browser(tmp_path / "profile", width=1280, height=800) as window:
        window.open(page.as_uri())
        assert window.run("return document.documentElement.scrollHeight") <= 10 * 800
        box = "return document.images[0].getBoundingClientRect()"
        assert window.run(f"{box}.height") > 200
        assert window.run(f"{box}.bottom") <= 800
        assert window.run("return [...document.images].every(image => image.naturalWidth && image.alt.length > 20)")


def test_what_is_simulated_or_rehearsed_says_so() -> None:
    entries = read_manifest(places.figures())
    ecs, eks = ({name for name in entries if name.startswith(f"{kind}_")} for kind in ("ecs", "eks"))
    assert ecs == {"ecs_trajectory", "ecs_periods", "ecs_launch"}
    assert eks == {"eks_timeline", "eks_parts", "eks_boot", "eks_resources"}
    for name in ecs:
        assert "SIMULATED, not measured" in entries[name]["note"]
        assert entries[name]["modes"] == ["simulated"]
    for name in eks:
        assert entries[name]["note"].startswith("Rehearsal")
        assert "SIMULATED" not in entries[name]["note"]


def check(folder: Path, notebooks: Collection[str]) -> None:
    """All figures that these notebooks have published were drawn, and each shows the runs, the simulations, the caption
    and the numbers that the published one does."""
    drawn, published = read_manifest(folder), read_manifest(places.figures())
    assert set(drawn) == {name for name, entry in published.items() if f"{entry['notebook']}.ipynb" in notebooks}
    for name, entry in drawn.items():
        for part in ("runs", "simulated", "note", "headline"):
            assert entry.get(part) == published[name].get(part), name
        old = numbers(published[name]["numbers"])
        assert numbers(entry["numbers"]) == pytest.approx(old, rel=1e-4, abs=1e-6), name


def numbers(entry: Any) -> dict[str, float]:
    """All numbers of a manifest's entry, by their place in it."""
    if isinstance(entry, dict):
        return {f"{key}.{place}": value for key, part in entry.items() for place, value in numbers(part).items()}
    return {"": float(entry)} if isinstance(entry, int | float) else {}


def test_the_documents_and_the_published_results_say_what_the_runs_say(folder: Path) -> None:
    drawn, published = (json.loads((each / RESULTS).read_text()) for each in (folder, places.figures()))
    for file, parts in (("README.md", summary(drawn)), ("docs/results.md", said(drawn))):
        document = places.checkout() / file
        assert filled(document, "results", to_markdown(parts)) == document.read_text()
    assert to_markdown(said(published)) == to_markdown(said(drawn))
