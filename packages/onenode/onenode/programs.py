"""All programs of a cluster, built or unpacked if missing: minutes the first time, milliseconds afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from onenode.cache import Cache
from onenode.gobuild import build_modules, module_folder
from onenode.layout import PATH
from onenode.packages import InstalledPrograms, find_programs, packages_to_fetch
from onenode.parts import Programs
from onenode.progress import Reporter

_MODULES: Final = ("pause", "metrics-server", "kubernetes", "keda")
# Needed only by a cluster with machines, and by one that scales to zero.
_MACHINES: Final = ("karpenter",)
_ZERO: Final = ("http-add-on", "coredns")


@dataclass(frozen=True, slots=True)
class ClusterPrograms:
    """``programs`` of the node; ``pause``: the program of the pause image; ``definitions``: files with KEDA's
    CustomResourceDefinitions and role, and with those of its HTTP add-on and of Karpenter where they run."""

    programs: Programs
    pause: Path
    definitions: tuple[Path, ...]


def sources() -> Path:
    """Folder of the Go modules that pin what is built."""
    return Path(__file__).resolve().parent / "build"


def ensure_programs(cache: Cache, reporter: Reporter, *, machines: bool, zero: bool) -> ClusterPrograms:
    """Build and unpack what is missing.

    Args:
        machines: whether machines join and leave.
        zero: whether it scales to zero.

    Raises:
        MlscaleError: something can't be fetched or built; the next call resumes.
    """
    modules = _modules(machines, zero)
    folders = [module_folder(cache, sources() / name) for name in modules]
    with cache.locked():
        installed = find_programs(cache, reporter)
        build_modules(cache, [sources() / name for name in modules], reporter)
    files = [file for folder in folders for file in sorted(folder.iterdir())]
    built = {file.name: file for file in files if file.suffix != ".yaml"}
    programs = Programs({**installed.paths, **built}, installed.plugins, _environment(installed))
    return ClusterPrograms(programs, built["pause"], tuple(file for file in files if file.suffix == ".yaml"))


def _modules(machines: bool, zero: bool) -> tuple[str, ...]:
    return (*_MODULES, *(_MACHINES if machines else ()), *(_ZERO if zero else ()))


def missing_programs(cache: Cache) -> tuple[str, ...]:
    """What `ensure_programs` would build or fetch for a cluster without extras; empty if nothing is missing."""
    modules = [name for name in _MODULES if not module_folder(cache, sources() / name).exists()]
    packages = packages_to_fetch(cache)
    return (*modules, *((f"{len(packages)} packages",) if packages else ()))


def _environment(installed: InstalledPrograms) -> dict[str, str]:
    folders = dict.fromkeys(str(path.parent) for path in installed.paths.values())
    environment = {"PATH": ":".join([*folders, PATH])}
    if installed.libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, installed.libraries))
    if installed.extensions is not None:
        environment["XTABLES_LIBDIR"] = str(installed.extensions)
    return environment
