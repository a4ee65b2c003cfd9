"""The list of parts, what they are configured with and what the cluster holds from the start."""

from __future__ import annotations

import base64
import io
import json
import tarfile
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from mlscale.environments.kubernetes.own_cluster import OwnNode, read_config_map
from mlscale.environments.kubernetes.paths import path_of_object
from mlscale.host.cgroups import MountPoint
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError
from onenode.certificates import KeyPair
from onenode.configure import digest_of, write_configuration
from onenode.images import architecture, pause_image, thin_image
from onenode.layout import PAUSE_IMAGE, THIN_IMAGE, Layout
from onenode.manifests import identity, manifests, split_registrations
from onenode.node_cgroups import NodeGroups
from onenode.parts import KUBECONFIG_USERS, Programs, parts_of
from onenode.programs import sources
from onenode.render import containerd_config, kubeconfig, kubelet_config, pod_network
from onenode.settings import Settings

SETTINGS = Settings("10.213.0.1", "10.213.0.2")
LAYOUT = Layout(Path("/s/default"))
PROGRAMS = Programs({}, Path("/plugins"), {"PATH": "/usr/bin"})


def test_names_and_listening_ports_are_each_one_s_own() -> None:
    parts = parts_of(Layout(Path("/s/default")), SETTINGS, PROGRAMS)
    assert len({part.name for part in parts}) == len(parts)
    ports = [part.probe.port for part in parts if part.probe.kind != "unix"]
    assert len(set(ports)) == len(ports)


def test_what_starts_later_depends_on_what_starts_first() -> None:
    stages = [part.stage for part in parts_of(Layout(Path("/s/default")), SETTINGS, PROGRAMS)]
    assert stages == sorted(stages, key=["first", "api", "node"].index)


def test_every_part_listens_on_loopback_or_the_node_alone() -> None:
    for part in parts_of(Layout(Path("/s/default")), SETTINGS, PROGRAMS):
        assert not any("0.0.0.0" in word or "[::]" in word for word in part.argv)
        assert part.probe.kind == "unix" or part.probe.address in ("127.0.0.1", SETTINGS.node_address)


def test_all_files_that_arguments_name_are_written(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "default")
    write_configuration(layout, SETTINGS, PROGRAMS)
    for part in parts_of(layout, SETTINGS, PROGRAMS):
        for word in part.argv:
            file = Path(word.rpartition("=")[2])
            if file.is_relative_to(layout.conf) or file.is_relative_to(layout.pki):
                assert file.is_dir() if word.startswith("--cert-dir=") else file.is_file(), f"{part.name}: {word}"
    assert not layout.kubeconfig.exists()
    assert all((layout.conf / f"{user}.kubeconfig").stat().st_mode & 0o077 == 0 for user in KUBECONFIG_USERS)


def test_a_part_is_started_again_when_its_configuration_changes_and_only_then(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "default")

    def digests(settings: Settings) -> dict[str, str]:
        write_configuration(layout, settings, PROGRAMS)
        return {part.name: digest_of(part, layout) for part in parts_of(layout, settings, PROGRAMS)}

    first = digests(SETTINGS)
    assert digests(SETTINGS) == first
    other = digests(replace(SETTINGS, cfs_period_s=0.01))
    assert {name for name in first if first[name] != other[name]} == {"kubelet"}


def test_the_kubelet_checks_who_asks_and_keeps_the_default_period() -> None:
    config = json.loads(kubelet_config(LAYOUT, LAYOUT.pki / "ca.crt", SETTINGS.node_address, SETTINGS.cfs_period_s))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"]["mode"] == "Webhook"
    assert config["readOnlyPort"] == 0
    assert "cpuCFSQuotaPeriod" not in config


def test_another_period_needs_its_gate() -> None:
    config = json.loads(kubelet_config(LAYOUT, LAYOUT.pki / "ca.crt", SETTINGS.node_address, 0.01))
    assert config["cpuCFSQuotaPeriod"] == "10000us"
    assert config["featureGates"] == {"CustomCPUCFSQuotaPeriod": True}


def test_containerd_s_configuration_is_toml() -> None:
    config = tomllib.loads(containerd_config(Layout(Path('/s "x"/default')), "/plugins", "/bin/runc", "overlayfs"))
    assert config["plugins"]["io.containerd.grpc.v1.cri"]["cni"]["conf_dir"] == '/s "x"/default/conf/cni'
    runtime = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["containerd"]["runtimes"]["runc"]["options"]["BinaryName"] == "/bin/runc"


def test_a_kubeconfig_holds_all_it_needs() -> None:
    text = kubeconfig("https://10.213.0.2:6443", b"CA", "admin", KeyPair(b"CERT", b"KEY"))
    config = json.loads(text)
    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]) == b"CA"
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == b"KEY"
    assert config["contexts"][0]["context"] == {"cluster": "mlscale", "user": "admin"}


def test_pods_are_routed() -> None:
    assert [plugin["type"] for plugin in json.loads(pod_network(LAYOUT.pod_cidr))["plugins"]] == ["ptp", "portmap"]


def test_manifests_are_objects_the_client_knows_with_everything_filled_in() -> None:
    objects = manifests(sources() / "manifests", node_address="10.213.0.2", ca_bundle="Q0E=")
    assert all(f"/{one['apiVersion']}/" in path_of_object(one) for one in objects)
    assert "${" not in json.dumps(objects)
    early, late = split_registrations(objects)
    assert [one["metadata"]["name"] for one in late] == ["v1beta1.external.metrics.k8s.io", "v1beta1.metrics.k8s.io"]
    assert len(early) + len(late) == len(objects)
    with pytest.raises(KeyError):
        manifests(sources() / "manifests", node_address="10.213.0.2")


def test_the_cluster_says_whose_it_is() -> None:
    init, folder = ProcessIdentity(7, "99", "boot", "pid:[1]"), Path("/sys/fs/cgroup")
    groups = NodeGroups(2, (MountPoint(folder, "cgroup2", ()),), LAYOUT.cgroup)
    own = read_config_map(identity(SETTINGS, init, LAYOUT, groups))
    assert own == OwnNode(THIN_IMAGE, PAUSE_IMAGE, init, "10.213.0.2", 2, (folder / LAYOUT.cgroup,), LAYOUT.records)
    assert not own.here, "a process of another boot"
    with pytest.raises(MlscaleError, match="make cluster"):
        read_config_map({"data": {"format": "1"}})


def test_images_are_the_same_bytes_each_time_and_hold_what_they_say() -> None:
    archive = pause_image("localhost/x:1", "x86_64", b"\x7fELF")
    assert archive == pause_image("localhost/x:1", "x86_64", b"\x7fELF")
    with tarfile.open(fileobj=io.BytesIO(archive)) as outer:
        manifest = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(outer.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]
        layer = outer.extractfile(manifest[0]["Layers"][0]).read()  # type: ignore[union-attr]
    assert config["config"]["Entrypoint"] == ["/pause"]
    assert config["config"]["User"] == "65534:65534"
    with tarfile.open(fileobj=io.BytesIO(layer)) as inner:
        assert inner.getmember("pause").mode == 0o755
    assert len(thin_image("localhost/x:1", "aarch64")) < 30_000


def test_no_image_for_a_machine_that_nothing_is_built_for() -> None:
    with pytest.raises(MlscaleError, match="riscv64"):
        architecture("riscv64")
