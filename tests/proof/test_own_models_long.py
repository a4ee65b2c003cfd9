"""The worked example whose local frameworks `make test` leaves out: `make proof`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

from test_own_models import check_on_two_frameworks, example  # noqa: F401 (a fixture)


@pytest.mark.parametrize("example", ["letters"], indirect=True)
def test_images_on_two_frameworks_compared_and_reported(example: Path) -> None:  # noqa: F811
    check_on_two_frameworks(example)
