"""The records about the twin are reproducible: the validation by the published hold-out, and the paper's claims."""

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
