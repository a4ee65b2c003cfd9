"""The load of a run whose user named none lasts until its environment can have scaled."""

from __future__ import annotations

from mlscale import environments
from mlscale.defaults import defaults
from mlscale.environments.machine_types import catalogue
from mlscale.measurement.default_load import announcement, default_load


def test_it_is_as_long_as_machines_take_to_boot() -> None:
    eks = environments.get("eks")
    quick = defaults().quick_schedule()
    usual = default_load(eks, {"app": eks.arm("matched")})
    slow = default_load(eks, {"app": eks.arm("matched").model_copy(update={"boot": "200s"})})
    step_s = quick.boundaries_s[-1]
    assert usual.boundaries_s == quick.boundaries_s
    assert usual.duration_s > step_s + max(catalogue().boot_times_of("ec2").samples_s) + 30
    assert slow.duration_s > step_s + 230


def test_where_replicas_start_quickly_it_is_the_defaults() -> None:
    torchserve = environments.get("torchserve")
    assert default_load(torchserve, {"app": torchserve.arm("matched")}) == defaults().quick_schedule()


def test_every_environment_s_default_lasts_longer_than_its_start_up() -> None:
    for name in ("k3s", "eks", "ecs"):
        environment = environments.get(name)
        for arm in ("matched", "shipped"):
            scaling = environment.arm(arm)
            load = default_load(environment, {"app": scaling})
            assert load.duration_s - load.boundaries_s[-1] > environment.start_up_s(scaling)  # type: ignore[attr-defined]


def test_what_is_about_to_happen_is_said() -> None:
    text = announcement(defaults().quick_schedule(), 30.0)
    assert "clients from 0 s, then " in text
    assert "that is 2 min" in text or "that is 90 s" in text
