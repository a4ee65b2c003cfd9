"""The part of TorchServe's HTTP API that the controller needs. Standard library only: it runs in the agent."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.host.proc_stat import runs, stat_fields

# File in a model's archive that holds the component's name: a worker is started in the folder where it lies.
COMPONENT_FILE: Final = "mlscale-component"


class ServerGone(Exception):  # noqa: N818 (names what happened)
    """Nothing listens on the port any more."""


class NoAnswer(Exception):  # noqa: N818
    """No answer in time, or an unintelligible one: the server's state is unknown."""


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as ``GET /models/{name}`` lists it; ``pid`` is None until the worker has reported it."""

    id: int
    status: str
    pid: int | None

    @property
    def ready(self) -> bool:
        return self.status == "READY"


@dataclass(frozen=True, slots=True)
class ModelState:
    """Workers in TorchServe's order (it removes from the end), waiting requests, and the whole answer."""

    workers: tuple[Worker, ...]
    pending: int
    raw: Mapping[str, Any]


class Connection:
    """A keep-alive connection to a port on 127.0.0.1; reopened if the server closed it. Not thread-safe."""

    def __init__(self, port: int, token: str, timeout_s: float) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Status and body. Raises ServerGone, NoAnswer."""
        try:
            self._http.request(method, path, body=body, headers={**self._headers, **(headers or {})})
            response = self._http.getresponse()
            return response.status, response.read()
        except ConnectionRefusedError as error:
            self._http.close()
            raise ServerGone(str(error)) from error
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise NoAnswer(f"{method} {path}: {type(error).__name__} {error}") from error

    def close(self) -> None:
        self._http.close()


class ManagementApi:
    """Describe and scale one model."""

    def __init__(self, port: int, token: str, model: str) -> None:
        self._connection = Connection(port, token, 2.0)
        self._model = model

    def describe(self) -> ModelState:
        """The model's workers and queue now. Raises ServerGone, NoAnswer."""
        status, body = self._connection.ask("GET", f"/models/{self._model}")
        if status != 200:
            raise NoAnswer(f"GET /models/{self._model}: {status} {body[:200]!r}")
        return parse_state(body)

    def scale(self, workers: int) -> None:
        """Request ``workers`` workers; returns before they exist. Raises ServerGone, NoAnswer."""
        path = f"/models/{self._model}?min_worker={workers}&max_worker={workers}&synchronous=false"
        status, body = self._connection.ask("PUT", path)
        if status not in (200, 202):
            raise NoAnswer(f"PUT {path}: {status} {body[:200]!r}")

    def close(self) -> None:
        self._connection.close()


def parse_state(body: bytes) -> ModelState:
    """The answer of ``GET /models/{name}``. Raises NoAnswer if it can't be parsed."""
    try:
        (model,) = json.loads(body)
        workers = tuple(
            Worker(int(row["id"]), str(row["status"]), int(row["pid"]) if int(row["pid"]) > 0 else None)
            for row in model["workers"]
        )
        return ModelState(workers, int(model["jobQueueStatus"]["pendingRequests"]), model)
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"unexpected answer {body[:200]!r}") from error


def read_token(keys: Path, name: str) -> str:
    """The API token called "management", "inference" or "API" in TorchServe's key_file.json."""
    content: dict[str, Any] = json.loads(keys.read_text())
    token: str = content[name]["key"]
    return token


def has_tokens(keys: Path) -> bool:
    """Whether the key file is complete (TorchServe writes it in place)."""
    try:
        return all(read_token(keys, name) for name in ("management", "inference", "API"))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def worker_processes(
    socket_folder: str, component: str, before: Mapping[int, int], proc: Path = Path("/proc")
) -> dict[int, int]:
    """Worker id -> pid of the component's worker processes whose sockets lie in ``socket_folder``, from their exec on
    (TorchServe reports a pid only once the worker listens, seconds later). Empty without /proc.

    A process of ``before`` (the previous result) that is still running is kept: during an exec it has no command line.
    """
    named: dict[int, int] = {}
    for folder in proc.glob("[0-9]*"):
        try:
            argv = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"--sock-name" in argv[:-1]:
            socket = argv[argv.index(b"--sock-name") + 1].decode()
            if socket.startswith(socket_folder) and _component_of(folder) == component:
                named[int(folder.name)] = int(socket.rsplit(".", 1)[-1])
    # A child of the wrapper (mkdir) has the worker's command line between its fork and its exec, but is not a worker.
    current = {worker: pid for pid, worker in named.items() if named.get(_parent(pid, proc)) != worker}
    kept = {worker: pid for worker, pid in before.items() if worker not in current and runs(pid, proc)}
    return {**current, **kept}


def _component_of(process: Path) -> str | None:
    """The component that a worker process serves, by its working directory."""
    try:
        return (process / "cwd" / COMPONENT_FILE).read_text().strip()
    except OSError:
        return None


def _parent(pid: int, proc: Path) -> int:
    """The parent's pid; 0 if the process has ended."""
    fields = stat_fields(pid, proc)
    return int(fields[1]) if fields else 0
