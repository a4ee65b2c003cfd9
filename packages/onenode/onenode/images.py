"""The two images of the cluster, as archives that ``ctr images import`` takes. Pure.

"thin" is nearly empty: a pod mounts the host's programs into it (see `mlscale.host.interpreter`). "pause" holds a pod's
namespaces open. The archives are reproducible.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlscale.runs import MlscaleError

_ARCHITECTURES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64"}
_NOBODY: Final = 65534
_USERS: Final = (
    f"root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:{_NOBODY}:{_NOBODY}:nobody:/nonexistent:/usr/sbin/nologin\n"
)
_GROUPS: Final = f"root:x:0:\nnogroup:x:{_NOBODY}:\n"


def architecture(machine: str) -> str:
    """Go's name for a `platform.machine`. Raises MlscaleError for unsupported ones."""
    if machine not in _ARCHITECTURES:
        raise MlscaleError(f"no cluster for {machine}", "make cluster", f"use one of {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine]


def thin_image(name: str, machine: str) -> bytes:
    """An image with users, an empty /tmp and the links of a merged /usr; programs are mounted from the host."""
    files = {"etc/passwd": _USERS.encode(), "etc/group": _GROUPS.encode()}
    links = {"bin": "usr/bin", "sbin": "usr/sbin"}
    return _archive(name, _layer(files, ("etc", "tmp", "usr"), links), machine, ())


def pause_image(name: str, machine: str, program: bytes) -> bytes:
    """An image of one program, run as nobody."""
    return _archive(name, _layer({"pause": program}, (), {}), machine, ("/pause",))


def _archive(name: str, layer: bytes, machine: str, entrypoint: Sequence[str]) -> bytes:
    config: dict[str, Any] = {
        "architecture": architecture(machine),
        "os": "linux",
        "config": {"User": f"{_NOBODY}:{_NOBODY}", **({"Entrypoint": list(entrypoint)} if entrypoint else {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [],
    }
    content = json.dumps(config).encode()
    config_name = f"{hashlib.sha256(content).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    files = {config_name: content, "layer.tar": layer, "manifest.json": json.dumps(manifest).encode()}
    return _layer(files, (), {}, mode=0o644)


def _layer(files: Mapping[str, bytes], folders: Sequence[str], links: Mapping[str, str], mode: int = 0o755) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            archive.addfile(entry)
        for name, target in links.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644 if name.startswith("etc/") else mode
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()
