"""Copies the runs behind the figures to data/reference, small enough to commit, so that anyone can redraw them.

Times and rates are rounded to binary fractions (2^-17 s, 2^-14 core), whose trailing zeros compress to half the size
of decimals. No sample is left out: a rate is a mean since its subject's previous sample, and a run's validity depends
on those samples. Figures are then redrawn from the copies, so that runs and figures in a commit match.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mlscale.atomic import write_text
from mlscale.reporting.document import Element, Text
from mlscale.reporting.render import to_markdown
from mlscale.runs import SCHEMAS, MlscaleError, Run, load_run, load_runs
from mlscale.runs.run import not_before_their_stage
from mlscale_experiment.attempts import IDENTITY, State, run_dirs
from mlscale_experiment.experiment import Experiment
from mlscale_paper import advice_published, places, ray_start
from mlscale_paper.advice_check import FILE
from mlscale_paper.experiment import experiment
from mlscale_paper.openings import write_openings
from mlscale_paper.protocol import published_protocol
from mlscale_paper.results import (
    NO_CLAIMS,
    RESULTS,
    cell_results,
    cells,
    claim_sentences,
    claims,
    filled,
    measured,
    said,
    summary,
    twin,
)
from mlscale_paper.twin_records import CLAIMS, RECORDS, VALIDATION
from mlscale_paper.variants import CELLS, JUDGED, REHEARSED, TWIN_CELLS
from mlscale_twin.profile_files import read_profile

PROFILES: Final = "profiles"
MOST_BYTES: Final = 40 * 2**20
# Of columns that end so, how many binary places are kept (8 microseconds, 0.00006 core), and how. Times are cut off, so
# that no sample moves into the next second: the host's use is judged by whole seconds.
_KEPT: Final[dict[str, tuple[int, Callable[[Any], Any]]]] = {"_s": (17, np.floor), "_cores": (14, np.round)}


def compact(run: Run, folder: Path) -> Path:
    """Write a smaller copy of a complete run into ``folder``."""
    folder.mkdir(parents=True)
    for name in SCHEMAS:
        frame = _rounded(getattr(run, name))
        if name == "requests":
            frame = not_before_their_stage(frame, run.info)
        table = pa.Table.from_pandas(frame, schema=SCHEMAS[name], preserve_index=False)
        floats = [column.name for column in table.schema if pa.types.is_floating(column.type)]
        pq.write_table(
            table,
            folder / f"{name}.parquet",
            compression="zstd",
            compression_level=19,
            use_dictionary=[column for column in table.column_names if column not in floats],
            use_byte_stream_split=floats,
        )
    write_text(folder / "run.json", run.info.model_dump_json(indent=1) + "\n")
    return folder


def publish_runs(runs: Sequence[Run], root: Path, reference: Path) -> Path:
    """Replace ``reference`` by compact copies of ``runs``, in the folders that they have below ``root``; what long
    computations wrote there stays.

    Raises:
        MlscaleError: no run, one that is not complete, more than `MOST_BYTES`, a place that can't be written.
    """
    if not runs:
        raise MlscaleError("no run was measured there", str(root), "let the experiment end")
    fresh = reference.with_name(reference.name + ".partial")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        for run in runs:
            compact(run, fresh / run.path.relative_to(root))
        size = sum(file.stat().st_size for file in fresh.rglob("*") if file.is_file())
        if size > MOST_BYTES:
            reason = f"{size / 2**20:.1f} MB, more than {MOST_BYTES / 2**20:g}"
            raise MlscaleError(reason, str(reference), "publish fewer cells")
        for record in RECORDS:
            if (reference / record).exists():
                shutil.copy2(reference / record, fresh / record)
        if reference.exists():
            shutil.rmtree(reference)
        fresh.rename(reference)
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(reference), "make room there") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return reference


def experiment_in(root: Path) -> Experiment:
    """The experiment whose runs lie below ``root``, limited to what was measured.

    Raises:
        MlscaleError: none was measured there, or under another protocol than the one that lies beside the runs, else
            the checkout's.
    """
    try:
        identity = json.loads((root / IDENTITY).read_text())
        seed, protocol = identity["seed"], identity["protocol"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlscaleError("no experiment was measured there", str(root), "name the --runs of one") from error
    cells = [cell for cell in CELLS if (root / cell).is_dir()]
    if not cells:
        raise MlscaleError("no cell was measured there", str(root), "name the --runs of an experiment")
    numbers = [folder.name[6:] for cell in ("core", "open") for folder in (root / cell).glob("block-*")]
    blocks = [int(number) for number in numbers if number.isdecimal()]
    file = _protocol_of(root)
    block_count = max(blocks, default=1)
    names = [*identity.get("environments", ()), *(REHEARSED if "rehearsal" in cells else ())]
    # A hold-out alone is bound to no environments: it is part of the plan over all of them.
    result = experiment(names or JUDGED, cells, block_count, root, seed=seed, protocol_file=file)
    if protocol != result.protocol.sha256():
        raise MlscaleError("measured under another protocol", str(root), f"restore {file}")
    return result


def publish(runs: Path) -> str:
    """Copy an experiment's runs into data/reference, draw the figures from there, and fill the blocks of results in
    README and docs/results.md; returns what was done. Of data/reference itself nothing is copied: it is drawn again as
    it lies there.

    Raises:
        MlscaleError: no experiment below ``runs``, one that is not whole, or no block in one of the documents.
    """
    from mlscale.progress import Bar
    from mlscale_paper.drawing import draw_all, drawing_s

    root, reference = runs.resolve(), places.reference().resolve()
    measured = experiment_in(root)
    states = measured.states()
    missing = [state.planned.folder for state in _required(states) if not state.done]
    if missing:
        raise MlscaleError(f"{len(missing)} runs are missing, {missing[0]} first", str(root), "let the experiment end")
    if root != reference:
        protocol = _protocol_of(root).read_text()
        publish_runs([load_run(folder) for folder in run_dirs(states)], root, reference)
        write_text(reference / IDENTITY, (root / IDENTITY).read_text())
        write_text(places.reference_protocol_file(), protocol)
    published = experiment_in(reference)
    with TemporaryDirectory() as scratch, Bar(drawing_s(published)) as bar:
        executed = (Path(scratch) if root == reference else root) / "executed"
        draw_all(published, published.states(), bar, executed=executed)
    _fill(places.checkout(), published.figures)
    size = sum(part.stat().st_size for part in reference.rglob("*") if part.is_file())
    return f"{reference}: {len(_required(states))} places, {size / 2**20:.1f} MB; {measured.figures} drawn from them"


def publish_advice(root: Path, profiles: Sequence[Path], into: Path | None = None) -> Path:
    """Replace data/advice (or ``into``) by compact copies of the complete runs below ``root``, with the plan, the
    ``profiles`` that it was made with, and the protocol beside ``root``.

    Raises:
        MlscaleError: a profile is not one of those, or the folder can't be written.
    """
    check, into = advice_published.read(root), into or advice_published.folder()
    given = {file.name: read_profile(file).sha256 for file in profiles}
    if given != check.chosen["profiles"]:
        what = f"the advice was made with other profiles ({', '.join(check.chosen['profiles']) or 'the shipped ones'})"
        raise MlscaleError(what, "--profile", "name the same files as before")
    protocol = root.parent / places.protocol_file().name
    beside = [root / FILE, root / IDENTITY, *([protocol] if protocol.exists() else [])]
    # Read before the folder is replaced: the profiles may be those that lie in it.
    texts = {file.name: file.read_text() for file in beside}
    texts |= {f"{PROFILES}/{file.name}": file.read_text() for file in profiles}
    publish_runs(check.runs, root, into)
    (into / PROFILES).mkdir()
    for name, text in texts.items():
        write_text(into / name, text)
    return into


def _fill(checkout: Path, figures: Path) -> None:
    """Fill the documents' blocks of results: the comparison where one was drawn, what stands beside it, the live check
    of the advice, and what slowed Ray Serve's starts; then the notebooks' openings."""
    results = "docs/results.md"
    blocks = {block: to_markdown(parts) for block, parts in beside_comparison().items()}
    blocks |= {(file, "ray-start"): text for file, text in ray_start.documents().items()}
    blocks["docs/strategy.md", "advice"] = to_markdown(advice_published.document())
    if (figures / RESULTS).exists():
        comparison = json.loads((figures / RESULTS).read_text())
        blocks["README.md", "results"] = to_markdown(summary(comparison))
        blocks[results, "results"] = to_markdown(said(comparison))
    for (file, name), text in blocks.items():
        write_text(checkout / file, filled(checkout / file, name, text))
    if (figures / RESULTS).exists():
        write_openings()


def beside_comparison() -> dict[tuple[str, str], list[Element]]:
    """The blocks beside the comparison, by document and name: what was measured, the cells other than core, the twin's
    validation and its verdicts on the claims."""
    runs, level_s = load_runs(places.reference()), published_protocol().level_s
    shipped = [run for run in runs if run.info.cell == "shipped"]
    judged = published_record(CLAIMS)
    return {
        ("README.md", "measured"): measured(runs),
        ("docs/results.md", "cells"): cells(runs),
        ("docs/results.md", "shipped"): said(cell_results(shipped, level_s)) if shipped else [Text(["Not measured."])],
        ("docs/results.md", "twin"): twin(published_record(VALIDATION)),
        ("docs/results.md", "claims"): claims(judged),
        ("README.md", "claims"): [Text(claim_sentences(judged), "list")] if judged else [Text([NO_CLAIMS])],
    }


def published_record(name: str) -> dict[str, Any] | None:
    """A record as it is published, whatever code it is of; None where there is none."""
    file = places.reference() / name
    return dict(json.loads(file.read_text())) if file.exists() else None


def _required(states: Sequence[State]) -> list[State]:
    """States whose runs are required; in the twin's cells, an environment without any run counts as left out."""
    with_runs = {(state.planned.cell, state.planned.environment) for state in states if state.runs}
    return [
        state
        for state in states
        if state.planned.cell not in TWIN_CELLS or (state.planned.cell, state.planned.environment) in with_runs
    ]


def _protocol_of(root: Path) -> Path:
    """The protocol under which the runs below ``root`` were measured: the one beside them, else the checkout's."""
    beside = root / places.protocol_file().name
    return beside if beside.exists() else places.protocol_file()


def _rounded(frame: pd.DataFrame) -> pd.DataFrame:
    """Times and rates, rounded to binary fractions."""
    rules = {column: rule for column in frame for end, rule in _KEPT.items() if str(column).endswith(end)}
    return frame.assign(**{column: cut(frame[column] * 2**bits) / 2**bits for column, (bits, cut) in rules.items()})
