"""All programs of a cluster, built or unpacked where they are not yet: minutes the first time, milliseconds after."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onenode.cache import Cache
from onenode.gobuild import build_modules, module_folder
from onenode.layout import PATH
from onenode.packages import Found, find_programs, packages_to_fetch
from onenode.parts import Programs
from onenode.progress import Reporter

_MODULES: Final = ("pause", "metrics-server", "kubernetes")
# The module that only a cluster with machines needs.
_MACHINES: Final = "karpenter"


@dataclass(frozen=True, slots=True)
class Everything:
    """``programs`` of the node; ``pause``: what goes into that image; ``definitions``: files of the kinds of objects
    that Karpenter adds to the API, where machines come and go."""

    programs: Programs
    pause: Path
    definitions: tuple[Path, ...] = ()


def sources() -> Path:
    """Go modules that pin what is built."""
    return Path(__file__).resolve().parent / "build"


def ensure_programs(cache: Cache, reporter: Reporter, machines: bool) -> Everything:
    """Build and unpack what is missing.

    Args:
        machines: whether machines are to come and go.

    Raises:
        MlscaleError: something can't be fetched or built; what was done stays, the next call goes on there.
    """
    modules = _modules(machines)
    folders = [module_folder(cache, sources() / name) for name in modules]
    with cache.locked():
        found = find_programs(cache, reporter)
        build_modules(cache, [sources() / name for name in modules], reporter)
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    built = {file.name: file for file in files if file.suffix != ".yaml"}
    programs = Programs({**found.paths, **built}, found.plugins, _environment(found))
    return Everything(programs, built["pause"], tuple(file for file in files if file.suffix == ".yaml"))


def _modules(machines: bool) -> tuple[str, ...]:
    return (*_MODULES, _MACHINES) if machines else _MODULES


def lacking(cache: Cache, machines: bool = False) -> tuple[str, ...]:
    """What `ensure_programs` would have to make, by name; empty where all is there."""
    modules = [name for name in _modules(machines) if not module_folder(cache, sources() / name).exists()]
    wanted = packages_to_fetch(cache)
    return (*modules, *((f"{len(wanted)} packages",) if wanted else ()))


def _environment(found: Found) -> dict[str, str]:
    folders = dict.fromkeys(str(path.parent) for path in found.paths.values())
    environment = {"PATH": ":".join([*folders, PATH])}
    if found.libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, found.libraries))
    if found.extensions is not None:
        environment["XTABLES_LIBDIR"] = str(found.extensions)
    return environment
