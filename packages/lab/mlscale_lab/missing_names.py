"""One line in place of NameError's traceback in a kernel, where cells were run out of order.

Loaded as an IPython extension when a kernel starts (ipython_kernel_config.py, installed into the environment): after a
restart nothing else of this package is there to say that the first cell comes first. Imports nothing.
"""

from __future__ import annotations

from typing import Any, Final

# What every lab's first cell defines.
_FIRST: Final = ("check", "lesson", "experiments", "student")


def load_ipython_extension(shell: Any) -> None:
    """Explain names of a lab's first cell; any other NameError keeps its traceback."""
    shell.set_custom_exc((NameError,), _explain_first)


def explain_always() -> None:
    """Explain every name from now on, if this is IPython: a lab has begun."""
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.set_custom_exc((NameError,), _explain)


def _explain_first(shell: Any, kind: type[NameError], error: NameError, trace: Any, tb_offset: int | None) -> None:
    if error.name in _FIRST:
        _explain(shell, kind, error, trace, tb_offset)
    else:
        shell._showtraceback(kind, error, shell.InteractiveTB.structured_traceback(kind, error, trace, tb_offset or 1))


def _explain(shell: Any, kind: type[NameError], error: NameError, trace: Any, tb_offset: int | None) -> None:
    line = f"mlscale: {error.name!r} is not there yet: run the cells above first, beginning with the first one"
    shell._showtraceback(kind, error, [f"{line} (menu Run, Run All Above Selected Cell)."])
