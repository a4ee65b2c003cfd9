"""A sandbox: one process tree in its own PID, mount, IPC and network namespaces (only ``lo``) and its own cgroups.

Its first process ends on EOF of a pipe that the caller holds, or at the caller's death, and then the kernel takes the
whole tree along. Empty cgroups and a folder outlive a kill -9 of the caller; the ledger covers those (`mlscale.host.reap`).
Where namespaces can't be had, process groups and the ledger stand in (``isolated`` is False); where cgroups can't be had
there is no CPU quota (``limited`` is False). `Sandbox.facts` says what is missing and why.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from mlscale.host.cgroups import Tree, find_hierarchy, remove_tree
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.processes import ProcessIdentity, boot_id, inside_pid, pid_namespace, process_start
from mlscale.host.sampling import Sampler
from mlscale.host.wrapper import REPLICA, ReplicaStart, entry_file, read_starts, wrapper_script
from mlscale.runs import Clock, MlscaleError, ResourceSample, Role

ROLES: Final[tuple[Role, ...]] = ("control_plane", "data_plane", "load_generator")
_HIDDEN: Final = ["ray", "hsperfdata_*", "mls-*", "torchinductor_*", "pymp-*", ".X11-unix", "systemd-private-*", "snap-private-tmp"]
_HERE: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class BoxProcess:
    """One process of a sandbox: its pid as seen inside and as seen from here (the same where nothing isolates)."""

    inside: int
    outside: int


class Sandbox:
    """Made by `open_sandbox`. Thread-safe for `sample` beside everything else."""

    def __init__(self, name: str, folder: Path, first: _First | None, tree: Tree | None, reasons: Sequence[str], ledger: Ledger) -> None:
        self.name = name
        self.folder = folder
        """Scratch folder, the same path inside and outside, short (Unix sockets fit), removed at the end."""
        self.isolated = first is not None
        self.limited = tree is not None
        self._first, self._tree, self._ledger = first, tree, ledger
        self._reasons = tuple(reasons)
        self._spawned: list[tuple[subprocess.Popen[Any], LedgerEntry | None]] = []
        self._records = folder / "replicas"
        self._records.mkdir()
        (folder / "tmp").mkdir()
        self._enter = {role: self._entry_file(role, whole=True) for role in ROLES}
        self._sampler = Sampler()
        self.prefix: tuple[str, ...] = (*_PROGRAM, str(_HERE / "boxenter.py"), str(self._entry_file("load_generator", whole=False)), "--")
        """argv to put in front of the load generator's: PID and network namespace of the sandbox, role load_generator,
        but the host's own file system, so that files made later (a load specification, a run folder) are seen. Exit code,
        standard streams, environment and working folder pass through; SIGTERM and SIGKILL reach the command."""

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json: isolated, limited, cgroup_version, user_namespace, reasons (why something is missing)."""
        return {
            "isolated": self.isolated,
            "limited": self.limited,
            "cgroup_version": self._tree.version if self._tree else None,
            "user_namespace": self._first.user_namespace if self._first else False,
            "reasons": list(self._reasons),
        }

    def spawn(
        self,
        argv: Sequence[str | os.PathLike[str]],
        *,
        role: Role = "control_plane",
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        stdin: int | IO[Any] | None = subprocess.DEVNULL,
        stdout: int | IO[Any] | None = None,
        stderr: int | IO[Any] | None = None,
        text: bool | None = None,
    ) -> subprocess.Popen[Any]:
        """Start ``argv`` inside, in the cgroup of ``role`` from exec on, in a session of its own.

        ``env`` None is this process's environment; TMPDIR becomes the sandbox's either way. The Popen's pid is that of a
        helper which ends as the command ends and takes the command along when it is killed (SIGKILL reaches the command
        alone; its own children live until the sandbox ends). /tmp inside shows the folders that stood in the host's /tmp
        when the sandbox was opened; put files for the command into ``folder``.

        Raises:
            MlscaleError: the sandbox has ended.
        """
        self._check_alive()
        command = [*_PROGRAM, str(_HERE / "boxenter.py"), str(self._enter[role])]
        environment = {**(os.environ if env is None else env), "TMPDIR": str(self.folder / "tmp")}
        options: dict[str, Any] = {"env": environment, "cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr, "text": text}
        if self.isolated:
            process = subprocess.Popen([*command, "--", *map(os.fspath, argv)], start_new_session=True, **options)
            self._spawned.append((process, None))
            return process
        gate, go = os.pipe()
        try:
            process = subprocess.Popen(
                [*command, "--go", str(gate), "--", *map(os.fspath, argv)], start_new_session=True, pass_fds=(gate,), **options
            )
            entry = self._ledger.intend("process_group", **_identity(process.pid))
            self._spawned.append((process, entry))
            os.write(go, b"1")
        finally:
            os.close(gate)
            os.close(go)
        return process

    def replica_wrapper(self, python: Path, cpu_cores: float, cpu_period_s: float) -> Path:
        """An executable that stands in for ``python``: a replica started with it is limited from exec on.

        The replica's subject is "replica-<pid inside>". Where there are no cgroups it only records (`limited` is False).

        Raises:
            MlscaleError: a quota that the kernel can't keep (period 1 ms to 1 s, at least 1 ms of CPU in it).
        """
        file = self.folder / f"python-{uuid.uuid4().hex[:6]}"
        file.write_text(wrapper_script(python, self._records, self._tree, cpu_cores, cpu_period_s))
        file.chmod(0o755)
        return file

    def replica_starts(self) -> tuple[ReplicaStart, ...]:
        """What every replica's wrapper recorded (CPU used before the limit held), oldest first."""
        return read_starts(self._records)

    def replicas(self) -> dict[str, tuple[BoxProcess, ...]]:
        """Subject ("replica-<pid inside>") -> its processes, the replica itself first; replicas that ended are left out."""
        if self._tree is None:
            alive = {start.subject: start.pid_inside for start in self.replica_starts()}
            return {subject: (BoxProcess(pid, pid),) for subject, pid in alive.items() if process_start(pid) is not None}
        found: dict[str, tuple[BoxProcess, ...]] = {}
        for subject, group in self._tree.children().items():
            if subject.startswith(REPLICA):
                pairs = [BoxProcess(inside, pid) for pid in group.pids() if (inside := inside_pid(pid)) is not None]
                if pairs:
                    found[subject] = tuple(sorted(pairs, key=lambda pair: pair.inside))
        return found

    def processes(self) -> dict[int, int]:
        """pid inside -> pid seen from here, of every process in the sandbox's cgroups."""
        groups = self._tree.children().values() if self._tree else ()
        pids = (pid for group in groups for pid in group.pids())
        return {inside: pid for pid in pids if (inside := inside_pid(pid)) is not None}

    def move(self, pid_inside: int, role: Role) -> None:
        """Count the process with this pid inside to ``role`` from now on (its children of the future too).

        Raises:
            MlscaleError: there is no such process in the sandbox.
        """
        if self._tree is None:
            return
        outside = self.processes().get(pid_inside)
        try:
            if outside is None:
                raise ProcessLookupError
            self._tree.group(role).add(outside)
        except ProcessLookupError as error:
            raise MlscaleError(f"no process {pid_inside} inside", f"sandbox {self.name}", "it has ended; look it up again") from error

    def drop_empty_replicas(self) -> tuple[str, ...]:
        """Remove the cgroups of replicas that have ended; returns their subjects."""
        dropped: list[str] = []
        for subject, group in (self._tree.children() if self._tree else {}).items():
            if subject.startswith(REPLICA) and not group.pids():
                with contextlib.suppress(OSError):  # entered again or not yet free: the next call takes it
                    for folder in group.folders:
                        folder.rmdir()
                    dropped.append(subject)
        return tuple(dropped)

    def sample(self, clock: Clock, component: str) -> list[ResourceSample]:
        """Resource use now: one sample per replica, per role (cgroups) and for the host. Cheap (a few ms).

        ``cpu_cores`` is the mean since the last call; a subject's first sample has NaN there. rss_bytes is the sum of
        the resident sets of its processes (pages that they share count for each).
        """
        return self._sampler.sample(clock, component, self._tree.children() if self._tree else {})

    def _check_alive(self) -> None:
        if self._first is not None and self._first.keeper.poll() is not None:
            raise MlscaleError("its first process has ended", f"sandbox {self.name}", "start the run again")

    def _entry_file(self, role: Role, *, whole: bool) -> Path:
        target = None if self._first is None else {"pid": self._first.pid, "start": self._first.start}
        names = [] if self._first is None else [*(["user"] if self._first.user_namespace else []), "pid", "net", "ipc"]
        content = {
            "target": target,
            "namespaces": [*names, "mnt"] if whole else names,
            "cgroup": [str(file) for file in self._tree.group(role).entry_files] if self._tree else [],
            "nice": -5 if role == "load_generator" else 0,
        }
        return entry_file(self.folder, role if whole else "prefix", content)

    def _end_processes(self, grace_s: float) -> None:
        if self._first is not None:
            self._first.end(grace_s)
        for process, entry in self._spawned:
            if entry is not None:
                _end_group(process, grace_s)
                self._ledger.done(entry)
            process.wait()


@dataclass(frozen=True, slots=True)
class _First:
    """The keeper (a child of ours), process 1 of the sandbox as seen from here, and our end of the pipe."""

    keeper: subprocess.Popen[bytes]
    pid: int
    start: str
    user_namespace: bool

    def end(self, grace_s: float) -> None:
        assert self.keeper.stdin is not None
        with contextlib.suppress(OSError):  # it has ended already
            self.keeper.stdin.write(b"end\n")
            self.keeper.stdin.flush()
        try:
            self.keeper.wait(grace_s + 2)
        except subprocess.TimeoutExpired:
            self.keeper.kill()
            self.keeper.wait()
        with contextlib.suppress(OSError):
            self.keeper.stdin.close()


@contextmanager
def open_sandbox(name: str, ledger: Ledger, *, grace_s: float = 2.0) -> Iterator[Sandbox]:
    """A sandbox for the length of the ``with`` block; afterwards nothing of it is left.

    Args:
        name: for people, in messages.
        ledger: where everything that could outlive a crash is written down.
        grace_s: how long processes may take to end after SIGTERM before they are killed.

    Raises:
        MlscaleError: no scratch folder can be made, or something of it could not be removed at the end.
    """
    identifier = uuid.uuid4().hex[:8]
    folder = _scratch_root() / f"mls-{identifier}"
    hierarchy = find_hierarchy()
    tree = None if isinstance(hierarchy, str) else Tree(hierarchy, f"mlscale-{identifier}")
    reasons = [hierarchy] if isinstance(hierarchy, str) else []
    entry = ledger.intend("sandbox", folder=str(folder), cgroups=[str(path) for path in tree.folders] if tree else [])
    box: Sandbox | None = None
    first: _First | None = None
    try:
        try:
            folder.mkdir(mode=0o700)
        except OSError as error:
            raise MlscaleError(f"no scratch folder: {error.strerror}", str(folder), "set TMPDIR to a folder that can be written") from error
        if tree is not None:
            try:
                tree.create(ROLES)
            except OSError as error:
                reasons.append(f"no cgroups: {error}")
                remove_tree(tree.folders)
                tree = None
        first, reason = _start_first(grace_s, folder)
        reasons += [reason] if reason else []
        box = Sandbox(name, folder, first, tree, reasons, ledger)
        yield box
    finally:
        if box is not None:
            box._end_processes(grace_s)
        elif first is not None:
            first.end(grace_s)
        remove_sandbox(folder, tree.folders if tree else ())
        ledger.done(entry)


def remove_sandbox(folder: Path, cgroups: tuple[Path, ...]) -> None:
    """Remove a sandbox's cgroups and scratch folder, if they are there. Raises MlscaleError when something stays."""
    remove_tree(cgroups)
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MlscaleError(f"the folder can't be removed: {error}", str(folder), "delete it by hand") from error


_PROGRAM: Final = (sys.executable, "-I", "-S")


def _start_first(grace_s: float, folder: Path) -> tuple[_First | None, str]:
    """Process 1 of new namespaces, or None and the reason."""
    if sys.platform != "linux":
        return None, f"{sys.platform} has no namespaces"
    needed = [Path(sys.prefix), Path(sys.base_prefix), _HERE, Path.cwd(), Path.home(), folder]
    names = {path.resolve().relative_to("/tmp").parts[0] for path in needed if path.resolve().is_relative_to("/tmp/")}
    keeper = subprocess.Popen(
        [*_PROGRAM, str(_HERE / "boxinit.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        cwd="/",
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    assert keeper.stderr is not None
    _close_in_forks(keeper.stdin)
    keeper.stdin.write(json.dumps({"hidden": _HIDDEN, "needed": sorted(names), "grace_s": grace_s}).encode() + b"\n")
    keeper.stdin.flush()
    ready, _, _ = select.select([keeper.stdout], [], [], 20)
    line = keeper.stdout.readline() if ready else b""
    keeper.stdout.close()
    answer: dict[str, Any] = json.loads(line) if line else {"ok": False, "step": "start", "reason": "no answer"}
    start = process_start(answer["pid"]) if answer["ok"] else None
    if start is None:
        keeper.kill()
        detail = keeper.stderr.read().decode(errors="replace").strip()[-300:]
        keeper.wait()
        keeper.stdin.close()
        keeper.stderr.close()
        return None, f"no namespaces: {answer.get('step')}: {answer.get('reason')} {detail}".strip()
    keeper.stderr.close()
    return _First(keeper, int(answer["pid"]), start, bool(answer["user_namespace"])), ""


def _close_in_forks(pipe: IO[bytes]) -> None:
    """A forked child of ours (multiprocessing) must not hold the pipe open when we die."""
    held = weakref.ref(pipe)

    def close() -> None:
        stream = held()
        if stream is not None and not stream.closed:
            os.close(stream.fileno())

    os.register_at_fork(after_in_child=close)


def _scratch_root() -> Path:
    """A short folder for scratch: paths of Unix sockets below it must stay under 108 characters."""
    own = Path(tempfile.gettempdir())
    return own if len(str(own)) <= 24 or not Path("/tmp").is_dir() else Path("/tmp")


def _identity(pid: int) -> dict[str, Any]:
    found = ProcessIdentity.of(pid)
    return (found or ProcessIdentity(pid, "", boot_id(), pid_namespace())).to_json()


def _end_group(process: subprocess.Popen[Any], grace_s: float) -> None:
    """SIGTERM, a bounded wait, SIGKILL, for the whole process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)
