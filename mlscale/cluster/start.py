"""Bringing the parts of a node up, in stages, and what the cluster holds from the start."""

from __future__ import annotations

import base64
import datetime
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from mlscale.cluster.api import Api, condition
from mlscale.cluster.configure import digest_of, server_url, write_kubeconfig
from mlscale.cluster.files import write_whole
from mlscale.cluster.images import pause_image, thin_image
from mlscale.cluster.inside import admin_context, probe
from mlscale.cluster.layout import NODE_NAME, PAUSE_IMAGE, RUNTIME_SOCKET, THIN_IMAGE
from mlscale.cluster.manifests import identity, manifests, registration_last
from mlscale.cluster.node import Node
from mlscale.cluster.parts import Programs, Stage, parts_of
from mlscale.cluster.programs import Everything, sources
from mlscale.cluster.progress import Reporter
from mlscale.cluster.settings import Settings
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError

_PART_AT_MOST_S: Final = 120.0
_POLL_S: Final = 0.05
_END_GRACE_S: Final = 3.0
_LOG_TAIL_BYTES: Final = 4096


class Starter:
    """For one `up`: the node's first process runs, its link stands, its configuration is written."""

    def __init__(self, node: Node, settings: Settings, everything: Everything, reporter: Reporter) -> None:
        self._node = node
        self._settings = settings
        self._everything = everything
        self._reporter = reporter
        self._context = admin_context(node.layout.pki)
        self._api = Api(server_url(settings), self._context)
        programs = _with_filter_that_works(node, everything.programs)
        self._parts = parts_of(node.layout, settings, programs)
        self._kubelet_since_s = 0.0
        """Wall clock of the kubelet's start, s; 0 where it ran already."""

    def start(self) -> None:
        """All stages. Raises MlscaleError naming the part that does not come up."""
        early, late = registration_last(self._manifests())
        self._stage("first", "starting etcd, containerd and the API server (about 8 s left)")
        self._answers("containerd")
        self._images()
        self._answers("kube-apiserver")
        for manifest in early:
            self._api.apply(manifest)
        self._stage("api", "starting controllers, scheduler, kubelet and proxy (about 4 s left)")
        self._wait("the node to be Ready", "kubelet", self._node_ready)
        self._stage("node", "starting the metrics servers (about 2 s left)")
        for part in self._parts:
            self._answers(part.name)
        for manifest in late:
            self._api.apply(manifest)
            path = f"apis/apiregistration.k8s.io/v1/apiservices/{manifest['metadata']['name']}"
            part = manifest["spec"]["service"]["name"]
            self._wait(f"{path} to be Available", part, partial(self._is, path, "Available"))
        self._wait("the default service account", "kube-controller-manager", self._accounts)
        write_kubeconfig(self._node.layout, self._settings)

    def _stage(self, stage: Stage, saying: str) -> None:
        """Start the parts of a stage that do not run, or run with something else."""
        told = False
        for part in self._parts:
            if part.stage != stage:
                continue
            digest, record = digest_of(part, self._node.layout), self._node.record(part.name)
            if record is not None and record.alive:
                if record.digest == digest:
                    continue
                self._node.end_part(part.name, _END_GRACE_S)
            if not told:
                self._reporter.say(saying)
                told = True
            if part.name == "kubelet":
                self._kubelet_since_s = time.time()
            self._node.start(part, digest)

    def _answers(self, name: str) -> None:
        part = next(part for part in self._parts if part.name == name)
        init = self._init()
        self._wait(f"{name} to answer", name, lambda: probe(init.pid, part.probe, self._context) is None)

    def _images(self) -> None:
        """Import both images where containerd has not got them, or has others."""
        machine, node = platform.machine(), self._node
        archives = {
            PAUSE_IMAGE: pause_image(PAUSE_IMAGE, machine, self._everything.pause.read_bytes()),
            THIN_IMAGE: thin_image(THIN_IMAGE, machine),
        }
        ctr = [self._everything.programs["ctr"], "--address", RUNTIME_SOCKET, "--namespace", "k8s.io", "images"]
        there = node.run([*ctr, "list", "--quiet"]).split()
        for image, archive in archives.items():
            file = node.layout.data / "images" / f"{image.rpartition('/')[2].replace(':', '-')}.tar"
            if write_whole(file, archive) or image not in there:
                node.run([*ctr, "import", str(file)])

    def _manifests(self) -> list[dict[str, Any]]:
        bundle = base64.b64encode((self._node.layout.pki / "ca.crt").read_bytes()).decode()
        objects = manifests(sources() / "manifests", node_address=self._settings.node_address, ca_bundle=bundle)
        return [*objects, identity(self._settings, self._init())]

    def _node_ready(self) -> bool:
        """Ready by the kubelet that runs now: what an earlier one reported stays in the API for a while."""
        found = self._api.get(f"api/v1/nodes/{NODE_NAME}")
        if not condition(found, "Ready"):
            return False
        beats = [one["lastHeartbeatTime"] for one in (found or {})["status"]["conditions"] if one["type"] == "Ready"]
        return datetime.datetime.fromisoformat(beats[0]).timestamp() >= int(self._kubelet_since_s)

    def _accounts(self) -> bool:
        return self._api.get("api/v1/namespaces/default/serviceaccounts/default") is not None

    def _is(self, path: str, kind: str) -> bool:
        return condition(self._api.get(path), kind)

    def _init(self) -> ProcessIdentity:
        init = self._node.init
        if init is None:
            raise MlscaleError("the node has ended", "its first process", "mlscale cluster up")
        return init

    def _wait(self, what: str, part: str, ready: Callable[[], bool]) -> None:
        """Until ``ready``; fails at once when the part has ended.

        Raises:
            MlscaleError: with the part's last words.
        """
        deadline_s = time.monotonic() + _PART_AT_MOST_S
        while True:
            try:
                if ready():
                    return
                reason = "not yet"
            except MlscaleError as error:
                reason = error.what
            record = self._node.record(part)
            ended = record is None or not record.alive
            if ended or time.monotonic() > deadline_s:
                how = "it has ended" if ended else f"waited {_PART_AT_MOST_S:g} s for {what}: {reason}"
                log = self._node.layout.log(part)
                raise MlscaleError(f"{how}; its last words: {last_words(log)}", part, f"see {log}, then try again")
            time.sleep(_POLL_S)


def last_words(log: Path) -> str:
    """The last line of a log, at most 300 characters; what is there instead where there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except FileNotFoundError:
        return "none, it never started"
    return lines[-1][:300] if lines else "none"


def _with_filter_that_works(node: Node, programs: Programs) -> Programs:
    """iptables over nf_tables where the kernel has it, else over x_tables (where the machine's own is not used)."""
    file = programs.paths["iptables"]
    old = file.parent.with_name("old-names")
    if not old.is_dir():
        return programs
    try:
        node.run([str(file), "--table", "nat", "--list-rules"], programs.environment)
    except MlscaleError:
        return replace(programs, environment={**programs.environment, "PATH": f"{old}:{programs.environment['PATH']}"})
    return programs
