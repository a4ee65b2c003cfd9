"""Our autoscaler and Kubernetes' own, asked the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpa_oracle import Oracle
from hpa_sequences import sequences
from hpa_situations import answer, situations

CONDITIONS = {
    "AbleToScale": "able_to_scale",
    "ScalingActive": "scaling_active",
    "ScalingLimited": "scaling_limited",
}


def differing_situations(oracle: Oracle, count: int, seed: int, work: Path) -> list[tuple[Any, Any, Any]]:
    """(question, ours, theirs) where the answers differ."""
    questions = list(situations(count, seed))
    theirs = oracle.ask("TestCalculator", questions, work)
    assert len(theirs) == count
    ours = [answer(question) for question in questions]
    return [
        (question, one, other)
        for question, one, other in zip(questions, ours, theirs, strict=True)
        if not _agree(one, other)
    ]


def _agree(ours: Any, theirs: Any) -> bool:
    if ours["error"] or theirs["Error"]:
        return bool(ours["error"]) == bool(theirs["Error"])
    return (ours["replicas"], ours["usage"]) == (theirs["Replicas"], theirs["Usage"])


def differing_looks(oracle: Oracle, count: int, seed: int, work: Path) -> tuple[int, list[str]]:
    """How many looks there were in ``count`` sequences, and in words those that differ."""
    made = list(sequences(count, seed))
    theirs = oracle.ask("TestController", [question for question, _ in made], work)
    looks, found = 0, []
    for place, ((question, decisions), seen) in enumerate(zip(made, theirs, strict=True)):
        assert len(seen) == len(decisions)
        for number, (ours, look) in enumerate(zip(decisions, seen, strict=True), 1):
            looks += 1
            said = {name: look["Conditions"].get(name, ["", ""])[1] for name in CONDITIONS}
            mine = {name: getattr(ours, field) for name, field in CONDITIONS.items()}
            differs = {name: (mine[name], said[name]) for name in CONDITIONS if mine[name] not in ("", said[name])}
            if ours.desired != look["To"] or differs or look["At"] != question["resync"] * number:
                found.append(
                    f"sequence {place}, look {number} at {look['At']} s: from {look['From']} ours goes to "
                    f"{ours.desired}, theirs to {look['To']}; {differs}; {ours.reason}"
                )
                break  # what follows has another past
    return looks, found
