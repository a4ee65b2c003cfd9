"""Where a run's pods find room: on whatever nodes there are, or on machines made for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlscale.environments.kubernetes.client import Query


@dataclass(frozen=True)
class Room:
    """Nodes that were there before, by default.

    ``selector``: labels of the nodes that the pods may go to; ``follows``: what is to be watched beside the namespace,
    source -> path and query; ``serving``: called once the application serves; ``machines_scale``: machines come for
    pods that find no room; ``buffer_replicas``: room kept free; ``facts``: for run.json.
    """

    selector: Mapping[str, str] = field(default_factory=dict)
    follows: Mapping[str, tuple[str, Query]] = field(default_factory=dict)
    serving: Callable[[], None] = lambda: None
    machines_scale: bool = False
    buffer_replicas: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
