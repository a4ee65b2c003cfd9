"""Sandboxes for the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlscale.host.ledger import Ledger
from mlscale.host.sandbox import Sandbox, open_sandbox


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create("test", tmp_path / "ledger") as made:
        yield made
    assert made.open_entries == ()


@pytest.fixture
def box(ledger: Ledger) -> Iterator[Sandbox]:
    """A sandbox with namespaces and cgroups; skips where the host does not allow them."""
    with open_sandbox("test", ledger, grace_s=0.5) as made:
        if not (made.isolated and made.limited):
            pytest.skip(f"no whole sandbox here: {made.facts['reasons']}")
        yield made
