"""The wrapped policy decides exactly as Ray's default does, and says what it saw."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlscale.environments.rayserve.cluster import autoscaling_config, sandboxed_options
from mlscale.environments.rayserve.policy import ReportingPolicy, reading
from mlscale.environments.rayserve.settings import RayServeScaling

config_module = pytest.importorskip("ray.serve.config")
policies = pytest.importorskip("ray.serve.autoscaling_policy")


@pytest.fixture
def inbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, str]]:
    monkeypatch.chdir(tmp_path)  # a path short enough for a Unix socket, whatever tmp_path is
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as reader:
        reader.bind("policy.sock")
        reader.settimeout(5)
        yield reader, "policy.sock"


def _context(config: Any, total: float, queued: float, current: int, target: int, state: dict[str, Any]) -> Any:
    return config_module.AutoscalingContext(
        deployment_id="app",
        deployment_name="app",
        app_name="mlscale",
        current_num_replicas=current,
        target_num_replicas=target,
        running_replicas=[],
        total_num_requests=lambda: total,
        total_queued_requests=lambda: queued,
        aggregated_metrics=None,
        raw_metrics=None,
        capacity_adjusted_min_replicas=config.min_replicas,
        capacity_adjusted_max_replicas=config.max_replicas,
        policy_state=state,
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=None,
        config=config,
    )


def _config(**changes: Any) -> Any:
    settings = RayServeScaling(**changes)
    return config_module.AutoscalingConfig(**autoscaling_config(settings.model_dump(mode="json")))


def test_same_decisions_as_the_default_policy(inbox: tuple[socket.socket, str]) -> None:
    """Both inside Ray's own wrapper (factors, delays), through a random history of loads."""
    reader, address = inbox
    config = _config(target_ongoing_requests=1.3, upscaling_factor=0.7, upscale_delay_s=0, downscale_delay_s=0)
    ours = policies._apply_autoscaling_config(ReportingPolicy(address))
    default = policies._apply_autoscaling_config(policies.replica_queue_length_autoscaling_policy)
    random = np.random.default_rng(5)
    state_ours: dict[str, Any] = {}
    state_default: dict[str, Any] = {}
    target = 1
    decided = set()
    for _ in range(300):
        total = float(random.uniform(0, 8))
        current = max(1, target - int(random.integers(0, 2)))
        mine, state_ours = ours(_context(config, total, total / 2, current, target, state_ours))
        theirs, state_default = default(_context(config, total, total / 2, current, target, state_default))
        assert mine == theirs
        assert state_ours.keys() == state_default.keys()
        target = max(config.min_replicas, min(config.max_replicas, theirs))
        decided.add(target)
        reader.recv(4096)
    assert decided == {1, 2, 3, 4}, "the history exercises every size"


def test_same_delays_as_the_default_policy(inbox: tuple[socket.socket, str]) -> None:
    _, address = inbox
    config = _config(upscale_delay_s=1000.0)
    wrapped = policies._apply_autoscaling_config(ReportingPolicy(address))
    decision, state = wrapped(_context(config, 100.0, 90.0, 1, 1, {}))
    assert decision == 1, "wanted, but not for long enough"
    later = {name: stamp - 1000 if isinstance(stamp, float) else stamp for name, stamp in state.items()}
    assert wrapped(_context(config, 100.0, 90.0, 1, 1, later))[0] == 50


def test_says_what_it_saw(inbox: tuple[socket.socket, str]) -> None:
    reader, address = inbox
    config = _config(target_ongoing_requests=2.0)
    raw, _ = ReportingPolicy(address)(_context(config, 9.0, 4.0, 2, 3, {}))
    seen = json.loads(reader.recv(4096))
    assert seen.pop("t") > 0
    assert seen == {"total": 9.0, "queued": 4.0, "current": 2, "target": 3, "raw": 4.5, "wanted": 4}
    assert raw == 4.5


def test_bounds_in_the_reading() -> None:
    config = _config(min_replicas=2, max_replicas=3)
    assert reading(_context(config, 50.0, 0.0, 2, 2, {}), 25.0)["wanted"] == 3
    assert reading(_context(config, 0.0, 0.0, 2, 2, {}), 0.0)["wanted"] == 2


def test_no_reader_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy = ReportingPolicy("nobody.sock")
    assert policy(_context(_config(), 4.0, 0.0, 1, 1, {})) == (2.0, {})
    assert policy.lost == 1


def test_a_reader_that_is_slow_holds_nothing_up(inbox: tuple[socket.socket, str]) -> None:
    policy = ReportingPolicy(inbox[1])
    for _ in range(2000):
        assert policy(_context(_config(), 4.0, 0.0, 1, 1, {}))[0] == 2.0
    assert policy.lost > 0


def test_ray_takes_the_policy_and_the_options(inbox: tuple[socket.socket, str]) -> None:
    """Ray pickles the policy by value; what comes out of the pickle in the controller decides and reports too."""
    from ray import serve

    reader, address = inbox
    settings = RayServeScaling(max_ongoing_requests=1).model_dump(mode="json")
    options = sandboxed_options(settings, "app", "/usr/bin/python", address)
    deployment = serve.deployment(type("App", (), {"__call__": lambda self: 1})).options(**options)
    config = deployment._deployment_config.autoscaling_config
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy(_context(config, 6.0, 1.0, 2, 2, {}))[0] == 3.0
    assert json.loads(reader.recv(4096))["total"] == 6.0
    assert deployment._deployment_config.max_ongoing_requests == 1
