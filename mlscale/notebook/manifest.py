"""figures/manifest.json: which notebook drew a figure, from which runs and code, and a summary of the plotted numbers.

The numbers are read from the figure itself, so that a test can redraw it from data/reference and compare.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mlscale.atomic import write_text
from mlscale.defaults import defaults
from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MANIFEST: Final = "manifest.json"
_SOURCES: Final = ("mlscale", "notebooks", "packages", "paper")


@dataclass(frozen=True)
class Simulated:
    """Simulations shown in a figure besides its ``runs``: a record, or draws made for it.

    ``what``: a file of the checkout, or what was simulated; ``draws``: simulated runs of each case; ``sha256``: of the
    file.
    """

    what: str
    draws: int
    sha256: str = ""

    @property
    def sentence(self) -> str:
        """The sentence for the caption."""
        file = f", sha256 {self.sha256[:12]}" if self.sha256 else ""
        draws = f"{self.draws} draw{'' if self.draws == 1 else 's'} of each"
        return f"SIMULATED, not measured: {self.what} ({draws}{file})"


def save_figure(
    figure: Figure,
    name: str,
    folder: Path | None,
    *,
    notebook: str,
    runs: Sequence[Run],
    seed: int,
    note: str = "",
    simulated: Simulated | None = None,
) -> Figure:
    """Write ``name``.pdf and .png and the figure's entry in the manifest; ``folder`` None: write nothing.

    Returns the figure, so that the call can be the last line of a notebook's cell.

    Raises:
        MlscaleError: the folder can't be written.
    """
    if folder is None:
        return figure
    from mlscale.plots.captions import alternative_text
    from mlscale.plots.style import style

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with style():  # the fonts that a PDF embeds are chosen here, not when it was drawn
            figure.savefig(
                folder / f"{name}.pdf", bbox_inches="tight", metadata={"CreationDate": None, "Subject": note}
            )
            figure.savefig(folder / f"{name}.png", bbox_inches="tight", dpi=160, metadata={"Description": note})
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(folder), "make room there, or make it writable") from error
    entry: dict[str, Any] = {
        "notebook": notebook,
        "runs": [run.info.run_id for run in runs],
        "modes": sorted({run.info.mode for run in runs} | ({"simulated"} if simulated else set())),
        "seed": seed,
        "tree": tree(),
        "headline": alternative_text(figure),
        "numbers": plotted_numbers(figure),
    }
    entries = read_manifest(folder)
    if simulated:
        entry["simulated"] = asdict(simulated)
    if note:
        entry["note"] = note
    entries[name] = entry
    write_text(folder / MANIFEST, json.dumps(dict(sorted(entries.items())), indent=1) + "\n")
    return figure


def read_manifest(folder: Path) -> dict[str, Any]:
    """Figure name -> entry; empty if there is no manifest yet.

    Raises:
        MlscaleError: the manifest is broken.
    """
    file = folder / MANIFEST
    if not file.exists():
        return {}
    try:
        entries: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise MlscaleError(f"broken: {error}", str(file), "delete it and draw the figures again") from error
    return entries


def tree() -> dict[str, Any]:
    """``{"sha256": ..., "clean": ...}`` of the code behind figures (`_SOURCES`) on disk.

    The hash covers names and contents of all files that git does not ignore; ``clean``: whether all are committed
    unchanged; None outside a git checkout.
    """
    root = defaults().root()
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_SOURCES)
    if listed is None:
        names = sorted(
            path.relative_to(root).as_posix()
            for part in _SOURCES
            for path in (root / part).rglob("*")
            if _is_source(path)
        )
        return {"sha256": _hash(root, names), "clean": None}
    names = sorted(name for name in listed.split("\0") if name and (root / name).is_file())
    return {"sha256": _hash(root, names), "clean": _git(root, "status", "--porcelain", "--", *_SOURCES) == ""}


def plotted_numbers(figure: Figure) -> dict[str, Any]:
    """What is drawn, axes by axes: for each kind of mark, how many points, and their sums in x and y.

    Sums of the data, rounded to 6 digits: enough to notice any other number, and short enough to be committed.
    """
    return {f"axes{number}": _axes_numbers(axes) for number, axes in enumerate(figure.axes)}


def _axes_numbers(axes: Axes) -> dict[str, Any]:
    marks: dict[str, Any] = {
        "title": axes.get_title(),
        "lines": _summary(line.get_xydata() for line in axes.lines),
        "patches": _summary(patch.get_patch_transform().transform(patch.get_path().vertices) for patch in axes.patches),
        "points": _summary(collection.get_offsets() for collection in axes.collections),
        "paths": _summary(path.vertices for collection in axes.collections for path in collection.get_paths()),
        "texts": sorted(text.get_text() for text in axes.texts),
    }
    return {kind: value for kind, value in marks.items() if value}


def _summary(arrays: Iterable[Any]) -> dict[str, float]:
    """Number and sums of the finite points of all arrays, each of shape (n, 2)."""
    parts = [np.asarray(np.ma.filled(np.ma.asarray(array), np.nan), dtype=float).reshape(-1, 2) for array in arrays]
    points = np.concatenate(parts) if parts else np.empty((0, 2))
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return {}
    return {"n": len(points), "x": _short(points[:, 0].sum()), "y": _short(points[:, 1].sum())}


def _short(value: float) -> float:
    """Six significant digits."""
    return float(f"{value:.6g}")


def _is_source(path: Path) -> bool:
    return path.is_file() and "__pycache__" not in path.parts and ".ipynb_checkpoints" not in path.parts


def _hash(root: Path, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    """The command's output; None if it fails: no git, or no checkout."""
    try:
        result = subprocess.run(
            ("git", "-C", str(root), *arguments), capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None
