"""Applications of several components: checks, and what the components share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import ClassVar, Final, Protocol

from mlscale.environments.base import App, Component, Problem, Scaling
from mlscale.host.cgroups import Budget
from mlscale.runs import Mode

# A component's name becomes part of addresses, labels and file names.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


class Offer(Protocol):
    """The parts of an environment that decide whether an application can run on it."""

    name: ClassVar[str]
    modes: ClassVar[frozenset[Mode]]
    settings: ClassVar[type[Scaling]]


def app_problems(
    environment: Offer, app: App, scalings: Mapping[str, Scaling], mode: Mode, *, here: bool = True
) -> list[Problem]:
    """What keeps ``environment`` from running ``app`` as it is described: the mode, the composition, a component's
    weights, entry or settings. ``here``: components are loaded from this host's files, not from an image."""
    problems = composition_problems(app)
    if mode not in environment.modes:
        modes = ", ".join(sorted(environment.modes))
        problems.append(Problem(f"unsupported mode {mode!r}", environment.name, f"choose one of: {modes}"))
    for component in app.components:
        problems += _component_problems(component, scalings.get(component.name), environment.settings, here)
    return problems


def _component_problems(
    component: Component, settings: Scaling | None, expected: type[Scaling], here: bool
) -> list[Problem]:
    where = f"component {component.name}"
    problems = [
        Problem("weights are missing or empty", f"{where}: {file}", "restore the file, or run mlscale train")
        for file in component.weights
        if here and (not file.is_file() or file.stat().st_size == 0)
    ]
    module, _, factory = component.entry.partition(":")
    if not module or not factory:
        problems.append(
            Problem(f"entry {component.entry!r} is not package.module:factory", where, "write it in that form")
        )
    elif here and not _importable(module):
        problems.append(Problem(f"no module {module!r}", where, "install it, or put its folder on PYTHONPATH"))
    if settings is None:
        problems.append(Problem("no scaling settings", where, "pass scalings[component name]"))
    elif not isinstance(settings, expected):
        problems.append(Problem(f"wrong settings: {type(settings).__name__}", where, f"pass {expected.__name__}"))
    return problems


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def composition_problems(app: App) -> list[Problem]:
    """What is wrong with the components of ``app`` and their calls."""
    where = f"app {app.name}"
    names = [component.name for component in app.components]
    if not names:
        return [Problem("it has no components", where, "add one")]
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
    """The components that the front reaches, each after those that it calls; the front last.

    Raises:
        RecursionError: they call each other in a circle.
        KeyError: one calls an unknown component.
    """
    by_name = {component.name: component for component in app.components}
    ordered: dict[str, Component] = {}

    def visit(name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise RecursionError(name)
        for called in by_name[name].calls:
            visit(called, (*above, name))
        ordered.setdefault(name, by_name[name])

    visit(app.front, ())
    return tuple(ordered.values())


def shared_budget(scalings: Mapping[str, Scaling]) -> Budget | None:
    """The joint quota of the data plane and all replicas: the sum of the components' quotas, with the longest of their
    periods; None if only replicas have a quota.

    It applies if any component asks for it (`Scaling.cpu_budget`), since there is one data plane.
    """
    if all(scaling.shared_budget is None for scaling in scalings.values()):
        return None
    cores = sum(scaling.max_replicas * scaling.cpu_cores for scaling in scalings.values())
    return Budget(cores, max(scaling.cpu_period_s for scaling in scalings.values()))


def shared_component(app: App) -> str:
    """The component that data plane and control plane are counted to: the only one, else none ("")."""
    return app.components[0].name if len(app.components) == 1 else ""
