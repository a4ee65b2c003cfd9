"""A notebook's figures: shown with what has to stand under them, and written with their entry in the manifest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.experiment.manifest import save_figure
from mlscale.experiment.protocol import current_protocol
from mlscale.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Figures:
    """``figures = Figures("02_torchserve", p.figures, p.seed)``; then ``figures.show("name", axes, runs)``."""

    def __init__(self, notebook: str, folder: Path | None, seed: int) -> None:
        self._notebook = notebook
        self._folder = folder
        self._seed = seed

    def show(self, name: str, drawn: Any, runs: Sequence[Run], *, note: str = "") -> None:
        """Show what a function of `mlscale.plots` drew, its caption below; write it where a folder was given.

        Args:
            name: of the files, without suffix.
            drawn: the axes.
            runs: whose numbers it shows, invalid ones among them.
        """
        from IPython.display import Markdown, display

        from mlscale.plots.captions import caption

        figure = figure_of(drawn)
        words = [note, "DEFAULT SETTINGS: no pilot was run on this host"] if _unpiloted(runs) else [note]
        text = caption(runs, with_invalid=True, note=". ".join(word for word in words if word))
        save_figure(figure, name, self._folder, notebook=self._notebook, runs=runs, seed=self._seed, note=text)
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


def _unpiloted(runs: Sequence[Run]) -> bool:
    return current_protocol().origin == "default" and any(run.info.mode == "live" for run in runs)
