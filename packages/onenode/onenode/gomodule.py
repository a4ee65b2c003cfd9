"""A go.mod as far as a build needs it: which programs it pins, at which version, and the Go it takes. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlscale.runs import MlscaleError

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GoModule:
    """``tools``: import paths of programs; ``go``: the oldest Go that builds it; ``versions``: module -> version."""

    tools: tuple[str, ...]
    go: Version
    versions: Mapping[str, str]


def parse_module(text: str) -> GoModule:
    """Raises MlscaleError where ``text`` names no Go version."""
    found = re.search(r"^go (\S+)$", text, re.MULTILINE)
    if found is None:
        raise MlscaleError("no line 'go VERSION'", "go.mod", "take it from the repository again")
    tools = [
        path for block in re.findall(r"^tool \((.*?)^\)", text, re.MULTILINE | re.DOTALL) for path in block.split()
    ]
    tools += re.findall(r"^tool ([^\s(]+)$", text, re.MULTILINE)
    versions = dict(re.findall(r"^(?:require )?\s*(\S+\.\S+/\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))
    return GoModule(tuple(tools), parse_version(found[1]), versions)


def parse_version(text: str) -> Version:
    """(1, 24, 4) of "1.24.4", "go1.24.4" or what ``go version`` prints; empty where there is none."""
    found = re.search(r"(?:^|go)(\d+(?:\.\d+)+)", text)
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def version_flags(module: GoModule) -> str:
    """-ldflags that make Kubernetes' programs say their version (without them they say v0.0.0); empty for others."""
    version = module.versions.get("k8s.io/kubernetes")
    if version is None:
        return ""
    major, minor, _ = version.removeprefix("v").split(".", 2)
    names = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in names.items())
