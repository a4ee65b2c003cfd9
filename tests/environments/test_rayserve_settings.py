"""Settings: Ray's defaults, the arms, the bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlscale.environments.base import App, Component, Scaling
from mlscale.environments.rayserve.cluster import deployment_options
from mlscale.environments.rayserve.environment import RayServe
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.runs import MlscaleError


def test_the_defaults_are_rays_own() -> None:
    config_module = pytest.importorskip("ray.serve.config")
    rays = config_module.AutoscalingConfig()
    ours = RayServeScaling()
    same = (
        "target_ongoing_requests",
        "upscale_delay_s",
        "downscale_delay_s",
        "look_back_period_s",
        "metrics_interval_s",
        "min_replicas",
    )
    for name in same:
        assert getattr(ours, name) == getattr(rays, name), name
    assert ours.upscaling_factor == rays.get_upscaling_factor()
    assert ours.downscaling_factor == rays.get_downscaling_factor()
    assert ours.aggregation_function == rays.aggregation_function.value
    router = config_module.RequestRouterConfig()
    for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s"):
        assert getattr(ours, name) == getattr(router, name), name
    from ray.serve._private.config import DeploymentConfig

    deployment = DeploymentConfig()
    same = (
        "max_ongoing_requests",
        "max_queued_requests",
        "graceful_shutdown_wait_loop_s",
        "graceful_shutdown_timeout_s",
        "health_check_period_s",
        "health_check_timeout_s",
    )
    for name in same:
        assert getattr(ours, name) == getattr(deployment, name), name


def test_arms() -> None:
    environment = RayServe()
    assert environment.arm("shipped") == RayServeScaling(), "shipped is Ray's defaults with the maximum of the contract"
    matched = environment.arm("matched")
    assert (matched.target_ongoing_requests, matched.upscale_delay_s, matched.downscale_delay_s) == (1.0, 1.0, 30.0)
    assert (matched.min_replicas, matched.max_replicas, matched.max_ongoing_requests) == (1, 4, 1)
    assert matched.metrics_interval_s == 0.5
    low, high = environment.arm("static-min"), environment.arm("static-max")
    assert (low.min_replicas, low.max_replicas, low.fixed) == (1, 1, True)
    assert (high.min_replicas, high.max_replicas, high.fixed) == (4, 4, True)
    with pytest.raises(MlscaleError, match="unknown arm 'fast'"):
        environment.arm("fast")


@pytest.mark.parametrize("arm", ["shipped", "matched", "static-min", "static-max"])
def test_arms_spell_out_every_setting_in_range(arm: str) -> None:
    settings = RayServe().arm(arm)
    assert settings.model_dump().keys() == RayServeScaling.model_fields.keys()
    assert RayServeScaling(**settings.model_dump()) == settings, "copies are valid too"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"target_ongoing_requests": 0}, "target_ongoing_requests"),
        ({"upscale_delay_s": -1}, "upscale_delay_s"),
        ({"metrics_interval_s": 30}, "must be longer than"),
        ({"min_replicas": 5}, "is above max_replicas"),
        ({"initial_backoff_s": 1.0}, "is above max_backoff_s"),
        ({"upscaling_factor": float("nan")}, "upscaling_factor"),
        ({"aggregation_function": "median"}, "aggregation_function"),
        ({"max_ongoing_requests": 0}, "max_ongoing_requests"),
        ({"scale_to_moon": 1}, "scale_to_moon"),
    ],
)
def test_settings_out_of_bounds_are_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        RayServeScaling(**changes)


def test_every_setting_has_a_description() -> None:
    for name, field in RayServeScaling.model_fields.items():
        assert field.description, name
        if name.endswith("_s"):
            assert field.description.endswith((", s", "s (CFS)", "None: downscale_delay_s")), f"{name} says its unit"


def test_every_setting_reaches_ray() -> None:
    """Changing any one setting changes what Ray is told (quota, start and place go elsewhere)."""
    base = RayServeScaling()
    told = deployment_options(base.model_dump(mode="json"), "app")
    other: dict[str, Any] = {"aggregation_function": "max", "look_back_period_s": 40.0, "max_queued_requests": 7}
    other["downscale_to_zero_delay_s"] = 5.0
    for name in RayServeScaling.model_fields.keys() - {
        "cpu_period_s",
        "cpu_budget",
        "startup_concurrency",
        "address",
        "working_dir",
        "load_from",
    }:
        value = other.get(name, getattr(base, name) if name in other else getattr(base, name) * 2)
        changed = base.model_copy(update={name: value})
        assert deployment_options(changed.model_dump(mode="json"), "app") != told, name


def test_a_fixed_number_has_no_autoscaler() -> None:
    options = deployment_options(RayServe().arm("static-max").model_dump(mode="json"), "app")
    assert options["num_replicas"] == 4
    assert "autoscaling_config" not in options


def _app(entry: str = "json:loads", *weights: Path) -> App:
    return App("demo", "1", (Component("app", entry, weights),), "app")


def test_preflight_finds_nothing_wrong_with_a_sound_app() -> None:
    assert not RayServe().preflight(_app(), {"app": RayServeScaling()}, "live")


def test_a_package_that_slows_every_start_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rfc3987_syntax.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = RayServe().preflight(_app(), {"app": RayServeScaling()}, "live")
    assert "rfc3987-syntax" in problem.what
    assert not problem.fatal


@pytest.mark.parametrize(
    ("app", "scalings", "mode", "text"),
    [
        (_app(), {"app": RayServeScaling()}, "simulated", "unsupported mode 'simulated'"),
        (_app(), {}, "live", "no scaling settings"),
        (_app(), {"app": Scaling()}, "live", "wrong settings: Scaling"),
        (_app("json.loads"), {"app": RayServeScaling()}, "live", "is not package.module:factory"),
        (_app("no_such_package.model:make"), {"app": RayServeScaling()}, "live", "no module"),
        (_app("json:loads", Path("gone.safetensors")), {"app": RayServeScaling()}, "live", "weights are missing"),
        (
            App("demo", "1", (Component("a", "json:loads"), Component("b", "json:loads")), "a"),
            {"a": RayServeScaling(), "b": RayServeScaling()},
            "live",
            "nobody calls it",
        ),
    ],
)
def test_preflight_names_what_stands_in_the_way(app: App, scalings: dict[str, Scaling], mode: Any, text: str) -> None:
    problems = RayServe().preflight(app, scalings, mode)
    fatal = [problem for problem in problems if problem.fatal]
    assert any(text in problem.what for problem in fatal), problems
    assert all(problem.where and problem.remedy for problem in fatal)
