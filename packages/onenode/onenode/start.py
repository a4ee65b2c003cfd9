"""Starts the parts of a node, in stages, and creates the cluster's initial objects."""

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

from mlscale.atomic import write_whole
from mlscale.environments.kubernetes.conditions import condition, is_true
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.environments.machine_types import CATALOGUE
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError
from onenode.api import Api
from onenode.configure import digest_of, server_url, write_kubeconfig, write_machines
from onenode.images import pause_image, thin_image
from onenode.layout import NODE_NAME, PAUSE_IMAGE, RUNTIME_SOCKET, THIN_IMAGE, Layout
from onenode.manifests import identity, manifests, split_registrations
from onenode.node import Node
from onenode.parts import Programs, Stage, parts_of
from onenode.probes import admin_context, probe
from onenode.programs import ClusterPrograms, sources
from onenode.progress import Reporter
from onenode.settings import Settings
from onenode.waiting import wait_until

_END_GRACE_S: Final = 3.0


class Starter:
    """For one `up`, once the node's first process runs, its link is up and its configuration written."""

    def __init__(
        self, layout: Layout, node: Node, settings: Settings, built: ClusterPrograms, reporter: Reporter
    ) -> None:
        self._layout = layout
        self._node = node
        self._settings = settings
        self._built = built
        self._reporter = reporter
        self._context = admin_context(node.layout.pki)
        self._api = Api(server_url(settings), self._context)
        programs = _with_working_iptables(node, built.programs)
        self._parts = parts_of(layout, settings, programs)
        self._kubelet_since_s = 0.0
        """Wall clock of the kubelet's start, s; 0 if it was running already."""

    def start(self) -> None:
        """Run all stages. Raises MlscaleError naming the part that does not come up."""
        if self._settings.machines:
            write_machines(self._layout, self._built.programs, CATALOGUE.read_text(), platform.machine())
        early, late = split_registrations(self._manifests())
        self._stage("first", "starting etcd, containerd and the API server (about 8 s left)")
        self._wait_healthy("containerd")
        self._import_images()
        self._wait_healthy("kube-apiserver")
        self._define_kinds()
        for manifest in early:
            self._wait(f"{manifest['kind']} to be accepted", "kube-apiserver", partial(self._apply, manifest))
        self._stage("api", "starting controllers, scheduler, kubelet and proxy (about 4 s left)")
        self._wait("the node to be Ready", "kubelet", self._node_ready)
        self._stage("node", "starting the metrics servers (about 2 s left)")
        for part in self._parts:
            self._wait_healthy(part.name)
        for manifest in late:
            self._api.apply(manifest)
            path, part = path_of_object(manifest), manifest["spec"]["service"]["name"]
            self._wait(f"{path} to be Available", part, partial(self._condition_true, path, "Available"))
        account = path_of("ServiceAccount", "default", "default")
        self._wait("the default service account", "kube-controller-manager", lambda: self._api.get(account) is not None)
        write_kubeconfig(self._layout, self._settings)

    def _stage(self, stage: Stage, message: str) -> None:
        """Start the parts of a stage that do not run, or run with another configuration."""
        reported = False
        for part in self._parts:
            if part.stage != stage:
                continue
            digest, record = digest_of(part, self._node.layout), self._node.record(part.name)
            if record is not None and record.alive:
                if record.digest == digest:
                    continue
                self._node.end_part(part.name, _END_GRACE_S)
            if not reported:
                self._reporter.say(message)
                reported = True
            if part.name == "kubelet":
                self._kubelet_since_s = time.time()
            self._node.start(part, digest)

    def _wait_healthy(self, name: str) -> None:
        part = next(part for part in self._parts if part.name == name)
        init = self._init()
        self._wait(f"{name} to become healthy", name, lambda: probe(init.pid, part.probe, self._context) is None)

    def _import_images(self) -> None:
        """Import both images if containerd lacks them, or has other versions."""
        machine, node = platform.machine(), self._node
        archives = {
            PAUSE_IMAGE: pause_image(PAUSE_IMAGE, machine, self._built.pause.read_bytes()),
            THIN_IMAGE: thin_image(THIN_IMAGE, machine),
        }
        ctr = [self._built.programs["ctr"], "--address", RUNTIME_SOCKET, "--namespace", "k8s.io", "images"]
        imported = node.run([*ctr, "list", "--quiet"]).split()
        for image, archive in archives.items():
            file = node.layout.data / "images" / f"{image.rpartition('/')[2].replace(':', '-')}.tar"
            if write_whole(file, archive) or image not in imported:
                node.run([*ctr, "import", str(file)])

    def _define_kinds(self) -> None:
        """Create the CustomResourceDefinitions of KEDA, its add-on and Karpenter, and KEDA's ClusterRole."""
        for definition in (each for file in self._built.definitions for each in yaml.safe_load_all(file.read_text())):
            if definition["kind"] not in ("CustomResourceDefinition", "ClusterRole"):
                continue  # KEDA's role for electing a leader
            self._api.apply(definition)
            if definition["kind"] == "CustomResourceDefinition":
                path, name = path_of_object(definition), definition["metadata"]["name"]
                established = partial(self._condition_true, path, "Established")
                self._wait(f"{name} to be Established", "kube-apiserver", established)

    def _apply(self, manifest: dict[str, Any]) -> bool:
        """Returns True, for `_wait`: an object of a new kind is refused for a moment."""
        self._api.apply(manifest)
        return True

    def _manifests(self) -> list[dict[str, Any]]:
        bundle = base64.b64encode((self._node.layout.pki / "ca.crt").read_bytes()).decode()
        objects = manifests(sources() / "manifests", node_address=self._settings.node_address, ca_bundle=bundle)
        if self._settings.machines:
            objects += manifests(sources() / "machines/manifests")
        if self._settings.zero:
            objects += manifests(sources() / "http-add-on/manifests", node_address=self._settings.node_address)
        return [*objects, identity(self._settings, self._init(), self._layout, self._node.groups)]

    def _node_ready(self) -> bool:
        """Whether the running kubelet has reported Ready. An earlier kubelet's report stays in the API for a while."""
        ready = condition(self._api.get(path_of("Node", NODE_NAME)), "Ready")
        if ready.get("status") != "True":
            return False
        return datetime.datetime.fromisoformat(ready["lastHeartbeatTime"]).timestamp() >= int(self._kubelet_since_s)

    def _condition_true(self, path: str, kind: str) -> bool:
        return is_true(self._api.get(path), kind)

    def _init(self) -> ProcessIdentity:
        init = self._node.init
        if init is None:
            raise MlscaleError("the node has ended", "its first process", "mlscale cluster up")
        return init

    def _wait(self, what: str, part: str, ready: Callable[[], bool]) -> None:
        wait_until(self._node, part, what, ready)


def _with_working_iptables(node: Node, programs: Programs) -> Programs:
    """iptables over nf_tables, or over x_tables if the kernel lacks those. The machine's own iptables is kept."""
    file = programs.paths["iptables"]
    legacy = file.parent.with_name("old-names")
    if not legacy.is_dir():
        return programs
    try:
        node.run([str(file), "--table", "nat", "--list-rules"], programs.environment)
    except MlscaleError:
        return replace(
            programs, environment={**programs.environment, "PATH": f"{legacy}:{programs.environment['PATH']}"}
        )
    return programs
