"""Executes one notebook with papermill under a time limit; a failure is reported in one line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlscale.notebook.parameters import check_declared, declared
from mlscale.runs import MlscaleError

KERNEL_START_S = 120
# How long a kernel may take to exit once its cells have ended, s: some ignore Jupyter's shutdown request, and wait for
# the signal that follows after half of this.
IDLE_END_S = 10.0
# How long an interrupted kernel may take to tear its framework down before it is killed, s. Jupyter sends SIGTERM after
# half of that, which ends it at once: half is more than a cluster gets for a namespace (90 s) and what precedes.
TEARDOWN_S = 240.0


class NotebookFailed(MlscaleError):  # noqa: N818 (it says what happened, as the others do)
    """A cell raised. ``error`` is the exception's class name, ``text`` its message."""

    def __init__(self, notebook: Path, executed: Path, error: str, text: str) -> None:
        self.error = error
        self.text = text
        first = text.strip().splitlines()[0] if text.strip() else error
        super().__init__(
            first if error.endswith("MlscaleError") else f"{error}: {first}",
            notebook.name,
            f"see the traceback in {executed}",
        )


def execute(
    notebook: Path, executed: Path, parameters: Mapping[str, Any], timeout_s: float, cwd: Path | None = None
) -> None:
    """Execute ``notebook`` with ``parameters`` (JSON-able) and write the result to ``executed``.

    Args:
        timeout_s: for the whole of any one cell, s.
        cwd: the kernel's working folder; None: the notebook's.
    Raises:
        MlscaleError: a parameter that it does not declare.
        NotebookFailed: a cell raised, or took longer than ``timeout_s``.
    """
    check_declared(parameters, declared(notebook), notebook.name)
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    cells = _Cells()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        executed.parent.mkdir(parents=True, exist_ok=True)
        papermill.execute_notebook(
            str(notebook),
            str(executed),
            parameters=dict(parameters),
            progress_bar=False,
            start_timeout=KERNEL_START_S,
            execution_timeout=int(timeout_s),
            cwd=str(cwd or notebook.parent),
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(cells, executed.with_suffix(".kernel.json")),
            on_cell_execute=cells.begins,
            on_cell_executed=cells.ends,
            extra_arguments=["--log-level=CRITICAL"],
            request_save_on_cell_execute=False,
        )
    except PapermillExecutionError as error:
        raise NotebookFailed(notebook, executed, error.ename, error.evalue) from None
    except CellTimeoutError:
        raise NotebookFailed(notebook, executed, "TimeoutError", f"a cell took longer than {timeout_s:.0f} s") from None
    except DeadKernelError:
        raise NotebookFailed(notebook, executed, "DeadKernelError", "the notebook's kernel was killed") from None
    except OSError as error:
        raise MlscaleError(
            error.strerror or str(error), str(executed), "make room there, or make it writable"
        ) from error


class _Cells:
    """Whether a cell is running."""

    def __init__(self) -> None:
        self.running = False

    def begins(self, **_: Any) -> None:
        self.running = True

    def ends(self, **_: Any) -> None:
        self.running = False


def _kernel_manager(cells: _Cells, connection: Path) -> type[Any]:
    """A manager that gives a kernel interrupted in a cell the time to tear down what it deployed.

    ``connection``: the kernel's connection file, removed at its end. Jupyter's default is a new file in the temporary
    folder, where a killed process would leave it for good; this one is overwritten by the next execution.
    """
    from jupyter_client.manager import AsyncKernelManager

    class Patient(AsyncKernelManager):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(connection_file=str(connection.absolute()), **options)

        @property
        def shutdown_wait_time(self) -> float:
            return TEARDOWN_S if cells.running else IDLE_END_S

    return Patient
