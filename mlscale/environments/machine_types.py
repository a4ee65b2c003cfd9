"""Machine types as data (machine_types.json): size, price, how long a virtual machine takes to boot. Pure.

A machine of the rehearsal is real but for one thing, the time from its being asked for until its programs start: that
is drawn from a `BootTimes`, each of which names its source.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.runs import MlscaleError

# The types and boot times that come with mlscale.
CATALOGUE: Final = Path(__file__).with_suffix(".json")
RESERVED_CORES: Final = 0.1
# Of every machine, for its own programs: what Karpenter's kwok provider takes off (kwok/cloudprovider/helpers.go).
RESERVED_MIB: Final = 10
ZONE: Final = "rehearsal-a"
CAPACITY_TYPE: Final = "on-demand"
_CONSTANT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class MachineType:
    """``cpu_cores`` and ``memory_mib`` are limits that hold for everything on the machine; pods get `RESERVED_CORES`
    and `RESERVED_MIB` less."""

    name: str
    cpu_cores: float
    memory_mib: int
    pods: int
    usd_per_hour: float

    @property
    def visible_cores(self) -> int:
        """Cores that the kubelet finds: whole ones, of which it then reserves what the type has not."""
        return max(1, math.ceil(self.cpu_cores))

    @property
    def reserved_cores(self) -> float:
        """What the kubelet has to reserve of the cores that it finds."""
        return self.visible_cores - self.cpu_cores + RESERVED_CORES

    def as_kwok(self, architecture: str) -> dict[str, Any]:
        """As Karpenter's kwok provider reads it (``--instance-types-file-path``)."""
        requirements = [
            {"key": "karpenter.sh/capacity-type", "operator": "In", "values": [CAPACITY_TYPE]},
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": [ZONE]},
        ]
        return {
            "name": self.name,
            "offerings": [{"Price": self.usd_per_hour, "Available": True, "Requirements": requirements}],
            "architecture": architecture,
            "operatingSystems": ["linux"],
            "resources": {
                "cpu": f"{round(self.cpu_cores * 1000)}m",
                "memory": f"{self.memory_mib}Mi",
                "pods": str(self.pods),
                "ephemeral-storage": "20Gi",
            },
        }


@dataclass(frozen=True, slots=True)
class BootTimes:
    """How long machines take to boot: one of ``samples_s``, drawn anew for each. ``source`` and ``date`` say who
    measured them, and when."""

    name: str
    samples_s: tuple[float, ...]
    what: str
    source: str
    date: str

    def draw(self, key: str) -> float:
        """One of the samples, s; the same ``key`` draws the same one."""
        digest = hashlib.sha256(f"{self.name}/{key}".encode()).digest()
        return self.samples_s[int.from_bytes(digest[:8]) % len(self.samples_s)]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything that can be asked for, by name."""

    types: Mapping[str, MachineType]
    boot_times: Mapping[str, BootTimes]
    price: Mapping[str, str]

    @classmethod
    def from_json(cls, text: str) -> Catalogue:
        """Raises MlscaleError where ``text`` is no catalogue."""
        try:
            data = json.loads(text)
            types = [MachineType(**each) for each in data["types"]]
            boots = [BootTimes(**{**each, "samples_s": tuple(each["samples_s"])}) for each in data["boot_times"]]
            price = {str(key): str(value) for key, value in data["price"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MlscaleError(f"it is broken: {error!r}", "machine types", "fix machine_types.json") from error
        if any(each.cpu_cores <= RESERVED_CORES or each.memory_mib <= RESERVED_MIB for each in types):
            raise MlscaleError("a machine has no room for pods", "machine types", "raise cpu_cores or memory_mib")
        if any(not each.samples_s or min(each.samples_s) < 0 for each in boots):
            raise MlscaleError("boot times without samples, or below 0", "machine types", "fix samples_s")
        return cls({each.name: each for each in types}, {each.name: each for each in boots}, price)

    def boot_times_of(self, text: str) -> BootTimes:
        """The boot times called ``text``, or a constant such as "10s".

        Raises:
            MlscaleError: neither.
        """
        if text in self.boot_times:
            return self.boot_times[text]
        found = _CONSTANT.fullmatch(text)
        if found is None:
            known = ", ".join(self.boot_times)
            raise MlscaleError(
                f"unknown boot times {text!r}", "boot", f"choose one of {known}, or a constant such as 10s"
            )
        seconds = float(found[1]) * (0.001 if found[2] == "ms" else 1.0)
        return BootTimes(text, (seconds,), "a constant, chosen for the experiment", "by definition", "")

    def as_kwok(self, architecture: str) -> str:
        """The file of instance types for Karpenter."""
        return json.dumps([each.as_kwok(architecture) for each in self.types.values()], indent=2)


def catalogue() -> Catalogue:
    """What is in `CATALOGUE`."""
    return Catalogue.from_json(CATALOGUE.read_text())
