from __future__ import annotations

import pytest

from experiment_runs import six_blocks
from mlscale.runs import Run


@pytest.fixture(scope="session")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    return six_blocks(tmp_path_factory.getbasetemp())
