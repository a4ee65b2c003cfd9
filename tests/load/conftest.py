"""Fixtures of the load generator's tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from load_truth import CODES, TruthServer


@pytest.fixture
def truth() -> Iterator[TruthServer]:
    server = TruthServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """Three "photos" (their bodies are their names) and their labels; all show CODES."""
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [f"photo-{number:03d}.jpg" for number in range(3)]
    for name in names:
        (folder / name).write_bytes(name.encode())
    lines = [json.dumps({"file": name, "codes": CODES, "cpu_s": 0.027}) for name in names]
    (folder / "labels.jsonl").write_text("\n".join(lines) + "\n")
    return folder
