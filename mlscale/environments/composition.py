"""An application of several components: what has to hold of it, and what they share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mlscale.environments.base import App, Component, Problem, Scaling
from mlscale.host.cgroups import Budget

# What a component may be called: the name becomes part of addresses, labels and file names everywhere.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def composition_problems(app: App) -> list[Problem]:
    """What is wrong with how the components of ``app`` hang together."""
    where = f"app {app.name}"
    names = [component.name for component in app.components]
    if not names:
        return [Problem("it has no components", where, "give it one")]
    problems = [
        Problem(f"component {name!r} is there twice", where, "name each differently")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    problems += [
        Problem(f"a component is called {name!r}", where, "use letters, digits, hyphens and underscores, 40 at most")
        for name in names
        if not _NAME.fullmatch(name)
    ]
    if app.front not in names:
        return [*problems, Problem(f"no component {app.front!r}, which is its front", where, "name one that is there")]
    for component in app.components:
        problems += [
            Problem(f"it calls {name!r}, which is not there", f"component {component.name}", "add it, or don't call it")
            for name in component.calls
            if name not in names
        ]
    if problems:
        return problems
    try:
        reached = {component.name for component in callees_first(app)}
    except RecursionError:
        return [Problem("its components call each other in a circle", where, "let calls go one way")]
    return [
        Problem("nobody calls it", f"component {name}", "leave it out, or name it in another's calls")
        for name in names
        if name not in reached
    ]


def callees_first(app: App) -> tuple[Component, ...]:
    """The components that the front reaches, each behind those that it calls; the front last.

    Raises:
        RecursionError: they call each other in a circle.
        KeyError: one calls a component that is not there.
    """
    found = {component.name: component for component in app.components}
    ordered: dict[str, Component] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise RecursionError(name)
        for called in found[name].calls:
            visit(called, (*above, name))
        ordered.setdefault(name, found[name])

    visit(app.front, ())
    return tuple(ordered.values())


def shared_budget(scalings: Mapping[str, Scaling]) -> Budget | None:
    """The quota over the data plane and all components' replicas together: the sum of what the components may use,
    over the longest of their periods; None where only replicas have one.

    One component that asks for it (`Scaling.cpu_budget`) is enough: there is one data plane.
    """
    if all(scaling.shared_budget is None for scaling in scalings.values()):
        return None
    cores = sum(scaling.max_replicas * scaling.cpu_cores for scaling in scalings.values())
    return Budget(cores, max(scaling.cpu_period_s for scaling in scalings.values()))


def shared_component(app: App) -> str:
    """Whose the data plane and the control plane are: of an application's only component, else of none ("")."""
    return app.components[0].name if len(app.components) == 1 else ""
