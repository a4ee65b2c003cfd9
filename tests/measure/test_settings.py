"""Settings of an application's components: shares of the arm's replicas, and what is one component's own."""

from __future__ import annotations

from typing import Any

import pytest

from codereader.partition import NETS as APPLICATION_NETS
from mlscale import environments
from mlscale.environments.base import Scaling
from mlscale.measurement.settings import settings_of
from mlscale.runs import MlscaleError
from mlscale_paper.applications import NETS, code_reader

WHOLE, PARTS = code_reader(), code_reader(partitioned=True)


def _bounds(scalings: dict[str, Scaling]) -> dict[str, tuple[int, int]]:
    return {name: (one.min_replicas, one.max_replicas) for name, one in scalings.items()}


@pytest.mark.parametrize("name", ["torchserve", "rayserve"])
@pytest.mark.parametrize(
    ("arm", "overrides", "bounds"),
    [
        ("matched", None, ((1, 2), (1, 2))),
        ("matched", {"max_replicas": "5"}, ((1, 3), (1, 2))),
        ("matched", {"readers.max_replicas": "3", "localiser.max_replicas": "1"}, ((1, 1), (1, 3))),
        ("matched", {"max_replicas": "6", "readers.min_replicas": 2}, ((1, 3), (2, 3))),
        ("static-max", None, ((2, 2), (2, 2))),
        ("static-min", None, ((1, 1), (1, 1))),
        ("static-max", {"max_replicas": 3}, ((2, 2), (1, 1))),
        ("static-min", {"max_replicas": 3, "cpu_cores": 0.2}, ((1, 1), (1, 1))),
        ("matched", {"max_replicas": 1}, ((1, 1), (1, 1))),
    ],
)
def test_components_share_the_arms_replicas(name: str, arm: str, overrides: Any, bounds: Any) -> None:
    environment = environments.get(name)
    found = settings_of(environment, PARTS, arm, overrides)
    assert _bounds(found) == dict(zip(("localiser", "readers"), bounds, strict=True))
    if arm == "static-max":
        whole = settings_of(environment, WHOLE, arm, overrides)["app"]
        assert whole.fixed
        total = sum(one.max_replicas * one.cpu_cores for one in found.values())
        assert total == pytest.approx(whole.max_replicas * whole.cpu_cores), "the same total budget"


def test_a_component_s_own_number_is_fixed_too_in_a_static_arm() -> None:
    found = settings_of(environments.get("rayserve"), PARTS, "static-max", {"readers.max_replicas": 3})
    assert _bounds(found) == {"localiser": (2, 2), "readers": (3, 3)}


@pytest.mark.parametrize("name", environments.names())
def test_static_arms_hold_under_the_defaults_sizes(name: str) -> None:
    """They are for 3 replicas, where the arm has 4: min_replicas was above max_replicas in every environment."""
    environment = environments.get(name)
    for arm, replicas in (("static-max", 3), ("static-min", 1)):
        sized = environment.settings.sized({"max_replicas": 3, "cpu_cores": 0.3})
        assert _bounds(settings_of(environment, WHOLE, arm, sized)) == {"app": (replicas, replicas)}


def test_a_whole_application_keeps_the_arm() -> None:
    environment = environments.get("rayserve")
    assert settings_of(environment, WHOLE, "matched", None) == {"app": environment.arm("matched")}
    assert settings_of(environment, WHOLE, "matched", {"app.max_replicas": 2})["app"].max_replicas == 2


def test_settings_given_as_a_whole_are_shared_too() -> None:
    environment = environments.get("torchserve")
    scaling = environment.arm("matched").model_copy(update={"max_replicas": 3, "cpu_cores": 0.5})
    found = settings_of(environment, PARTS, "matched", scaling)
    assert _bounds(found) == {"localiser": (1, 2), "readers": (1, 1)}
    assert {one.cpu_cores for one in found.values()} == {0.5}


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ({"reader.max_replicas": 2}, "unknown component 'reader'"),
        ({"readers.replicas": 2}, "unknown setting 'replicas'"),
        ({"readers.max_replicas": "many"}, "max_replicas"),
        ({"readers.min_replicas": 3}, "min_replicas"),
        ({"nonsense": 2}, "unknown setting 'nonsense'"),
    ],
)
def test_what_is_not_there_is_said(overrides: Any, text: str) -> None:
    with pytest.raises(MlscaleError, match=text):
        settings_of(environments.get("rayserve"), PARTS, "matched", overrides)


def test_the_parts_are_the_whole() -> None:
    assert NETS == APPLICATION_NETS
    assert (PARTS.name, PARTS.version, PARTS.front) == (WHOLE.name, WHOLE.version, "localiser")
    split = {file for component in PARTS.components for file in component.weights}
    assert split == set(WHOLE.components[0].weights)
    assert len(split) == sum(len(component.weights) for component in PARTS.components) > 0
