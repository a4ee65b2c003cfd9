"""Where simulations are executed: processes of this machine, or a Ray cluster; both behind the standard executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

from mlscale.errors import MlscaleError
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
        address: of a Ray cluster with this version of mlscale ("local": one started for it); None: processes.

    Raises:
        MlscaleError: there is no Ray cluster at ``address``.
    """
    if address is None:
        with worker_processes() as processes:
            yield processes
        return
    import ray

    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # a bare one if its node is slow to start
        raise MlscaleError(str(error), f"Ray at {address}", "start Ray there, or omit the address") from error
    try:
        yield _RayExecutor(ray)
    finally:
        ray.shutdown()
