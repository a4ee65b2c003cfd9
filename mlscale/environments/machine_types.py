"""Machine types as data (machine_types.json): size, price, and how long a virtual machine takes to boot. Pure.

Only one thing is simulated about a rehearsal's machine: the time from its request until its programs start, which is
drawn from a `BootTimes` that names its source.
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
# Reserved on every machine for its own programs, as by Karpenter's kwok provider (kwok/cloudprovider/helpers.go).
RESERVED_CORES: Final = 0.1
RESERVED_MIB: Final = 10
ZONE: Final = "rehearsal-a"
CAPACITY_TYPE: Final = "on-demand"
_CONSTANT: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


@dataclass(frozen=True, slots=True)
class MachineType:
    """``cpu_cores`` and ``memory_mib`` limit everything on the machine; pods get `RESERVED_CORES` and `RESERVED_MIB`
    less."""

    name: str
    cpu_cores: float
    memory_mib: int
    pods: int
    usd_per_hour: float

    @property
    def on_ec2(self) -> bool:
        """Whether it is a real EC2 type, as opposed to one invented for the rehearsal."""
        return not self.name.startswith("rehearsal.")

    @property
    def visible_cores(self) -> int:
        """Cores that the kubelet sees, a whole number. Those beyond the type's cores are reserved."""
        return max(1, math.ceil(self.cpu_cores))

    @property
    def reserved_cores(self) -> float:
        """Cores that the kubelet must reserve of those it sees."""
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
    """How long machines take to boot: each draws one of ``samples_s``. ``source`` and ``date``: who measured them, and
    when."""

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
    """Machine types and boot times by name."""

    types: Mapping[str, MachineType]
    boot_times: Mapping[str, BootTimes]
    price: Mapping[str, str]

    @classmethod
    def from_json(cls, text: str) -> Catalogue:
        """Parse machine_types.json. Raises MlscaleError if ``text`` is not a valid catalogue."""
        try:
            data = json.loads(text)
            types = [MachineType(**row) for row in data["types"]]
            boots = [BootTimes(**{**row, "samples_s": tuple(row["samples_s"])}) for row in data["boot_times"]]
            price = {str(key): str(value) for key, value in data["price"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MlscaleError(f"malformed: {error!r}", "machine types", "fix machine_types.json") from error
        if any(kind.cpu_cores <= RESERVED_CORES or kind.memory_mib <= RESERVED_MIB for kind in types):
            raise MlscaleError("a machine has no room for pods", "machine types", "raise cpu_cores or memory_mib")
        if any(not boot.samples_s or min(boot.samples_s) < 0 for boot in boots):
            raise MlscaleError("boot times are missing or negative", "machine types", "fix samples_s")
        return cls({kind.name: kind for kind in types}, {boot.name: boot for boot in boots}, price)

    def boot_times_of(self, text: str) -> BootTimes:
        """The boot times called ``text``, or a constant such as "10s".

        Raises:
            MlscaleError: ``text`` is neither.
        """
        if text in self.boot_times:
            return self.boot_times[text]
        match = _CONSTANT.fullmatch(text)
        if match is None:
            known = ", ".join(self.boot_times)
            raise MlscaleError(
                f"unknown boot times {text!r}", "boot", f"choose one of {known}, or a constant such as 10s"
            )
        seconds = float(match[1]) * (0.001 if match[2] == "ms" else 1.0)
        return BootTimes(text, (seconds,), "a constant, chosen for the experiment", "by definition", "")

    def as_kwok(self, architecture: str) -> str:
        """Karpenter's file of instance types."""
        return json.dumps([kind.as_kwok(architecture) for kind in self.types.values()], indent=2)


def catalogue() -> Catalogue:
    """The catalogue that comes with mlscale."""
    return Catalogue.from_json(CATALOGUE.read_text())
