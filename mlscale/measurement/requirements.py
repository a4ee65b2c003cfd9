"""Installs packages that a user's model needs and mlscale does not have into a folder of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

from mlscale.errors import MlscaleError
from mlscale.host.state import cache_home

_INSTALL_AT_MOST_S = 1800


def use_requirements(file: Path | str) -> Path:
    """Install the packages that ``file`` (pip's format) names into a folder, once, and make them importable here and in
    the processes that this one starts: replicas of torchserve and rayserve, pods of our own cluster.

    What mlscale has installed keeps its version, so that both can share a process. mlscale's environment is not
    changed. On another cluster the packages belong into the application's image (containers/app/requirements.txt).

    Returns:
        The folder, in the cache.

    Raises:
        MlscaleError: the file can't be read, uv is missing, or the packages can't be installed beside mlscale's.
    """
    path = Path(file)
    try:
        wanted = path.read_bytes()
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(path), "name a file in pip's format") from error
    home = cache_home() / "requirements"
    own = distributions(path=[entry for entry in sys.path if not Path(entry).is_relative_to(home)])
    pins = "".join(sorted({f"{each.name}=={each.version}\n" for each in own if not _is_local(each.version)}))
    digest = hashlib.sha256(b"\0".join([wanted, pins.encode(), sys.version.encode()])).hexdigest()[:16]
    folder = home / digest
    if not folder.is_dir():
        _install(path, pins, folder)
    sys.path.append(str(folder))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(folder))))
    return folder


def _install(file: Path, pins: str, folder: Path) -> None:
    uv = Path(sys.executable).with_name("uv")
    if not uv.is_file():
        raise MlscaleError("no uv beside this Python", str(uv), "pip install uv, or install the packages yourself")
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    constraints = partial.with_suffix(".txt")
    constraints.write_text(pins)
    command: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", partial]
    try:
        done = subprocess.run(
            [*command, "--constraints", constraints, "--requirements", file],
            capture_output=True,
            text=True,
            timeout=_INSTALL_AT_MOST_S,
            check=False,
        )
        if done.returncode:
            what = " ".join(done.stderr.split())[-300:] or f"exit code {done.returncode}"
            raise MlscaleError(f"can't be installed: {what}", str(file), "correct the file, or check the network")
        partial.rename(folder)
    finally:
        constraints.unlink()
        shutil.rmtree(partial, ignore_errors=True)


def _is_local(version: str) -> bool:
    """Whether it is a local build such as 2.15.0+cpu, which an index may not have."""
    return "+" in version
