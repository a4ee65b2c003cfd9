"""Lets the twin's tests run without the packages that depend on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlscale.importing import offered

STAND_IN = Path(__file__).parent / "stand_in"


@pytest.fixture(autouse=True, scope="module")
def _stand_in_defaults() -> Iterator[None]:
    """The entry point of `mlscale.defaults` that comes first here and in child processes (Ray's workers, the command
    line); an installed one would take the checkout's protocol."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(STAND_IN)
        patch.setenv("PYTHONPATH", str(STAND_IN), prepend=os.pathsep)
        offered.cache_clear()
        yield
    offered.cache_clear()  # tests of other packages may follow in this process
