"""The doctor names what is broken and goes on; its verdict follows from what is needed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from mlscale import environments
from mlscale.commands import doctor
from mlscale.commands.cleanup import cleanup_command, duration_s
from mlscale.commands.doctor import Finding, diagnose
from mlscale.host.cgroups import MountPoint, quota_remedy
from mlscale.runs import MlscaleError


def test_a_module_that_can_not_be_imported_spoils_its_own_check_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlscale.host.facts", None)
    findings = diagnose([("host", doctor.check_host), ("Python", doctor.check_python)])
    assert [(one.name, one.state) for one in findings] == [("host", "broken"), ("Python", "ok")]
    assert "mlscale.host.facts" in findings[0].details
    assert any(finding.blocking for finding in findings)


def test_an_environment_that_breaks_is_named_and_the_others_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlscale.environments.rayserve.environment", None)
    findings = {one.name: one for one in diagnose([("environments", doctor.check_environments)])}
    assert findings["rayserve"].state == "broken"
    assert "mlscale.environments.rayserve.environment" in findings["rayserve"].details
    assert {name for name, one in findings.items() if one.state == "broken"} == {"rayserve"}


def test_what_is_only_simulated_is_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "names", lambda: ["ecs"])
    [finding] = doctor.check_environments()
    assert finding.state == "not yet"
    assert finding.remedy.startswith("mlscale simulate ecs")
    assert not finding.blocking


def test_findings_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    needed = Finding("disk", "missing", "full", "make room", needed=True)
    monkeypatch.setattr(doctor, "diagnose", lambda: [needed])
    assert doctor.doctor_command(as_json=True) == 1
    assert [Finding(**finding) for finding in json.loads(capsys.readouterr().out)] == [needed]


def test_an_error_of_ours_keeps_its_remedy() -> None:
    def check() -> list[Finding]:
        raise MlscaleError("it is full", "/tmp", "make room")

    assert diagnose([("disk", check)]) == [Finding("disk", "missing", "/tmp: it is full", "make room", needed=True)]


@pytest.mark.parametrize(
    ("state", "needed", "runs"),
    [
        ("ok", True, True),
        ("limited", True, True),
        ("missing", False, True),
        ("missing", True, False),
        ("broken", True, False),
    ],
)
def test_what_keeps_the_local_environments_from_running(state: doctor.State, needed: bool, runs: bool) -> None:
    assert Finding("x", state, "", needed=needed).blocking is not runs


def test_what_this_machine_can_do() -> None:
    checks = [("sandbox", doctor.check_sandbox), ("Java", doctor.check_java), ("disk", doctor.check_disk)]
    findings = {one.name: one for one in diagnose(checks)}
    assert findings.keys() == {"namespaces", "CPU quota (cgroups)", "Java", "disk for runs", "disk for sandboxes"}
    assert "version" in findings["Java"].details
    assert not any(one.state == "broken" for one in findings.values())


def test_without_quotas_the_last_line_says_what_is_possible(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for state, said in (("ok", "can run. Try: make"), ("limited", "can run, but without CPU quotas: replicas share")):
        monkeypatch.setattr(doctor, "diagnose", lambda state=state: [Finding(doctor.QUOTA, state, "")])
        assert doctor.doctor_command() == 0
        assert f"The local environments {said}" in capsys.readouterr().out


def test_the_remedy_for_quotas_is_one_that_works_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("mlscale.host.cgroups.read_mounts", lambda: [MountPoint(Path("/"), "cgroup2", ())])
    assert "systemd-run" not in quota_remedy(), "as under su, where there is no bus"
    (tmp_path / "bus").touch()
    assert "systemd-run --user" in quota_remedy()
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert "docker run --privileged" in quota_remedy(), "root already"


def test_weights_that_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLSCALE_WEIGHTS", str(tmp_path))
    (finding,) = diagnose([("models", doctor.check_weights)])
    assert finding.blocking
    assert str(tmp_path) in finding.details


def test_leftovers_of_a_crashed_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert diagnose([("leftovers", doctor.check_leftovers)]) == [Finding("leftovers", "ok", "none")]
    left = tmp_path / "mls-0123abcd"
    code = (
        "import os, sys; from mlscale.host.ledger import Ledger; ledger = Ledger.create('dies');"
        f"ledger.intend('sandbox', folder={str(left)!r}, cgroups=[]); os.mkdir({str(left)!r}); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    (finding,) = diagnose([("leftovers", doctor.check_leftovers)])
    assert (finding.state, finding.remedy) == ("limited", "mlscale cleanup")
    assert cleanup_command("2h") == "nothing to remove"
    assert cleanup_command("0s") == f"removed sandbox: folder {left}"
    assert not left.exists()
    assert cleanup_command("0s") == "nothing to remove"
    assert cleanup_command("0s", as_json=True) == "[]"


def test_the_table_shows_every_finding_and_no_markup_of_its_text() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(doctor.table([Finding("a", "missing", "see [bold]ray[serve]", "install it")]))
    assert all(text in out.getvalue() for text in ("missing", "[bold]ray[serve]", "install it"))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5d", 129600), ("30", 30)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-1h", "2 weeks", "1h30m", "nan"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(MlscaleError, match="older-than"):
        duration_s(text)
