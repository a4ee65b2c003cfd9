"""The records about the twin are reproducible: the validation by the published hold-out, and the paper's claims. So are
the published figures of the notebooks that simulate for long."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlscale.notebook.manifest import read_manifest
from mlscale_paper import cli, drawing, places
from mlscale_paper.publish import experiment_in
from mlscale_paper.twin_records import CLAIMS, VALIDATION, record_hash
from redrawn import SIMULATING, check, figures_of


@pytest.mark.parametrize(("name", "command"), [(VALIDATION, cli.validate), (CLAIMS, cli.claims)])
def test_a_record_is_reproduced(
    name: str, command: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = places.reference() / name
    if not file.exists():
        pytest.skip(f"no {name} is published")
    recorded = json.loads(file.read_text())
    assert recorded["code_sha256"] == record_hash(name), "the record is of another version of the code: write it again"
    written: dict[str, Any] = {}

    def keep(_: str, record: Mapping[str, Any]) -> Path:
        written.update(json.loads(json.dumps(record)))
        return tmp_path

    monkeypatch.setattr("mlscale_paper.twin_records.write_record", keep)
    command(recorded["draws"])
    del recorded["code_sha256"]
    pairs = zip(_leaves(recorded), _leaves(written), strict=True)
    assert [(path, old, new) for (path, old), (_, new) in pairs if not _same(old, new)][:10] == []


@pytest.mark.parametrize("notebook", SIMULATING)
def test_published_figures_are_drawn_again(notebook: str, tmp_path: Path) -> None:
    experiment = replace(experiment_in(places.reference()), figures=tmp_path)
    drawing.draw(experiment, tmp_path, places.notebooks() / notebook, (), {})
    redrawn = read_manifest(tmp_path)
    assert set(redrawn) == figures_of(notebook)
    check(redrawn)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(child, f"{path}/{key}")
    else:
        yield path, value


def _same(a: Any, b: Any) -> bool:
    """Within 1e-9, since other machines round differently."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
