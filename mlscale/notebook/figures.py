"""A notebook's figures: shown with what has to stand under them, and written with their entry in the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlscale.defaults import defaults
from mlscale.notebook.manifest import Simulated, save_figure
from mlscale.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Runs that a caption names one by one.
_FEW: Final = 3


class Figures:
    """``figures = Figures("02_torchserve", p.figures, p.seed)``; then ``figures.show("name", axes, runs)``."""

    def __init__(self, notebook: str, folder: Path | None, seed: int) -> None:
        self._notebook = notebook
        self._folder = folder
        self._seed = seed

    def show(
        self, name: str, drawn: Any, runs: Sequence[Run], *, note: str = "", simulated: Simulated | None = None
    ) -> None:
        """Show what a function of `mlscale.plots` drew, its caption below; write it where a folder was given.

        Args:
            name: of the files, without suffix.
            drawn: the axes.
            runs: whose numbers it shows, invalid ones among them.
            simulated: what else it shows.
        """
        from IPython.display import Markdown, display

        from mlscale.plots.captions import caption

        figure = figure_of(drawn)
        unpiloted = "DEFAULT SETTINGS: no pilot was run on this host" if _unpiloted(runs) else ""
        words = [simulated.sentence if simulated else "", _where(runs), note, unpiloted]
        text = caption(runs, with_invalid=True, note=". ".join(word for word in words if word))
        save_figure(
            figure,
            name,
            self._folder,
            notebook=self._notebook,
            runs=runs,
            seed=self._seed,
            note=text,
            simulated=simulated,
        )
        display(figure, Markdown(f"*{text}*"))


def remark(text: str) -> None:
    """A sentence in a notebook that only some runs call for."""
    from IPython.display import Markdown, display

    display(Markdown(f"**{text}**"))


def figure_of(drawn: Any) -> Figure:
    """The figure that axes, or an array of axes, are part of."""
    if isinstance(drawn, Iterable):
        return figure_of(next(iter(drawn)))
    figure: Figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    return figure


def _where(runs: Sequence[Run]) -> str:
    """Where the runs lie, of a few each one: as paths in the checkout, elsewhere only their last part, since captions
    are published. Runs in memory lie nowhere: their draws are counted."""
    folders = [run.path.resolve() for run in runs if run.path != Path(run.info.run_id)]
    drawn = f"{len(runs) - len(folders)} simulated for this figure" if len(folders) < len(runs) else ""
    if not folders:
        return f"Runs: {drawn}" if drawn else ""
    named = folders if len(folders) <= _FEW else [Path(os.path.commonpath(folders))]
    root = defaults().root().resolve()
    told = [str(each.relative_to(root)) if each.is_relative_to(root) else each.name for each in named]
    return f"Runs: {' and '.join(told)}{f' ({len(folders)}) and {drawn}' if drawn else ''}"


def _unpiloted(runs: Sequence[Run]) -> bool:
    return defaults().unpiloted and any(run.info.mode == "live" for run in runs)
