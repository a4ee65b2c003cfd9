"""Bringing the parts of a node up, in stages, and what the cluster holds from the start."""

from __future__ import annotations

import base64
import datetime
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Final

import yaml

from mlscale.environments.machine_types import CATALOGUE
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError
from onenode.api import Api, path_of
from onenode.atomic_files import write_whole
from onenode.conditions import condition
from onenode.configure import digest_of, server_url, write_kubeconfig, write_machines
from onenode.images import pause_image, thin_image
from onenode.layout import NODE_NAME, PAUSE_IMAGE, RUNTIME_SOCKET, THIN_IMAGE, Layout
from onenode.manifests import identity, manifests, registration_last
from onenode.node import Node
from onenode.parts import Programs, Stage, parts_of
from onenode.probes import admin_context, probe
from onenode.programs import Everything, sources
from onenode.progress import Reporter
from onenode.settings import Settings
from onenode.waiting import wait_until

_END_GRACE_S: Final = 3.0


class Starter:
    """For one `up`: the node's first process runs, its link stands, its configuration is written."""

    def __init__(
        self, layout: Layout, node: Node, settings: Settings, everything: Everything, reporter: Reporter
    ) -> None:
        self._layout = layout
        self._node = node
        self._settings = settings
        self._everything = everything
        self._reporter = reporter
        self._context = admin_context(node.layout.pki)
        self._api = Api(server_url(settings), self._context)
        programs = _with_filter_that_works(node, everything.programs)
        self._parts = parts_of(layout, settings, programs)
        self._kubelet_since_s = 0.0
        """Wall clock of the kubelet's start, s; 0 where it ran already."""

    def start(self) -> None:
        """All stages. Raises MlscaleError naming the part that does not come up."""
        if self._settings.machines:
            write_machines(self._layout, self._everything.programs, CATALOGUE.read_text(), platform.machine())
        early, late = registration_last(self._manifests())
        self._stage("first", "starting etcd, containerd and the API server (about 8 s left)")
        self._answers("containerd")
        self._images()
        self._answers("kube-apiserver")
        self._define()
        for manifest in early:
            self._wait(f"{manifest['kind']} to be taken", "kube-apiserver", partial(self._applied, manifest))
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
        write_kubeconfig(self._layout, self._settings)

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

    def _define(self) -> None:
        """The kinds of objects that Karpenter adds."""
        for file in self._everything.definitions:
            definition = yaml.safe_load(file.read_text())
            self._api.apply(definition)
            path = path_of(definition)
            self._wait(f"{file.stem} to be Established", "kube-apiserver", partial(self._is, path, "Established"))

    def _applied(self, manifest: dict[str, Any]) -> bool:
        """Also where its kind has only just been defined, and is refused for a moment."""
        self._api.apply(manifest)
        return True

    def _manifests(self) -> list[dict[str, Any]]:
        bundle = base64.b64encode((self._node.layout.pki / "ca.crt").read_bytes()).decode()
        objects = manifests(sources() / "manifests", node_address=self._settings.node_address, ca_bundle=bundle)
        if self._settings.machines:
            objects += manifests(sources() / "machines/manifests")
        return [*objects, identity(self._settings, self._init(), self._layout, self._node.groups)]

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
        wait_until(self._node, part, what, ready)


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
