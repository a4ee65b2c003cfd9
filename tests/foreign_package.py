"""A package that mlscale does not have, installable without any index: ``wholly_unknown``, which holds ANSWER = 42."""

from __future__ import annotations

from pathlib import Path

_PROJECT = """
[project]
name = "wholly-unknown"
version = "1"
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
_BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name, info = "wholly_unknown-1-py3-none-any.whl", "wholly_unknown-1.dist-info/"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.write("wholly_unknown.py")
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: wholly-unknown\\nVersion: 1\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def require_foreign_package(folder: Path) -> Path:
    """Write the package's source below ``folder``; return a requirements file that names it."""
    package = folder / "package"
    package.mkdir()
    (package / "wholly_unknown.py").write_text("ANSWER = 42\n")
    (package / "pyproject.toml").write_text(_PROJECT)
    (package / "backend.py").write_text(_BACKEND)
    file = folder / "requirements.txt"
    file.write_text(f"{package}\n")
    return file
