"""Conditions in the status of Kubernetes objects. Imports nothing: the one-node cluster's small processes use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def condition(thing: Mapping[str, Any] | None, kind: str) -> Mapping[str, Any]:
    """The condition ``kind`` of an object's status; empty where there is none."""
    conditions = ((thing or {}).get("status") or {}).get("conditions") or ()  # null until a controller sets one
    return next((each for each in conditions if each.get("type") == kind), {})


def is_true(thing: Mapping[str, Any] | None, kind: str) -> bool:
    """Whether the object exists and its condition ``kind`` is True."""
    return condition(thing, kind).get("status") == "True"
