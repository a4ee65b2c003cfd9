"""The application as Ray Serve's REST API builds it on the cluster: ``import_path`` of its configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application


def build(arguments: Mapping[str, Any]) -> Application:
    """``arguments``: {"components": [{"name", "entry", "calls": [names], "options": of ``serve.deployment``}]}, each
    component after those that it calls and the front last."""
    return bind(arguments["components"], named_by_ray=True)


def bind(components: Sequence[Mapping[str, Any]], *, named_by_ray: bool) -> Application:
    """The front's application, with every component's replicas (see `build`), which are named in answers by Ray, or by
    their process."""
    from ray import serve

    from mlscale.environments.rayserve.deployments import Front, Model

    bound: dict[str, Any] = {}
    for part in components:
        kind = serve.deployment(Front if part is components[-1] else Model).options(**part["options"])
        handles = {name: bound[name] for name in part["calls"]}
        bound[part["name"]] = kind.bind(part["name"], part["entry"], named_by_ray, **handles)
    front: Application = bound[components[-1]["name"]]
    return front
