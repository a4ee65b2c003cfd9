"""Addresses that collide with nothing, and what may be set."""

from __future__ import annotations

import ipaddress

import pytest

from mlscale.host.interpreter import interpreter_mounts
from mlscale.runs import MlscaleError
from onenode.layout import Layout
from onenode.settings import Settings, choose_addresses, parse_period_s


def test_the_link_avoids_what_the_host_has_a_way_to() -> None:
    free = choose_addresses(["default", "192.0.2.0/24", "0.0.0.0/0", "fd00::/64"])
    assert free == Settings("10.213.0.1", "10.213.0.2")
    assert choose_addresses(["10.213.0.0/30", "10.213.0.5"]) == Settings("10.213.0.9", "10.213.0.10")
    taken = ipaddress.IPv4Network("10.213.0.0/17")
    assert ipaddress.IPv4Address(choose_addresses([str(taken)]).node_address) not in taken


def test_no_room_is_said() -> None:
    with pytest.raises(MlscaleError, match="no free network"):
        choose_addresses(["10.0.0.0/8"])


def test_settings_survive_and_broken_ones_are_named() -> None:
    settings = Settings("10.213.0.1", "10.213.0.2", 0.01, hpa_sync_s=5.0)
    assert Settings.from_json(settings.to_json()) == settings
    with pytest.raises(MlscaleError, match="settings"):
        Settings.from_json('{"host_address": "10.213.0.1"}')


@pytest.mark.parametrize(("text", "period_s"), [("10ms", 0.01), ("0.1s", 0.1), ("1s", 1.0)])
def test_periods(text: str, period_s: float) -> None:
    assert parse_period_s(text, "--cfs-period") == pytest.approx(period_s)


@pytest.mark.parametrize("text", ["", "10", "fast", "xms"])
def test_what_is_no_period(text: str) -> None:
    with pytest.raises(MlscaleError, match="cfs-period"):
        parse_period_s(text, "--cfs-period")


@pytest.mark.parametrize("period_s", [0.0005, 2.0, -1.0])
def test_periods_that_the_kubelet_refuses(period_s: float) -> None:
    with pytest.raises(MlscaleError, match="1ms to 1s"):
        Settings("a", "b").changed(cfs_period_s=period_s)


@pytest.mark.parametrize("sync_s", [0.5, 301.0])
def test_sync_periods_out_of_range(sync_s: float) -> None:
    with pytest.raises(MlscaleError, match="hpa-sync"):
        Settings("a", "b").changed(hpa_sync_s=sync_s)


def test_no_period_keeps_the_one_that_is() -> None:
    kept = Settings("a", "b", 0.01, hpa_sync_s=5.0).changed()
    assert (kept.cfs_period_s, kept.hpa_sync_s) == (0.01, 5.0)


def test_names_outside_the_folder_follow_from_it_and_fit() -> None:
    from pathlib import Path

    one, other = Layout(Path("/a/default")), Layout(Path("/b/default"))
    assert one.interface != other.interface
    assert one.cgroup != other.cgroup
    assert len(one.interface) <= 15


def test_an_interpreter_runs_from_its_mounts_alone() -> None:
    import sys
    from pathlib import Path

    mounts = interpreter_mounts([Path(__file__).parent])
    assert all(path.exists() and path.is_absolute() for path in mounts)
    assert not any(a != b and a.is_relative_to(b) for a in mounts for b in mounts)
    needed = (Path(sys.executable), Path(sys.executable).resolve(), Path(sys.base_prefix), Path(__file__))
    assert all(any(path.is_relative_to(mount) for mount in mounts) for path in needed)
    with pytest.raises(ValueError, match="not absolute"):
        interpreter_mounts([Path("here")])
