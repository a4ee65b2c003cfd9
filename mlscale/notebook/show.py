"""A notebook's figures: shown with their caption, and written with their entry in the manifest."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlscale.defaults import defaults
from mlscale.notebook.manifest import Simulated, save_figure
from mlscale.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


# Up to this number, a caption names runs one by one.
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
        """Show what a function of `mlscale.plots` drew, with its caption; write it if a folder was given.

        Args:
            name: of the files, without suffix.
            drawn: the axes.
            runs: the runs shown, including invalid ones.
            simulated: simulations shown besides ``runs``.
        """
        from mlscale.plots.captions import caption, caption_line

        figure = _figure_of(drawn)
        unpiloted = "DEFAULT SETTINGS: no pilot was run on this host" if _unpiloted(runs) else ""
        notes = [simulated.sentence if simulated else "", _where(runs), note, unpiloted]
        text = caption(runs, with_invalid=True, note=". ".join(filter(None, notes)))
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
        show_figure(figure, caption_line(runs, note, unpiloted, simulated=simulated is not None), text)


def show_figure(drawn: Any, line: str = "", caption: str = "") -> None:
    """Show what matplotlib drew in a notebook, with its headline as alternative text; ``line`` stands below it, and
    opens ``caption`` at a click."""
    from IPython.core.pylabtools import print_figure
    from IPython.display import HTML, display
    from matplotlib.pyplot import close

    from mlscale.plots.captions import alternative_text

    figure = _figure_of(drawn)
    png = print_figure(figure, base64=True)
    close(figure)  # else it is shown again at the end of its cell
    alt, line, caption = (escape(text) for text in (alternative_text(figure) or line, line, caption))
    below = f"<details><summary><em>{line}</em></summary>{caption}</details>" if caption else f"<em>{line}</em>"
    # As HTML, since neither JupyterLab nor nbconvert takes an alternative text from an image's metadata.
    display(HTML(f'<img src="data:image/png;base64,{png}" alt="{alt}">{below}'))


def remark(text: str) -> None:
    """Show a sentence in a notebook, in bold."""
    from IPython.display import Markdown, display

    display(Markdown(f"**{text}**"))


def _figure_of(drawn: Any) -> Figure:
    """The figure of one axes or an array of axes."""
    if isinstance(drawn, Iterable):
        return _figure_of(next(iter(drawn)))
    figure: Figure = drawn if hasattr(drawn, "savefig") else drawn.figure
    return figure


def _where(runs: Sequence[Run]) -> str:
    """The runs' folders, or their common folder if there are many. Outside the checkout only the last part of a path is
    named, since captions are published. Simulated runs in memory are counted.
    """
    folders = [run.path.resolve() for run in runs if run.path != Path(run.info.run_id)]
    in_memory = f"{len(runs) - len(folders)} simulated for this figure" if len(folders) < len(runs) else ""
    if not folders:
        return f"Runs: {in_memory}" if in_memory else ""
    paths = folders if len(folders) <= _FEW else [Path(os.path.commonpath(folders))]
    root = defaults().root().resolve()
    names = [str(path.relative_to(root)) if path.is_relative_to(root) else path.name for path in paths]
    return f"Runs: {' and '.join(names)}{f' ({len(folders)}) and {in_memory}' if in_memory else ''}"


def _unpiloted(runs: Sequence[Run]) -> bool:
    return defaults().unpiloted and any(run.info.mode == "live" and not run.info.experiment for run in runs)
