"""Where a run stands in an experiment; goes into run.json as it is."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Labels(BaseModel):
    """The experiment's own words about one run (METHOD §6). ``attempt`` 1 and 2 repeat an invalid run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str | None = None
    cell: str | None = None
    block: int | None = None
    position: int | None = None
    predecessor: str | None = None
    aa_label: Literal["A", "B"] | None = None
    attempt: int = 0
