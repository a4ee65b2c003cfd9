"""ECS and EKS on equal ground: shared numbers are equal in all variants, and variants differ where platforms do."""

from __future__ import annotations

from dataclasses import replace

import pytest
from setups import SMALL, setup

from mlscale.runs import MlscaleError
from mlscale_twin.cloud import Range, cloud_profile, read_cloud, variant_of
from mlscale_twin.profile_files import read_profile
from mlscale_twin.twin import Twin

CLOUD = read_cloud()
VARIANTS = tuple(CLOUD.variants)


def test_all_variants_share_what_a_user_would_choose_alike() -> None:
    shares = {"image_pull_s": 0.9, "lb_check_interval_s": 0.9, "metric_delay_20s": 0.1, "host_speed": 0.7}
    profiles = [cloud_profile(variant, shares) for variant in VARIANTS]
    first = profiles[0]
    for profile in profiles:
        assert profile.work == first.work
        assert profile.requests == first.requests
        assert profile.starts.noticed == first.starts.noticed
        assert profile.starts.leaves == first.starts.leaves
        assert profile.starts.steps[1:] == first.starts.steps[1:], "image pull, import and load"
        delays = {profile.loop[name].value for name in ("metric_delay_20s", "metric_delay_s") if name in profile.loop}
        assert delays == {CLOUD.shared["metric_delay_20s"].at(0.1)}
    machines = [profile.machines for profile in profiles if profile.machines is not None]
    assert len(machines) == 3
    assert all(each.boot == machines[0].boot for each in machines)
    assert len({profile.starts.steps[0].takes.mean_s for profile in profiles}) > 1, "where the platforms differ"


def test_every_number_has_a_source_and_moves_the_profile_of_its_variant() -> None:
    for variant in VARIANTS:
        typical = cloud_profile(variant)
        numbers = CLOUD.numbers_of(variant)
        unused = {"instance_boot_s"} if typical.machines is None else set()
        unused |= {"metric_delay_60s"} if typical.environment == "eks" else set()
        for name, values in numbers.items():
            assert values.source
            moved = cloud_profile(variant, {name: 0.05 if values.low < values.typical else 0.95})
            assert (moved.sha256 != typical.sha256) == (name not in unused), (variant, name)
        others = [name for other in VARIANTS if other != variant for name in CLOUD.variants[other].numbers]
        assert others
        assert not any("." in name and not name.startswith(f"{variant}.") for name in numbers)


def test_half_of_a_range_lies_below_its_typical_value() -> None:
    values = Range(low=0.0, typical=1.0, high=11.0, source="a test", date="2026-11")
    assert [values.at(share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)] == [0.0, 0.5, 1.0, 6.0, 11.0]
    with pytest.raises(ValueError, match="not in order"):
        Range(low=2.0, typical=1.0, high=11.0, source="a test", date="2026-11")


def test_settings_choose_the_variant_and_an_unknown_one_is_an_error() -> None:
    assert variant_of("ecs", {"launch": "fargate"}) == "ecs"
    assert variant_of("ecs", {"launch": "ec2"}) == "ecs-ec2"
    assert variant_of("eks", {}) == "eks"
    assert read_profile("ecs") == cloud_profile("ecs-fargate")
    with pytest.raises(MlscaleError, match="no such profile"):
        read_profile("ecs-on-mars")


def test_metrics_that_come_later_delay_the_hpas_decision() -> None:
    base = setup("eks", profile=cloud_profile("eks-fargate"), metric="cpu", types=())

    def decided_s(share: float | None) -> float:
        own = share is None
        profile = cloud_profile("eks-fargate", {"metric_delay_20s": share or 0.0}, own_metrics=own)
        outcome = Twin(replace(base, profile=profile)).run()
        return next(event.t_s for event in outcome.events if event.kind == "scale_decision" and event.t_s > 60)

    assert decided_s(None) < decided_s(0.0) < decided_s(1.0)
    late_s = CLOUD.shared["metric_delay_20s"].high - CLOUD.shared["metric_delay_20s"].low
    assert decided_s(1.0) - decided_s(0.0) == pytest.approx(late_s, abs=15.1), "to the HPA's next look"


def test_the_cluster_autoscaler_adds_machines_once_and_removes_them_after_ten_minutes() -> None:
    base = setup("eks", profile=cloud_profile("eks-node-group"), types=(SMALL,), downscale_stabilisation_s=30)
    longer = base.schedule.model_copy(update={"duration_s": 1600.0})
    outcome = Twin(replace(base, schedule=longer)).run()
    requested = [event.t_s for event in outcome.events if event.kind == "machine_requested"]
    assert len(requested) == 3, "room for one replica each, four replicas"
    gone = [event.t_s for event in outcome.events if event.kind == "machine_removed"]
    left = [event.t_s for event in outcome.events if event.kind == "replica_removed" and event.t_s > 600]
    assert gone
    assert min(gone) > min(left) + 600
