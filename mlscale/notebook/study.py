"""The runs of a notebook about one environment, and its figures, one method each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlscale import figures
from mlscale.analysis.boot_time_response import variant_of
from mlscale.analysis.summary import summarise
from mlscale.defaults import defaults
from mlscale.environments.base import App, EnvironmentUnavailable
from mlscale.measurement.measure import MeasureOptions, MeasureSettings, measure
from mlscale.notebook import tables
from mlscale.notebook.parameters import KubernetesParameters, MeasureParameters, NotebookParameters, check_parameters
from mlscale.notebook.show import Figures, remark
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, Run, load_runs


class Study:
    """Runs of one environment: those that a notebook's parameters name, else one that is measured now. If the
    environment can't run here and the parameters are the defaults, the published runs.

    ``runs`` are all of them, ``good`` the valid ones, ``rows`` `mlscale.summarise` of these by ``level_s``. Figures are
    shown with their caption, and written if the parameter ``figures`` names a folder.

    Args:
        notebook: its name, such as "02_torchserve".
        namespace: its ``globals()``, after the cell tagged ``parameters``.
        model: the type of its parameters.
        app: what is measured; None: the defaults' application.

    Raises:
        MlscaleError: as `runs_of`.
    """

    def __init__(
        self,
        notebook: str,
        environment: str,
        namespace: Mapping[str, Any],
        model: type[MeasureParameters] = MeasureParameters,
        app: App | None = None,
    ) -> None:
        self.environment = environment
        self.parameters = check_parameters(model, namespace)
        try:
            self.runs = runs_of(environment, self.parameters, app)
            self.level_s = tables.level_of(self.parameters)
        except EnvironmentUnavailable as error:
            self.runs = _published_instead(environment, self.parameters, error)
            self.level_s = tables.level_to_compare(self.parameters)
        self.good = tables.valid(self.runs)
        self.rows = summarise(self.good, self.level_s)
        self._figures = Figures(notebook, self.parameters.figures, self.parameters.seed)

    def show(self, name: str, figure: Any, runs: Sequence[Run]) -> None:
        """Show a figure drawn by the caller; its files are called ENVIRONMENT_NAME."""
        self._figures.show(f"{self.environment}_{name}", figure, runs)

    def trajectory(self) -> None:
        """Response and replicas around the step, all runs."""
        if self._have_step():
            self.show("trajectory", figures.trajectory(self.runs, self.level_s), self.runs)

    def typical(self) -> tuple[Run, str]:
        """The median run by mean response (of an even number, the lower of the two), and a phrase for the caption that
        says so."""
        order = np.argsort(self.rows["mean_response_s"].to_numpy(dtype=float), kind="stable")
        phrase = f"the median of {len(self.good)} by mean response" if len(self.good) > 1 else ""
        return self.good[order[(len(self.good) - 1) // 2]], phrase

    def variants(self) -> list[Run]:
        """Valid runs that change one thing each: named by the parameters, or measured now if these ask for it."""
        p, runs = self.parameters, list[Run]()
        if isinstance(p, KubernetesParameters) and p.more_run_dirs:
            runs = load_runs(p.more_run_dirs)
        elif isinstance(p, KubernetesParameters) and p.measure_more:
            runs = list(defaults().measure_variants(self.environment, p))
        return tables.valid(runs)

    def probed(self, more: Sequence[Run]) -> list[Run]:
        """The typical run, and the first of ``more`` (`variants`) whose readiness probe has another period."""
        typical, _ = self.typical()
        usual_s = _setting(typical, "readiness_period_s")
        return [typical, *[run for run in more if _setting(run, "readiness_period_s") != usual_s][:1]]

    def sharing(self, more: Sequence[Run]) -> None:
        """What new replicas answer with fresh connections, and in those of ``more`` (`variants`) with kept ones."""
        kept = [run for run in more if run.info.connections == "kept"]
        self._beside("sharing", figures.sharing, kept, "kept connections")

    def quota_period(self, more: Sequence[Run]) -> None:
        """Inference times, and those in the runs of ``more`` (`variants`) with a shorter period of the CPU quota."""
        usual_s = _setting(self.good[0], "cpu_period_s")
        shorter = [run for run in more if _setting(run, "cpu_period_s") < usual_s]
        self._beside("period", figures.inference_by_period, shorter, "another quota period")

    def like_the_first(self) -> Study:
        """The same study, restricted to valid runs on the same kind of machines as the first."""
        alike = copy(self)
        first = variant_of(self.good[0])
        alike.runs = alike.good = [run for run in self.good if variant_of(run) == first]
        alike.rows = summarise(alike.good, self.level_s)
        return alike

    def one_run(self) -> None:
        """The typical run, request by request."""
        run, which = self.typical()
        self.show("run", figures.timeline(run, self.level_s, which=which), [run])

    def response(self) -> None:
        """Milestones after the step."""
        if self._have_step():
            self.show("response", figures.response(self.good, self.level_s, rows=self.rows), self.good)

    def sigma(self) -> None:
        """The components of the standard deviation."""
        self.show("sigma", figures.sigma(self.good, self.level_s, rows=self.rows), self.good)

    def resources(self) -> None:
        """CPU time per answer, and cores in use."""
        self.show("resources", figures.resources(self.good, self.level_s, rows=self.rows), self.good)

    def _have_step(self) -> bool:
        """Whether a run has a load step; a remark where none has."""
        found = any(run.info.step_s is not None for run in self.runs)
        if not found:
            remark("The load of these runs has no step, so there is nothing to draw around one.")
        return found

    def _beside(self, name: str, draw: Callable[[Sequence[Run]], Any], others: Sequence[Run], what: str) -> None:
        """Show the valid runs beside ``others``; a remark where there are none."""
        if not others:
            remark(f"No run with {what}: set measure_more, or name one in more_run_dirs.")
            return
        compared = [*self.good, *others]
        self.show(name, draw(compared), compared)


def _setting(run: Run, name: str) -> Any:
    """A scaling setting that all components of an application share."""
    return next(iter(run.info.scaling.values()))[name]


def new_folder(name: str) -> Path:
    """An unused folder for a run that a notebook measures."""
    return defaults().root() / "runs" / "by-hand" / f"{name}-{datetime.now():%Y%m%dT%H%M%S}"


def runs_of(environment: str, p: MeasureParameters, app: App | None = None) -> list[Run]:
    """The runs that the parameters name; if none, one of ``app`` (None: the defaults' application), measured now.

    Raises:
        MlscaleError: as `measure` and `load_runs`, or a run of another environment is named.
    """
    if p.run_dirs:
        runs = load_runs(p.run_dirs)
        others = sorted({run.info.environment for run in runs} - {environment})
        if others:
            raise MlscaleError(f"includes runs of {', '.join(others)}", "run_dirs", f"name only runs of {environment}")
        return runs
    default = defaults()
    with Shown() as progress:
        run = measure(
            environment,
            app or default.application(partitioned=p.partitioned),
            p.schedule,
            bodies=p.bodies or default.bodies(),
            out=p.out or new_folder(environment),
            scaling=p.scaling,
            arm=p.arm,
            options=MeasureOptions(
                mode=p.mode,
                labels=p.labels,
                progress=progress,
                **{name: getattr(p, name) for name in MeasureSettings.model_fields},
            ),
        )
    return [run]


def _published_instead(environment: str, p: MeasureParameters, error: EnvironmentUnavailable) -> list[Run]:
    """The published runs of an environment that can't run here, with a remark that says so.

    Raises:
        EnvironmentUnavailable: ``error``, if none are published or the parameters ask for anything but the defaults.
    """
    published = defaults().published()
    drawing = set(NotebookParameters.model_fields)
    if published is None or p.model_dump(exclude=drawing) != type(p)().model_dump(exclude=drawing):
        raise error
    for cell in ("core", "rehearsal"):
        folder = published[0] / cell
        runs = [run for run in load_runs(folder) if run.info.environment == environment] if folder.is_dir() else []
        if runs:
            remark(f"{error}. Nothing is measured here: these are the published runs, measured elsewhere.")
            return runs
    raise error
