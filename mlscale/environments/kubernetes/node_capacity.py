"""Where a run's pods are placed: on existing nodes, or on machines added for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlscale.environments.kubernetes.client import Query


@dataclass(frozen=True)
class Room:
    """By default, the existing nodes.

    ``selector``: labels of the nodes that the pods may run on; ``follows``: lists to watch besides the namespace,
    source -> path and query; ``serving``: called once the application serves; ``machines_scale``: machines are added
    for pods that find no room; ``buffer_replicas``: replicas to reserve room for; ``facts``: for run.json.
    """

    selector: Mapping[str, str] = field(default_factory=dict)
    follows: Mapping[str, tuple[str, Query]] = field(default_factory=dict)
    serving: Callable[[], None] = lambda: None
    machines_scale: bool = False
    buffer_replicas: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
