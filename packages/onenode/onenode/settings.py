"""The settings that a stopped cluster keeps: addresses, the kubelet's CFS period, the HPA's sync period."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple, Self

from mlscale.runs import MlscaleError
from mlscale.runs.clock import go_duration_s

DEFAULT_CFS_PERIOD_S: Final = 0.1
DEFAULT_HPA_SYNC_S: Final = 15.0
# The node's link is a /30 of it that overlaps no route of the host.
_LINKS: Final = ipaddress.IPv4Network("10.213.0.0/16")


@dataclass(frozen=True, slots=True)
class Settings:
    """``host_address`` and ``node_address`` are the two ends of the node's link, a network of 4 addresses (/30)."""

    host_address: str
    node_address: str
    cfs_period_s: float = DEFAULT_CFS_PERIOD_S
    machines: bool = False
    """Whether machines join and leave (Karpenter, and the daemon that creates them)."""
    hpa_sync_s: float = DEFAULT_HPA_SYNC_S
    """Sync period of the HorizontalPodAutoscaler's controller."""
    zero: bool = False
    """Whether KEDA's HTTP add-on holds requests while nothing runs; it needs a DNS server, which runs beside it."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The inverse of `to_json`. Raises MlscaleError if ``text`` is broken."""
        try:
            data = json.loads(text)
            addresses = str(data["host_address"]), str(data["node_address"])
            sync_s = float(data.get("hpa_sync_s", DEFAULT_HPA_SYNC_S))
            machines, zero = bool(data.get("machines", False)), bool(data.get("zero", False))
            return cls(*addresses, float(data["cfs_period_s"]), machines, sync_s, zero)
        except (KeyError, TypeError, ValueError) as error:
            raise MlscaleError(
                f"the cluster's settings are broken: {error!r}", "settings.json", "mlscale cluster down"
            ) from error

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    def changed(
        self,
        *,
        cfs_period_s: float | None = None,
        hpa_sync_s: float | None = None,
        machines: bool = False,
        zero: bool = False,
    ) -> Self:
        """Changed settings; None and False change nothing.

        Raises:
            MlscaleError: a CFS period that the kubelet refuses (1 ms to 1 s), a sync period outside 1 s to 5 min.
        """
        period_s = self.cfs_period_s if cfs_period_s is None else cfs_period_s
        sync_s = self.hpa_sync_s if hpa_sync_s is None else hpa_sync_s
        if not 0.001 <= period_s <= 1:
            raise MlscaleError(f"a CFS period of {period_s:g} s", "--cfs-period", "choose 1ms to 1s")
        if not 1 <= sync_s <= 300:
            raise MlscaleError(f"an HPA sync period of {sync_s:g} s", "--hpa-sync", "choose 1s to 300s")
        machines, zero = self.machines or machines, self.zero or zero
        return replace(self, cfs_period_s=period_s, hpa_sync_s=sync_s, machines=machines, zero=zero)


class Extras(NamedTuple):
    """See `Settings`."""

    machines: bool = False
    zero: bool = False


def extras(file: Path) -> Extras:
    """What the cluster with the settings ``file`` has beyond the least. Raises MlscaleError."""
    if not file.exists():
        return Extras()
    settings = Settings.from_json(file.read_text())
    return Extras(settings.machines, settings.zero)


def choose_addresses(taken: Iterable[str]) -> Settings:
    """Settings with the first free /30.

    Args:
        taken: networks that the host has routes to, such as "192.0.2.0/24" (others than IPv4 are ignored).

    Raises:
        MlscaleError: none is free.
    """
    networks = [network for text in taken if (network := _network(text)) is not None and network.prefixlen > 0]
    for candidate in _LINKS.subnets(new_prefix=30):
        if not any(candidate.overlaps(network) for network in networks):
            host, node = candidate.hosts()
            return Settings(str(host), str(node))
    raise MlscaleError(f"no free network in {_LINKS}", "the host's routes", "remove a route to a part of it")


def overlapping(settings: Settings, taken: Iterable[str]) -> str | None:
    """The first of ``taken`` (see `choose_addresses`) that overlaps the node's link and is not part of it."""
    own = ipaddress.IPv4Network(f"{settings.node_address}/30", strict=False)
    for text in taken:
        other = _network(text)
        if other is not None and other.prefixlen > 0 and own.overlaps(other) and not other.subnet_of(own):
            return text
    return None


def parse_period_s(text: str | None, option: str) -> float | None:
    """Seconds of "10ms", "0.1s"; None for None. Raises MlscaleError, naming the option, if it is not a duration."""
    try:
        return None if text is None else go_duration_s(text.strip())
    except ValueError as error:
        raise MlscaleError(f"{text!r} is not a period", option, "write 10ms or 0.1s") from error


def _network(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None
