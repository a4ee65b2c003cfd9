"""01_application runs on a few photos and refuses parameters that it does not have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from mlscale.runs import MlscaleError
from mlscale_experiment.notebook_execution import execute
from mlscale_paper import places

NOTEBOOK = "01_application.ipynb"


def test_every_figure_is_drawn(tmp_path: Path) -> None:
    executed = tmp_path / NOTEBOOK
    execute(places.notebooks() / NOTEBOOK, executed, {"photos_per_level": 4, "load_photos": 1}, timeout_s=300)
    outputs: list[dict[str, Any]] = [
        output for cell in nbformat.read(executed, as_version=4).cells for output in cell.get("outputs", ())
    ]
    images = [html for output in outputs if "<img" in (html := str(output.get("data", {}).get("text/html")))]
    assert len(images) == 8
    assert not [html for html in images if 'alt=""' in html]
    assert not [output for output in outputs if output.get("name") == "stderr"]


@pytest.mark.parametrize("given", [{"photo_per_level": 4}, {"photos_per_level": "many"}])
def test_a_parameter_that_is_wrong_is_named(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(MlscaleError, match=next(iter(given))):
        execute(places.notebooks() / NOTEBOOK, tmp_path / NOTEBOOK, given, timeout_s=300)
