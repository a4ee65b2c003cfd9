"""What Kubernetes objects say of themselves: pure, and without an import that a small program would have to pay for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def condition(found: Mapping[str, Any] | None, kind: str) -> bool:
    """Whether ``found`` is there and its condition ``kind`` is True."""
    conditions = ((found or {}).get("status") or {}).get("conditions") or []  # null, while nobody has said any
    return any(one.get("type") == kind and one.get("status") == "True" for one in conditions)
