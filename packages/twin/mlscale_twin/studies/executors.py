"""Where simulations are executed: processes of this machine, or a Ray cluster; both behind the standard executor."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from mlscale.errors import MlscaleError
from mlscale.loadgen.ray_cluster import connected
from mlscale_twin.worker_processes import worker_processes


class _RayExecutor(Executor):
    """Each call is a Ray task on one core."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = self._ray.remote(num_cpus=1)(fn).remote(*args, **kwargs).future()
        return future


@contextmanager
def executor(address: str | None) -> Iterator[Executor]:
    """An executor for the block.

    Args:
        address: of a Ray cluster with this version of mlscale ("local": one started for it, or processes if it does
            not start); None: processes.

    Raises:
        MlscaleError: there is no Ray cluster at ``address``.
    """
    ray = None if address is None else _connected(address)
    if ray is None:
        with worker_processes() as processes:
            yield processes
        return
    try:
        yield _RayExecutor(ray)
    finally:
        ray.shutdown()


def _connected(address: str) -> Any | None:
    """Ray, connected to a cluster; None if a cluster of this machine's own did not start."""
    try:
        return connected(address)
    except MlscaleError as error:
        if address != "local":
            raise
        sys.stderr.write(f"mlscale: Ray did not start ({error.what}); processes of this machine take its place\n")
        return None
