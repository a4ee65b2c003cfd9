"""What identifies a run within an experiment, as stored in run.json."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Labels(BaseModel):
    """How the experiment labels one run (METHOD §6). ``attempt`` 1 and 2 repeat an invalid run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    experiment: str | None = None
    cell: str | None = None
    block: int | None = None
    position: int | None = None
    predecessor: str | None = None
    aa_label: Literal["A", "B"] | None = None
    attempt: int = 0
