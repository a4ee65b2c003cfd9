"""The paper's experiment as mlscale's defaults: the code reader, its photos, the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.defaults import Defaults
from mlscale.environments import App
from mlscale.runs import ClosedLoop, Run
from mlscale_experiment.protocol import bodies_folder
from mlscale_paper import places
from mlscale_paper.applications import code_reader
from mlscale_paper.protocol import current_protocol, published_protocol

if TYPE_CHECKING:
    from mlscale.notebook.parameters import KubernetesParameters


class PaperDefaults(Defaults):
    """From the checkout's protocol, or from the defaults for a first look where no pilot was run."""

    def __init__(self) -> None:
        self._protocol = current_protocol()

    def application(self, *, partitioned: bool = False) -> App:
        return code_reader(partitioned=partitioned)

    def bodies(self) -> Path:
        return bodies_folder(self._protocol, places.protocol_file())

    def quick_schedule(self) -> ClosedLoop:
        return self._protocol.quick_schedule()

    def schedule(self) -> ClosedLoop:
        return self._protocol.closed_schedule(self._protocol.baseline_s)

    def sized(self, environment: str, scaling: Mapping[str, Any], schedule: object) -> dict[str, Any]:
        return self._protocol.sized(environment, scaling, schedule)

    @property
    def level_s(self) -> float:
        return self._protocol.level_s

    @property
    def unpiloted(self) -> bool:
        return self._protocol.origin == "default"

    def root(self) -> Path:
        return places.checkout() if places.in_checkout() else Path.cwd()

    def published(self) -> tuple[Path, float] | None:
        if not places.in_checkout() or not places.reference().is_dir():
            return None
        return places.reference(), published_protocol().level_s

    def measure_variants(self, environment: str, p: KubernetesParameters) -> Sequence[Run]:
        from mlscale.notebook.study import new_folder, runs_of
        from mlscale_paper.variants import SHOWN
        from onenode.keeper import ClusterKeeper

        runs: list[Run] = []
        with ClusterKeeper() as keeper:
            for variant in SHOWN[environment]:
                scaling = {**p.scaling, **variant.scaling}
                keeper.prepare(environment, scaling)
                out = new_folder(environment) if p.out is None else p.out.with_name(f"{p.out.name}-{variant.name}")
                overrides = {"out": out, "run_dirs": (), "connections": variant.connections, "scaling": scaling}
                runs += runs_of(environment, p.model_copy(update=overrides))
        return runs
