"""Ray Serve's driver: ``python -m mlscale.environments.rayserve.agent SPEC.json``, run inside the sandbox.

Starts Ray, deploys the components, warms up the first replicas, and reports (emit.py) until its standard input ends.
SPEC: {"components": [{"name", "entry", "calls": [names], "settings": RayServeScaling as JSON, "python": the replicas'
interpreter}], each after those that it calls and the front last, "folder", "port", "num_cpus", "warm_up": [files],
"timeout_s", "machines": None or {"component" of their events, "reports": path of a socket, ...as of cluster.start}}.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlscale.environments.emit import Emitter
from mlscale.environments.rayserve import cluster
from mlscale.environments.rayserve.machines import MachineWatch
from mlscale.environments.rayserve.watch import DecisionWatch, ReplicaView, ReplicaWatch
from mlscale.host.proc_stat import runs, stat_fields

_APP: Final = "mlscale"
# Periods at which replicas are listed: in a steady state, and while something changes.
_STEADY_S: Final = 0.4
_CHANGING_S: Final = 0.15
_POLL_S: Final = 0.1
_ANSWER_TIMEOUT_S: Final = 5.0
_HUNG_AFTER_S: Final = 15.0


class Failed(Exception):  # noqa: N818 (reported to the parent, which raises)
    """``args``: what, where, remedy."""


class ServeComponent:
    """One component: its specification and its observed state."""

    def __init__(
        self, spec: Mapping[str, Any], emitter: Emitter, address: Path, machine_of: Callable[[str | None], str | None]
    ) -> None:
        self.name: str = spec["name"]
        self.entry: str = spec["entry"]
        self.calls: Sequence[str] = spec["calls"]
        self.python: str = spec["python"]
        self.settings: Mapping[str, Any] = spec["settings"]
        self.address = str(address)
        self.readings = listener(self.address)
        self._machine_of = machine_of
        self._decisions = DecisionWatch(
            self.name,
            emitter,
            target_per_replica=self.settings["target_ongoing_requests"],
            upscale_delay_s=self.settings["upscale_delay_s"],
            downscale_delay_s=self.settings["downscale_delay_s"],
        )
        self.replicas = ReplicaWatch(self.name, emitter, process_started)
        self.last_list = self.last_look = time.monotonic()
        self.changing = False

    def update(self, details: Any) -> None:
        """Process the controller's DeploymentDetails, obtained just now."""
        t, since = time.monotonic(), self.last_list
        views = [
            ReplicaView(r.replica_id, r.state.value, r.pid, r.start_time_s, self._machine_of(r.node_id))
            for r in details.replicas
        ]
        desired = details.target_num_replicas
        self.replicas.poll(t, since, views, desired)
        self.changing = len(views) != desired or any(view.state != "RUNNING" for view in views)
        self.last_list = t

    def drain_readings(self, wait_s: float) -> None:
        """Process the policy's pending readings; wait up to ``wait_s`` for the first."""
        for reading in received(self.readings, wait_s):
            if self._decisions.read(reading):
                self.changing = True


class Machines:
    """The machines that Ray's autoscaler adds."""

    def __init__(self, spec: Mapping[str, Any], emitter: Emitter) -> None:
        self.reports = listener(spec["reports"])
        self.watch = MachineWatch(spec["component"], emitter)
        self._last_list = time.monotonic()

    def update(self) -> None:
        """Process pending reports, and Ray's nodes if one may have joined."""
        import ray

        for report in received(self.reports, 0.0):
            self.watch.reported(report)
        now = time.monotonic()
        if not self.watch.awaited:
            self._last_list = now
        elif now - self._last_list >= _CHANGING_S:
            self.watch.listed(ray.nodes(), now, self._last_list)
            self._last_list = now


