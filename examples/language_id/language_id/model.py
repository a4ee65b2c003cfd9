"""Which language is a text in? Naive Bayes over groups of three characters."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

WEIGHTS = Path(__file__).with_name("weights.npz")


def groups(text: str) -> list[str]:
    """Every three characters in a row."""
    padded = f" {text.lower()} "
    return [padded[at : at + 3] for at in range(len(padded) - 2)]


def make() -> Callable[[bytes], dict[str, Any]]:
    """Load what prepare.py trained; return the function that answers a request."""
    with np.load(WEIGHTS) as saved:
        languages, logs = saved["languages"].tolist(), saved["logs"]
        row_of = {group: row for row, group in enumerate(saved["groups"].tolist())}
    unknown = logs.min(axis=0)

    def answer(body: bytes) -> dict[str, Any]:
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise ValueError("the body is not UTF-8") from error
        if not text.strip():
            raise ValueError("the text is empty")
        score = np.zeros(len(languages))
        for group in groups(text):
            row = row_of.get(group)
            score += unknown if row is None else logs[row]
        return {"language": languages[int(score.argmax())]}

    return answer
