"""What is on record about the twin comes out again: the validation by the published hold-out, the paper's claims."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlscale_paper import cli, places
from mlscale_paper.twin_records import CLAIMS, VALIDATION, record_hash


@pytest.mark.parametrize(("name", "command"), [(VALIDATION, cli.validate), (CLAIMS, cli.claims)])
def test_a_record_comes_out_again(
    name: str, command: Callable[[int], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = places.reference() / name
    if not file.exists():
        pytest.skip(f"no {name} is published")
    recorded = json.loads(file.read_text())
    assert recorded["code_sha256"] == record_hash(name), "it speaks of another version of the code: write it again"
    written: dict[str, Any] = {}

    def keep(_: str, found: Mapping[str, Any]) -> Path:
        written.update(json.loads(json.dumps(found)))
        return tmp_path

    monkeypatch.setattr("mlscale_paper.twin_records.write_record", keep)
    command(recorded["draws"])
    del recorded["code_sha256"]
    pairs = zip(_leaves(recorded), _leaves(written), strict=True)
    assert not [(where, old, new) for (where, old), (_, new) in pairs if not _same(old, new)]


def _leaves(found: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _leaves(value, f"{where}/{key}")
    elif isinstance(found, list):
        for place, value in enumerate(found):
            yield from _leaves(value, f"{where}/{place}")
    else:
        yield where, found


def _same(a: Any, b: Any) -> bool:
    """The same bytes on one machine, within 1e-9 elsewhere."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)
