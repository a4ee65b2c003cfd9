"""What a build needs of a go.mod: the pinned programs and versions, and the Go version required. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from mlscale.runs import MlscaleError

Version = tuple[int, ...]
KEDA: Final = "github.com/kedacore/keda/v2"


@dataclass(frozen=True, slots=True)
class GoModule:
    """``tools``: import paths of programs; ``go``: the oldest Go that builds it; ``versions``: module -> version;
    ``folder_of``: the module in whose own folder the programs are built; empty: in that of this go.mod."""

    tools: tuple[str, ...]
    go: Version
    versions: Mapping[str, str]
    folder_of: str = ""


def parse_module(text: str) -> GoModule:
    """Parse a go.mod. Raises MlscaleError if it names no Go version."""
    go = re.search(r"^go (\S+)$", text, re.MULTILINE)
    if go is None:
        raise MlscaleError("no line 'go VERSION'", "go.mod", "restore it from the repository")
    tools = [
        path for block in re.findall(r"^tool \((.*?)^\)", text, re.MULTILINE | re.DOTALL) for path in block.split()
    ]
    tools += re.findall(r"^tool ([^\s(]+)$", text, re.MULTILINE)
    versions = dict(re.findall(r"^(?:require )?\s*(\S+\.\S+/\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))
    own = re.search(r"^// built in the folder of ([^\s,]+)", text, re.MULTILINE)
    return GoModule(tuple(tools), parse_version(go[1]), versions, own[1] if own else "")


def parse_version(text: str) -> Version:
    """(1, 24, 4) of "1.24.4", "go1.24.4" or the output of ``go version``; empty if there is none."""
    match = re.search(r"(?:^|go)(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in match[1].split(".")) if match else ()


def version_flags(module: GoModule) -> str:
    """-ldflags that give Kubernetes' and KEDA's programs their version (else v0.0.0, main); empty for others."""
    if KEDA in module.versions:
        return f"-X {KEDA}/version.Version={module.versions[KEDA].removeprefix('v')}"
    version = module.versions.get("k8s.io/kubernetes")
    if version is None:
        return ""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    names = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in names.items())
