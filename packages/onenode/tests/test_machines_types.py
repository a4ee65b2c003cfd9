"""Machine types and boot times as data."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from mlscale.environments.machine_types import CATALOGUE, Catalogue
from mlscale.runs import MlscaleError

TEXT = CATALOGUE.read_text()


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue.from_json(TEXT)


def test_each_type_holds_whole_replicas_and_each_boot_time_names_its_source(catalogue: Catalogue) -> None:
    for kind in catalogue.types.values():
        assert kind.visible_cores - kind.reserved_cores == pytest.approx(kind.cpu_cores - 0.1)
    assert all(boot.source for boot in catalogue.boot_times.values())
    assert "us-east-1" in catalogue.price["what"]


def test_karpenter_reads_them_with_their_price(catalogue: Catalogue) -> None:
    first, *_ = json.loads(catalogue.as_kwok("amd64"))
    assert first["name"] == "rehearsal.small"
    assert first["resources"] == {"cpu": "400m", "memory": "1024Mi", "pods": "16", "ephemeral-storage": "20Gi"}
    assert first["offerings"][0]["Price"] == catalogue.types["rehearsal.small"].usd_per_hour


def test_a_boot_time_is_drawn_among_the_samples_and_again_for_the_same_key(catalogue: Catalogue) -> None:
    boot = catalogue.boot_times_of("ec2")
    drawn = [boot.draw(f"pool/{number}") for number in range(300)]
    assert drawn == [boot.draw(f"pool/{number}") for number in range(300)]
    assert set(Counter(drawn)) == set(boot.samples_s)
    assert min(Counter(drawn).values()) > 60


def test_a_constant_is_one(catalogue: Catalogue) -> None:
    assert catalogue.boot_times_of("10s").draw("any") == 10.0
    assert catalogue.boot_times_of("250ms").draw("any") == 0.25
    with pytest.raises(MlscaleError, match="unknown boot times 'soon'"):
        catalogue.boot_times_of("soon")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"cpu_cores": 0.4', '"cpu_cores": 0.1', "no room"),
        ("[0.0]", "[]", "missing or negative"),
        ("[0.0]", "[-1.0]", "missing or negative"),
        ('"pods": 16, "usd_per_hour": 0.0163', '"pods": 16', "malformed"),
        ("{", "", "malformed"),
    ],
)
def test_what_makes_no_sense_is_refused(before: str, after: str, said: str) -> None:
    with pytest.raises(MlscaleError, match=said):
        Catalogue.from_json(TEXT.replace(before, after, 1))