class Agent:
    """One deployment: started by `deploy`, watched by `watch`."""

    def __init__(self, spec: dict[str, Any], emitter: Emitter) -> None:
        self._spec, self._emitter = spec, emitter
        folder = Path(spec["folder"])
        self._machines = Machines(spec["machines"], emitter) if spec["machines"] else None
        machine_of = self._machines.watch.name if self._machines else lambda node: None
        self._parts = [
            ServeComponent(content, emitter, folder / f"policy-{number}.sock", machine_of)
            for number, content in enumerate(spec["components"])
        ]
        self._cluster: cluster.Cluster | None = None
        self._controller: Any = None
        self._vital: dict[str, int] = {}

    def deploy(self) -> None:
        """Start everything, warm up, and report ready. Raises Failed."""
        laps = {"begin": time.monotonic()}
        try:
            self._cluster = cluster.start(
                Path(self._spec["folder"]) / "ray", self._spec["num_cpus"], self._spec["machines"]
            )
        except Exception as error:  # a bare one if its node is slow to start
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise Failed(
                f"Ray did not start: {what}", "rayserve", "stop other programs on this host, and repeat"
            ) from error
        laps["ray"] = time.monotonic()
        from ray import serve
        from ray.serve.context import _get_global_client

        serve.start(proxy_location="HeadOnly", http_options={"host": cluster.HOST, "port": self._spec["port"]})
        self._controller = _get_global_client()._controller
        laps["serve"] = time.monotonic()
        self._run()
        details = self._wait_running()
        laps["replica"] = time.monotonic()
        self._vital = self._find_vital()
        replicas = max(1, *(running(deployment) for deployment in details.values()))
        bodies = [Path(file) for file in self._spec["warm_up"]]
        warm_up(self._spec["port"], bodies, 2 * replicas, self._spec["timeout_s"])
        laps["warm_up"] = time.monotonic()
        times = list(laps.values())
        seconds = {
            name: round(end - begin, 3) for name, begin, end in zip(list(laps)[1:], times, times[1:], strict=False)
        }
        self._emitter.ready(
            vital=self._vital, deploy_s=seconds, **cluster.facts(details, autoscaled=self._machines is not None)
        )

    def _run(self) -> None:
        from ray import serve

        from mlscale.environments.rayserve.application import bind

        parts = [
            {
                "name": part.name,
                "entry": part.entry,
                "calls": part.calls,
                "options": cluster.sandboxed_options(part.settings, part.name, part.python, part.address),
            }
            for part in self._parts
        ]
        serve.run_many(
            [serve.RunTarget(bind(parts, named_by_ray=False), name=_APP, route_prefix="/")],
            wait_for_ingress_deployment_creation=True,
            wait_for_applications_running=False,
        )

    def _wait_running(self) -> dict[str, Any]:
        """Every component's details, once all of them have their first replicas. Raises Failed."""
        deadline = time.monotonic() + self._spec["timeout_s"]
        while True:
            details = {part.name: self._details(part) for part in self._parts}
            for part in self._parts:
                part.update(details[part.name])
            if all(running(details[part.name]) >= part.settings["min_replicas"] for part in self._parts):
                return details
            for part in self._parts:
                self._check_start(part, details[part.name], late=time.monotonic() > deadline)
            self._check_vital()
            self._parts[0].drain_readings(0.1)

    def _check_start(self, part: ServeComponent, details: Any, *, late: bool) -> None:
        if "failed to start" in details.message or details.status.value in ("UNHEALTHY", "DEPLOY_FAILED"):
            # Ray would retry for ever, with the same model
            raise Failed(
                f"a replica does not start: {details.message}", f"component {part.name}", "fix the entry or its model"
            )
        if late and running(details) < part.settings["min_replicas"]:
            raise Failed(
                f"{running(details)} of {part.settings['min_replicas']} replicas run after "
                f"{self._spec['timeout_s']:g} s: {details.message}",
                f"component {part.name}",
                "give replicas more CPU (cpu_cores), or see the log lines",
            )

    def _find_vital(self) -> dict[str, int]:
        """Name -> pid of the processes that the run can't do without."""
        import ray
        from ray._private.state import actors

        assert self._cluster is not None
        details = ray.get(self._controller.get_serve_instance_details.remote(), timeout=_ANSWER_TIMEOUT_S)
        (proxy,) = details["proxies"].values()
        return {
            **self._cluster.processes,
            "controller": int(ray.get(self._controller.get_pid.remote(), timeout=_ANSWER_TIMEOUT_S)),
            "proxy": int(actors(proxy["actor_id"])["Pid"]),
        }

    def watch(self) -> None:
        """Report until standard input ends. Raises Failed."""
        selector = selectors.DefaultSelector()
        for part in self._parts:
            selector.register(part.readings, selectors.EVENT_READ)
        if self._machines:
            selector.register(self._machines.reports, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select(_POLL_S):
                if key.fileobj is sys.stdin and not os.read(key.fd, 4096):
                    return
            self._check_vital()
            if self._machines:
                self._machines.update()
            for part in self._parts:
                part.drain_readings(0)
                self._observe(part)

    def _observe(self, part: ServeComponent) -> None:
        """List the replicas if that is due, and report processes that have ended."""
        now = time.monotonic()
        gone = [replica for pid, replica in part.replicas.pids.items() if not alive(pid)]
        if gone or now - part.last_list >= (_CHANGING_S if part.changing else _STEADY_S):
            self._list(part, now)
        for replica in gone:
            part.replicas.process_ended(replica, now, part.last_look)
        part.last_look = now

    def _list(self, part: ServeComponent, now: float) -> None:
        from ray.exceptions import RayError

        try:
            part.update(self._details(part))
        except (RayError, TimeoutError) as error:
            self._check_vital()
            if now - part.last_list > _HUNG_AFTER_S:
                raise Failed(
                    f"the Serve controller does not answer: {error}",
                    "rayserve",
                    "the run can't be completed; repeat it",
                ) from error

    def _details(self, part: ServeComponent) -> Any:
        import ray

        return ray.get(self._controller.get_deployment_details.remote(_APP, part.name), timeout=_ANSWER_TIMEOUT_S)

    def _check_vital(self) -> None:
        ended = self._cluster.ended() if self._cluster else None
        ended = ended or next((name for name, pid in self._vital.items() if not alive(pid)), None)
        if ended is not None:
            raise Failed(f"Ray's {ended} has ended", "rayserve", "the run can't be completed; repeat it")

    def close(self) -> None:
        if self._cluster is not None:
            self._cluster.kill()


def listener(address: str) -> socket.socket:
    """A Unix datagram socket."""
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind(address)
    return bound


def received(source: socket.socket, wait_s: float) -> Iterator[Any]:
    """Pending datagrams, as JSON; waits up to ``wait_s`` for the first."""
    source.settimeout(wait_s)
    while True:
        try:
            data = source.recv(4096)
        except (BlockingIOError, TimeoutError):
            return
        source.setblocking(False)
        yield json.loads(data)


def running(details: Any) -> int:
    """Number of running replicas in a component's DeploymentDetails."""
    return sum(replica.state.value == "RUNNING" for replica in details.replicas)


def alive(pid: int) -> bool:
    """Whether the process is running (a zombie is not)."""
    if Path("/proc/self").exists():
        return runs(pid)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def process_started(pid: int) -> float | None:
    """time.monotonic() when the process was started, to 10 ms; None if it has ended.

    Not with psutil: its create_time() derives from a boot time in whole seconds.
    """
    fields = stat_fields(pid)
    if fields is None:
        return None
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK") - since_boot


def warm_up(port: int, files: Sequence[Path], times: int, timeout_s: float) -> None:
    """POST every file ``times`` times, one after the other; the first may wait for a replica to start. Raises Failed if
    the answer is a 5xx."""
    import http.client

    for file in files:
        body = file.read_bytes()
        for _ in range(times):
            connection = http.client.HTTPConnection(cluster.HOST, port, timeout=timeout_s)
            connection.request("POST", "/", body)
            response = connection.getresponse()
            text = response.read()
            connection.close()
            if response.status >= 500:
                answer = text.decode(errors="replace")[:300]
                raise Failed(
                    f"answered {response.status}: {answer}",
                    f"warm-up body {file.name}",
                    "fix the component or the body",
                )


def main(argv: Sequence[str]) -> int:
    spec = json.loads(Path(argv[1]).read_text())
    emitter = Emitter(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)  # Ray's output goes to the log
    agent = Agent(spec, emitter)
    try:
        agent.deploy()
        agent.watch()
    except Failed as failed:
        emitter.failed(*failed.args)
        return 1
    except BrokenPipeError:
        return 0  # the parent is gone
    except Exception as error:  # the parent shows whatever Ray raises
        emitter.failed(f"{type(error).__name__}: {error}", "rayserve", "see the log lines")
        raise
    finally:
        agent.close()
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)  # Ray's exit handlers would wait for a cluster that is gone
