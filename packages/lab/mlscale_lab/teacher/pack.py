"""A student's copy of the labs as one archive: notebooks, sealed hints, and wheels of all that they need."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import zipfile
from importlib import import_module
from pathlib import Path
from typing import Final

import nbformat

from mlscale.atomic import replacing
from mlscale.errors import MlscaleError
from mlscale_lab.checks import Choice, Number
from mlscale_lab.lessons import comparison
from mlscale_lab.sealed import FILE, seal
from mlscale_lab.teacher.grade import LABS

_CHECKOUT: Final = Path(__file__).parents[4]
_PACKAGES: Final = (".", "packages/twin", "packages/lab")
_README: Final = """# The labs

On {platform}, with Python {python}; no network is needed:

    python{python} -m venv labs-env
    labs-env/bin/pip install --no-index --find-links wheels mlscale-lab
    cd labs && ../labs-env/bin/jupyter lab lab_1_queues.ipynb

Write your name or student number into the first cell. To hand a lab in, save its notebook (Ctrl + S) and
hand in that one file.
"""


def pack(out: Path) -> int:
    """Write the archive to ``out``, and give its size in bytes.

    Raises:
        MlscaleError: not a checkout, a wheel can't be fetched or built, or ``out`` can't be written.
    """
    if not (_CHECKOUT / "notebooks/lab_1_queues.ipynb").exists():
        raise MlscaleError("no notebooks", str(_CHECKOUT), "pack from a checkout of mlscale")
    with tempfile.TemporaryDirectory() as scratch:
        wheels = _wheels(Path(scratch))
        try:
            with replacing(out) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, text in _labs().items():
                    archive.writestr(f"labs/{name}", text)
                python = f"{sys.version_info.major}.{sys.version_info.minor}"
                archive.writestr("README.md", _README.format(platform=sys.platform, python=python))
                for wheel in wheels:
                    archive.write(wheel, f"wheels/{wheel.name}", zipfile.ZIP_STORED)
        except OSError as error:
            raise MlscaleError(error.strerror or str(error), str(out), "write it elsewhere") from error
    return out.stat().st_size


def sealed_hints() -> dict[str, dict[str, object]]:
    """The shared questions of every lesson, sealed."""
    hints: dict[str, dict[str, object]] = {}
    for lesson in LABS:
        questions = {name: make() for name, make in import_module(f"mlscale_lab.teacher.{lesson}").QUESTIONS.items()}
        hints[lesson] = {name: seal(name, one) for name, one in questions.items() if isinstance(one, Number | Choice)}
    return hints


def _labs() -> dict[str, str]:
    """The files of the folder labs/ by name."""
    labs = {file.name: file.read_text(encoding="utf-8") for file in (_CHECKOUT / "notebooks").glob("lab_*.ipynb")}
    labs["lab_5_comparison.ipynb"] = _without_paper(labs["lab_5_comparison.ipynb"])
    labs[comparison.COPY.name] = comparison.published().to_csv(index=False)
    labs[FILE] = json.dumps(sealed_hints(), indent=1)
    return labs


def _without_paper(text: str) -> str:
    """Lab 5 with the published remark as text: the package that computes it comes with torch and ray."""
    published = (_CHECKOUT / "docs/results.md").read_text(encoding="utf-8")
    found = re.search(r"<!-- ray-start: .*?-->\n(.*?) See \[", published, re.DOTALL)
    notebook = nbformat.reads(text, as_version=4)
    for place, cell in enumerate(notebook.cells):
        cell.source = cell.source.replace("from mlscale_paper import ray_start\n", "")
        if cell.source == "ray_start.remark_on_published()":
            assert found is not None
            notebook.cells[place] = nbformat.v4.new_markdown_cell(f"**{found[1]}**", id=cell.id)
    return str(nbformat.writes(notebook))


def _wheels(folder: Path) -> list[Path]:
    """Wheels of the labs' packages, and of what they need, as pinned and for this platform."""
    own, all_wheels = folder / "own", folder / "wheels"
    for package in _PACKAGES:
        build = ["hatchling", "build", "--target", "wheel", "--directory", str(own)]
        _run(build, _CHECKOUT / package)
    wanted = [str(wheel) for wheel in own.glob("*.whl")]
    pins = ["--constraint", str(_CHECKOUT / "requirements.lock")]
    fetch = ["pip", "download", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:", *pins]
    _run([*fetch, "--find-links", str(own), "--dest", str(all_wheels), *wanted], folder)
    return sorted(all_wheels.glob("*.whl"))


def _run(words: list[str], folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise MlscaleError(f"{words[0]} failed: {''.join(last)}", "lab pack", "see that the network can be reached")
