"""Programs of the distribution: the machine's own, else from its packages, which are unpacked but not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.runs import MlscaleError
from onenode.cache import Cache, die_with_parent
from onenode.progress import Reporter

_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_PLUGIN_PLACES: Final = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_FILTER: Final = ("libip4tc2", "libip6tc2", "libxtables12", "libnetfilter-conntrack3", "libnfnetlink0", "libnftnl11")
_RECIPE: Final = "1"


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the distribution. ``programs``: what is needed of it; ``libraries``: packages that it needs."""

    name: str
    programs: tuple[str, ...]
    libraries: tuple[str, ...] = ()


PACKAGES: Final = (
    Package("etcd-server", ("etcd",)),
    Package("containerd", ("containerd", "ctr", "containerd-shim-runc-v2")),
    Package("runc", ("runc",), ("libseccomp2",)),
    Package("iptables", ("iptables", "iptables-save", "iptables-restore"), (*_FILTER, "libmnl0")),
    Package("conntrack", ("conntrack",), ("libmnl0", "libnfnetlink0", "libnetfilter-conntrack3")),
)
PLUGINS: Final = Package("containernetworking-plugins", ("ptp", "host-local", "portmap", "loopback"))


@dataclass(frozen=True, slots=True)
class InstalledPrograms:
    """``paths``: program -> file; ``plugins``: folder of the CNI plugins; ``libraries``: for LD_LIBRARY_PATH;
    ``extensions``: folder of iptables' extensions, None: the machine's."""

    paths: Mapping[str, Path]
    plugins: Path
    libraries: tuple[Path, ...] = ()
    extensions: Path | None = None


def missing_packages() -> tuple[Package, ...]:
    """Packages of which this machine lacks a program."""
    missing = [one for one in PACKAGES if any(_which(program) is None for program in one.programs)]
    return (*missing, *(() if _own_plugins() else (PLUGINS,)))


def packages_to_fetch(cache: Cache) -> tuple[Package, ...]:
    """The missing packages that are not unpacked in the cache either."""
    missing = missing_packages()
    return () if not missing or packages_folder(cache, missing).exists() else missing


def apt_is_here() -> bool:
    """Whether packages can be fetched and unpacked."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def find_programs(cache: Cache, reporter: Reporter) -> InstalledPrograms:
    """All programs; missing ones are fetched. Call with the cache locked.

    Raises:
        MlscaleError: a program is missing and there is no apt, or fetching failed.
    """
    missing = missing_packages()
    if not missing:
        paths = {program: _which(program) for package in PACKAGES for program in package.programs}
        return InstalledPrograms({name: path for name, path in paths.items() if path}, _own_plugins() or Path())
    folder = packages_folder(cache, missing)
    if not folder.exists():
        _fetch(cache, folder, missing, reporter)
    return _found_in(folder, missing)


def packages_folder(cache: Cache, missing: Sequence[Package]) -> Path:
    """Folder to unpack them into, whether it exists or not."""
    return cache.folder("debian", _RECIPE, os.uname().machine, _distribution(), *sorted(one.name for one in missing))


def _found_in(folder: Path, missing: Sequence[Package]) -> InstalledPrograms:
    unpacked = [folder / place for place in ("names", "usr/sbin", "usr/bin", "sbin", "bin")]
    fetched = {program for package in missing for program in package.programs}
    paths: dict[str, Path] = {}
    for package in PACKAGES:
        for program in package.programs:
            candidates = [place / program for place in unpacked] if program in fetched else []
            path = next((one for one in candidates if one.exists()), None) or _which(program)
            if path is None:
                raise MlscaleError(
                    f"{program} is not in the package", package.name, f"install {package.name}, then try again"
                )
            paths[program] = path
    libraries = tuple(
        sorted({file.parent for place in ("usr/lib", "lib") for file in (folder / place).glob("*/*.so.*")})
    )
    extensions = next(iter(sorted((folder / "usr/lib").glob("*/xtables"))), None)
    plugins = folder / "usr/lib/cni" if PLUGINS in missing else _own_plugins()
    return InstalledPrograms(paths, plugins or Path(), libraries, extensions)


def _fetch(cache: Cache, folder: Path, missing: Sequence[Package], reporter: Reporter) -> None:
    names = sorted({name for package in missing for name in (package.name, *package.libraries)})
    if not apt_is_here():
        programs = ", ".join(program for package in missing for program in package.programs)
        raise MlscaleError(f"missing: {programs}", "this machine, which has no apt-get", "install them")
    reporter.say(f"fetching {len(names)} packages of the distribution (unpacked, not installed)")
    with cache.creating(folder) as partial:
        archives = partial / "archives"
        archives.mkdir()
        _download(names, archives)
        for archive in sorted(archives.glob("*.deb")):
            _apt(["dpkg-deb", "--extract", str(archive), str(partial)], partial)
        shutil.rmtree(archives)
        shutil.rmtree(partial / "usr/share", ignore_errors=True)
        _name_filters(partial)


def _download(names: Sequence[str], archives: Path) -> None:
    """Download packages using the machine's package lists, or fresh ones if those are missing or old."""
    download = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *names]
    try:
        _apt(download, archives)
    except MlscaleError:
        lists = archives / "lists"
        (lists / "partial").mkdir(parents=True)
        options = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={lists}"]
        _apt(["apt-get", "-qq", *options, "update"], archives)
        _apt([download[0], *options, *download[1:]], archives)
        shutil.rmtree(lists)


def _name_filters(folder: Path) -> None:
    """Link iptables' plain names, as installing would: over nf_tables (names) and over x_tables (old-names)."""
    for place, kind in (("names", "nft"), ("old-names", "legacy")):
        (folder / place).mkdir()
        for name in ("iptables", "ip6tables"):
            for ending in ("", "-save", "-restore"):
                (folder / place / f"{name}{ending}").symlink_to(f"../usr/sbin/xtables-{kind}-multi")


def _apt(argv: Sequence[str], folder: Path) -> None:
    result = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )  # fmt: skip
    if result.returncode:
        raise MlscaleError(
            result.stderr.strip()[-400:] or "it failed", " ".join(argv[:2]), "see its message, try again"
        )


def _which(program: str) -> Path | None:
    path = shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:{_SBIN}")
    return Path(path) if path else None


def _own_plugins() -> Path | None:
    return next((Path(p) for p in _PLUGIN_PLACES if all((Path(p) / name).exists() for name in PLUGINS.programs)), None)


def _distribution() -> str:
    try:
        return Path("/etc/os-release").read_text()
    except OSError:
        return ""
