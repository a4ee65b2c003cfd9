"""Each rule of validity is broken once, and named."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlscale.analysis.host_use import host_use
from mlscale.analysis.validity import judge, lateness_limit
from mlscale.runs import Event, Observation, OpenLoop, ResourceSample, Run, Staircase, Step, WindowDeviation
from synthetic_runs import GOOD_STIMULUS, info, requests_frame, write_run


def _host(
    cores: float = 0.5, psi: float = 2.0, busy: tuple[float, float] = (0, 0), busy_cores: float = 2.0
) -> Iterable[Observation]:
    for t in np.arange(0.0, 165.0, 0.5):
        used = busy_cores if busy[0] < t <= busy[1] else cores
        yield ResourceSample(float(t), "app", "host", "host", used, 1e9, psi_avg10_pct=psi)


def _run(path: Path, observations: Iterable[Observation] | None = None, response: float = 0.1, **changes: Any) -> Run:
    frame = requests_frame(np.arange(0, 165, 0.1), response)
    return write_run(path, frame, info(**changes), _host() if observations is None else observations)


def test_a_good_run_is_valid(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r"))
    assert judged.valid
    assert not judged.host_bound
    assert judged.reasons == ()


OPEN = OpenLoop(duration_s=165, rate=Staircase(steps=(Step(start_s=0, rate_rps=10), Step(start_s=45, rate_rps=10))))
BAD_WINDOW = WindowDeviation(start_s=50, due=200, sent=197)


@pytest.mark.parametrize(
    ("stimulus", "changes", "words"),
    [
        ({"aborted": "the target can't be held"}, {}, "stopped before its end"),
        ({"client_change_error_s": 0.3}, {}, "wrong for 0.300 s"),
        ({"client_change_error_s": None}, {}, "not known when"),
        ({"worst_window": BAD_WINDOW}, {"schedule": OPEN}, "197 requests were sent where 200 were due"),
        ({"worst_window": None}, {"schedule": OPEN}, "not known how many"),
        ({"lateness_p99_s": 0.0051}, {}, "over 5.1 ms late (at most 5.0 ms)"),
        ({"lateness_p99_s": float("nan")}, {}, "over nan"),
        ({"lateness_max_s": 0.11}, {}, "sent 110.0 ms late"),
        ({"load_cpu_cores": 0.7}, {}, "used 0.70 core"),
    ],
)
def test_each_rule_of_the_stimulus(
    tmp_path: Path, stimulus: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    judged = judge(_run(tmp_path / "r", stimulus=GOOD_STIMULUS.model_copy(update=stimulus), **changes))
    assert not judged.valid
    assert len(judged.reasons) == 1
    assert words in judged.reasons[0]


def test_no_report_is_invalid(tmp_path: Path) -> None:
    assert judge(_run(tmp_path / "r", stimulus=None)).reasons == ("there is no report of what the load generator sent",)


def test_one_percent_of_a_window_is_allowed(tmp_path: Path) -> None:
    good = GOOD_STIMULUS.model_copy(update={"worst_window": WindowDeviation(start_s=50, due=200, sent=198)})
    assert judge(_run(tmp_path / "r", schedule=OPEN, stimulus=good)).valid


def test_lateness_is_judged_against_the_baseline_median(tmp_path: Path) -> None:
    run = _run(tmp_path / "r", response=1.0, stimulus=GOOD_STIMULUS.model_copy(update={"lateness_p99_s": 0.019}))
    assert lateness_limit(run) == pytest.approx(0.02)
    assert judge(run).valid


def test_over_a_twentieth_of_the_horizon_busy_makes_a_run_host_bound(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r", _host(busy=(60, 73), busy_cores=1.9)))
    assert judged.host_bound
    assert not judged.valid
    assert "over 90% of the host's CPU was in use for" in judged.reasons[0]


def test_a_single_busy_window_does_not(tmp_path: Path) -> None:
    assert judge(_run(tmp_path / "r", _host(busy=(60, 67), busy_cores=2.0))).valid


def test_a_busy_baseline_does_not_count(tmp_path: Path) -> None:
    assert judge(_run(tmp_path / "r", _host(busy=(5, 40), busy_cores=2.0))).valid


def _with_a_replica(
    host_cores: float, replica_cores: float, stolen: float = 0.0, psi: float = 2.0
) -> Iterable[Observation]:
    for t in np.arange(0.0, 165.0, 0.5):
        yield ResourceSample(float(t), "app", "host", "host", host_cores, 1e9, psi_avg10_pct=psi, stolen_cores=stolen)
        yield ResourceSample(float(t), "app", "replica-1", "replica", replica_cores, 1e8, 600.0, 400.0, 30.0)


def test_programs_outside_the_run_disturb_it_and_are_no_fault_of_its_own(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r", _with_a_replica(1.95, 0.9)))
    assert judged.disturbed
    assert not judged.valid
    assert not judged.host_bound
    assert "other programs used 53% of the host's CPU, over 15% for" in judged.reasons[0]


def test_stolen_time_disturbs_a_run_and_is_no_work_of_the_host(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r", _with_a_replica(1.0, 0.9, stolen=0.8)))
    assert judged.disturbed
    assert "other programs used 5% and other virtual machines used 40% of the host's CPU" in judged.reasons[0]
    assert judge(_run(tmp_path / "little", _with_a_replica(1.0, 0.9, stolen=0.1))).valid


def test_what_runs_elsewhere_is_not_taken_for_a_disturbance(tmp_path: Path) -> None:
    elsewhere = [ResourceSample(t + 0.2, "app", "pod", "replica", 0.1, 1e8) for t in np.arange(0.0, 165.0, 15.0)]
    run = _run(tmp_path / "r", [*_host(cores=1.5), *elsewhere])
    assert host_use(run)["outside"].isna().all()
    assert judge(run).valid


def test_waiting_for_the_cpu_makes_a_run_host_bound(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r", _host(psi=21.0)))
    assert judged.host_bound
    assert "over 20 % of the time in 100% of the 10 s windows" in judged.reasons[0]


def test_pressure_is_not_judged_under_a_quota_since_it_counts_tasks_the_quota_stopped(tmp_path: Path) -> None:
    assert judge(_run(tmp_path / "r", _with_a_replica(0.5, 0.3, psi=86.0))).valid


def test_what_happened_before_the_load_does_not_count(tmp_path: Path) -> None:
    early = [ResourceSample(t, "app", "host", "host", 2.0, 1e9, psi_avg10_pct=80.0) for t in (-6.0, -3.0, -0.5)]
    assert judge(_run(tmp_path / "r", [*early, *_host()])).valid


def test_an_unobserved_host_can_not_be_judged(tmp_path: Path) -> None:
    assert "not observed" in judge(_run(tmp_path / "live", [])).reasons[0]
    assert judge(_run(tmp_path / "simulated", [], mode="simulated")).valid


def test_a_kernel_without_pressure_figures_is_judged_by_its_cpu(tmp_path: Path) -> None:
    assert judge(_run(tmp_path / "r", _host(psi=float("nan")))).valid


def test_the_hosts_use_weighs_samples_by_their_time(tmp_path: Path) -> None:
    times = [0.0, 1.0, 2.0, 4.0, 4.9]
    seen = [ResourceSample(t, "app", "host", "host", 2.0 if t == 4.0 else 1.0, 1e9) for t in times]
    used = host_use(_run(tmp_path / "r", seen))
    assert used["busy"].tolist() == [pytest.approx((2.9 * 1.0 + 2 * 2.0) / 4.9 / 2)]
    assert used["stolen"].isna().all()


def test_pre_scaling_is_a_mark_and_makes_no_run_invalid(tmp_path: Path) -> None:
    early = Event(30.0, "app", "scale_decision", detail={"from": 1, "to": 2, "reason": "noise"})
    judged = judge(_run(tmp_path / "r", [early, *_host()]))
    assert judged.valid
    assert judged.pre_scaled


def test_a_run_without_quotas_says_so_and_stays_valid(tmp_path: Path) -> None:
    judged = judge(_run(tmp_path / "r", [*_host()], facts={"sandbox": {"limited": False}}))
    assert judged.valid
    assert judged.reasons == ("no CPU quota was in force, so the run is compared with others of its kind alone",)
    assert judge(_run(tmp_path / "s", [*_host()], facts={"sandbox": {"limited": True}})).reasons == ()


def test_cpu_before_the_quota_is_named_but_voids_provisioning_times_alone(tmp_path: Path) -> None:
    event = Event(50.0, "app", "replica_started", "replica-2", detail={"cpu_before_s": 0.062})
    judged = judge(_run(tmp_path / "r", [event, *_host()]))
    assert judged.valid
    assert "62 ms CPU before its quota" in judged.reasons[0]
