"""A sandbox: one process tree in its own PID, mount, IPC and network namespaces (only ``lo``) and its own cgroups.

Its first process ends when the caller closes a pipe or dies, and then the kernel kills the whole tree. After a kill -9
of the caller, empty cgroups and a folder remain, which are in the ledger (`mlscale.host.reap`). Without namespaces,
process groups, a marker in the environment and the ledger are used instead (``isolated`` is False). Without cgroups
there is no CPU quota (``limited`` is False). `Sandbox.facts` says what is missing and why.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

from mlscale.host.cgroups import Budget, Tree, find_hierarchy, pids_below, remove_tree, with_groups
from mlscale.host.init_process import HERE, PROGRAM, FirstProcess, start_first_process
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.membership import BoxProcess, CgroupMembers, Members, ScannedMembers, find_process
from mlscale.host.processes import (
    MARKER_VARIABLE,
    ROLE_VARIABLE,
    ProcessIdentity,
    end_group,
    end_marked,
    kill_until_none,
)
from mlscale.host.replica_launcher import REPLICA, ReplicaStart, read_starts, wrapper_script, write_entry_file
from mlscale.host.sampling import Sampler
from mlscale.host.scratch import remove_folder, scratch_root
from mlscale.runs import Clock, MlscaleError, ResourceSample, Role

__all__ = ["ROLES", "BoxProcess", "ReplicaStart", "Sandbox", "open_sandbox"]

# Roles that have a cgroup from the start; each replica gets one of its own.
ROLES: Final[tuple[Role, ...]] = ("control_plane", "data_plane", "load_generator")


@dataclass(frozen=True, slots=True)
class _Parts:
    """The parts of a sandbox; None where the host doesn't allow one, for ``reasons``."""

    folder: Path
    ledger: Ledger
    first: FirstProcess | None
    tree: Tree | None
    reasons: tuple[str, ...]


class Sandbox:
    """Created by `open_sandbox`. `sample` may be called from another thread."""

    def __init__(self, name: str, parts: _Parts) -> None:
        self.name = name
        self.folder = parts.folder
        """Scratch folder: same path inside and outside, short enough for Unix sockets, removed at the end."""
        self.isolated = parts.first is not None
        """Whether it has its own namespaces."""
        self.limited = parts.tree is not None
        """Whether it has its own cgroups, so that the replica wrapper's CPU quota applies."""
        self._parts = parts
        self._spawned: list[tuple[subprocess.Popen[Any], LedgerEntry | None]] = []
        self._roots: dict[int, Role] = {}
        self._records = parts.folder / "replicas"
        self._records.mkdir()
        (parts.folder / "tmp").mkdir()
        self._members: Members = (
            ScannedMembers(parts.folder.name, self._records, parts.first.pid if parts.first else None, self._roots)
            if parts.tree is None
            else CgroupMembers(parts.tree)
        )
        self._sampler = Sampler()
        self._owners: dict[str, str] = {}
        self._enter = {role: self._command(role, whole=True) for role in ROLES}
        self.prefix: tuple[str, ...] = (*self._command("load_generator", whole=False), "--")
        """argv to prepend to the load generator's: PID and network namespace of the sandbox, role load_generator, but
        the host's file system, so that files created later (a load specification, a run folder) are visible. Exit code,
        standard streams, environment and working folder pass through; SIGTERM and SIGKILL reach the command."""

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json: isolated, limited, cgroup_version, user_namespace, load_realtime (whether the load generator is
        a real-time task, before all others), shared_cores (common quota of data plane and replicas; None: each replica
        has its own, the data plane none), reasons (why something is missing)."""
        first, tree = self._parts.first, self._parts.tree
        return {
            "isolated": self.isolated,
            "limited": self.limited,
            "cgroup_version": tree.version if tree else None,
            "user_namespace": first.user_namespace if first else False,
            "load_realtime": os.geteuid() == 0 and (tree is None or tree.realtime),
            "shared_cores": tree.budget.cores if tree and tree.budget else None,
            "reasons": list(self._parts.reasons),
        }

    @property
    def alive(self) -> bool:
        """False once its first process has ended, and with it all others. Always True without namespaces."""
        return self._parts.first is None or self._parts.first.keeper.poll() is None

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
        """Start ``argv`` inside, in the cgroup of ``role`` from exec on, in its own session.

        ``env`` None is this process's environment; TMPDIR is set to the sandbox's either way. The Popen's pid is that
        of a helper that ends as the command does, and whose death kills the command (SIGKILL reaches the command alone;
        its children live until the sandbox ends). /tmp inside shows the folders that were in the host's /tmp when the
        sandbox was opened; put files for the command into ``folder``.

        Raises:
            MlscaleError: the sandbox has ended, or ``role`` has no cgroup to start in.
        """
        if not self.alive:
            raise MlscaleError("its first process has ended", f"sandbox {self.name}", "start the run again")
        if role not in self._enter:
            raise MlscaleError(
                f"can't spawn as {role}", f"sandbox {self.name}", "start replicas with replica_wrapper()"
            )
        options: dict[str, Any] = {"cwd": cwd, "stdin": stdin, "stdout": stdout, "stderr": stderr, "text": text}
        options |= {"env": None if env is None else dict(env), "start_new_session": True}
        words = [os.fspath(word) for word in argv]
        if self.isolated:
            process = subprocess.Popen([*self._enter[role], "--", *words], **options)
            self._spawned.append((process, None))
        else:
            process = self._spawn_gated(role, words, options)
        return process

    def replica_wrapper(self, python: Path, cpu_cores: float, cpu_period_s: float, component: str = "") -> Path:
        """An executable to use in place of ``python``: a replica started with it is limited from exec on.

        The replica's subject is "replica-<pid inside>". Without cgroups it only records (`limited` is False). It works
        both inside and outside the sandbox. ``component``, where there are several, is the one whose replicas it
        starts; their samples and records name it.

        Raises:
            MlscaleError: a quota that the kernel can't enforce (period 1 ms to 1 s, at least 1 ms of CPU in it).
        """
        file = self.folder / f"python-{uuid.uuid4().hex[:6]}"
        file.write_text(wrapper_script(python, self._records, self._parts.tree, cpu_cores, cpu_period_s, component))
        file.chmod(0o755)
        return file

    def replica_starts(self) -> tuple[ReplicaStart, ...]:
        """What every replica's wrapper recorded (CPU used before the limit applied, and when), oldest first."""
        return read_starts(self._records)

    def replicas(self) -> dict[str, tuple[BoxProcess, ...]]:
        """Subject ("replica-<pid inside>") -> its processes, lowest pid first; without replicas that have ended."""
        subjects = self._members.subjects().items()
        return {subject: processes for subject, processes in subjects if subject.startswith(REPLICA) and processes}

    def move(self, pid_inside: int, role: Role) -> None:
        """Move the process with this pid inside the sandbox, and children that it starts later, to ``role``.

        Raises:
            MlscaleError: there is no such process in the sandbox.
        """
        try:
            self._members.move(find_process(self._members, pid_inside, self.name), role)
        except ProcessLookupError as error:
            raise MlscaleError(f"process {pid_inside} has ended", f"sandbox {self.name}", "look it up again") from error

    def sample(self, clock: Clock, component: str) -> list[ResourceSample]:
        """Current resource use: a sample per replica, per role and for the host. Takes less than 1 ms with cgroups.

        ``cpu_cores`` is the mean since the last call; a subject's first sample has NaN there. rss_bytes is the sum of
        the resident sets of its processes (shared pages count for each). Samples name ``component``, except those of
        replicas whose wrapper was created for another one.
        """
        rows = self._sampler.sample(clock, component, self._members.usage)
        if any(row.role == "replica" and row.subject not in self._owners for row in rows):
            self._owners = {start.subject: start.component for start in self.replica_starts()}
        return [replace(row, component=self._owners.get(row.subject) or component) for row in rows]

    def _spawn_gated(self, role: Role, words: list[str], options: dict[str, Any]) -> subprocess.Popen[Any]:
        """Without namespaces: the command starts only once its process group is in the ledger."""
        gate, go = os.pipe()
        try:
            process = subprocess.Popen(
                [*self._enter[role], "--go", str(gate), "--", *words], pass_fds=(gate,), **options
            )
            leader = ProcessIdentity.of(process.pid)
            assert leader is not None, "it waits for the gate"
            entry = self._parts.ledger.intend("process_group", **leader.to_json())
            self._spawned.append((process, entry))
            self._roots[process.pid] = role
            os.write(go, b"1")
        finally:
            os.close(gate)
            os.close(go)
        return process

    def _command(self, role: Role, *, whole: bool) -> tuple[str, ...]:
        """argv up to the options of sandbox_enter.py; ``whole``: with the sandbox's own file system and TMPDIR."""
        first, tree = self._parts.first, self._parts.tree
        names = [] if first is None else [*(["user"] if first.user_namespace else []), "pid", "net", "ipc"]
        environment = {MARKER_VARIABLE: self.folder.name, ROLE_VARIABLE: role}
        content = {
            "target": None if first is None else {"pid": first.pid, "start": first.start},
            "namespaces": [*names, "mnt"] if names and whole else names,
            "cgroup": [str(file) for file in tree.group(role).entry_files] if tree else [],
            "nice": -5 if role == "load_generator" else 0,
            "realtime": role == "load_generator",
            "environment": {**environment, "TMPDIR": str(self.folder / "tmp")} if whole else environment,
        }
        file = write_entry_file(self.folder, role if whole else "prefix", content)
        return (*PROGRAM, str(HERE / "sandbox_enter.py"), str(file))

    def _end(self, grace_s: float) -> None:
        """SIGTERM every process and wait for at most ``grace_s``; `_kill` ends the rest."""
        if self._parts.first is not None:
            self._parts.first.end(grace_s)
        self._end_outside(grace_s)

    def _kill(self) -> None:
        """End every process at once and collect the spawned ones."""
        try:
            self._end_outside(0)
        finally:
            if self._parts.first is not None:
                self._parts.first.kill()
            if self._parts.tree is not None:
                folders = self._parts.tree.folders
                kill_until_none(lambda: pids_below(folders))
            for process, _ in self._spawned:
                process.kill()
                process.wait()

    def _end_outside(self, grace_s: float) -> None:
        """Without namespaces: end the process groups, and processes that have left them."""
        if self.isolated:
            return
        for process, entry in self._spawned:
            if entry in self._parts.ledger.open_entries:
                end_group(process.pid, grace_s, process.poll)
                self._parts.ledger.done(entry)
        end_marked(self.folder.name, grace_s)


@contextmanager
def open_sandbox(name: str, ledger: Ledger, *, budget: Budget | None = None, grace_s: float = 2.0) -> Iterator[Sandbox]:
    """A sandbox for the length of the ``with`` block; nothing of it remains afterwards.

    Args:
        name: shown in messages.
        ledger: records everything that could outlive a crash.
        budget: common quota of data plane and replicas, in addition to each replica's own.
        grace_s: time between SIGTERM and SIGKILL, s.

    Raises:
        MlscaleError: no scratch folder, a budget that the kernel can't enforce, or something could not be removed at
            the end (its ledger entry then stays, for `mlscale.host.reap.cleanup`).
    """
    identifier = uuid.uuid4().hex[:8]
    folder = scratch_root() / f"mls-{identifier}"
    hierarchy = find_hierarchy()
    tree = hierarchy if isinstance(hierarchy, str) else Tree(hierarchy, f"mlscale-{identifier}", budget)
    groups = () if isinstance(tree, str) else tree.folders
    entry = ledger.intend("sandbox", folder=str(folder), cgroups=[str(path) for path in groups])
    box: Sandbox | None = None
    try:
        box = _build(name, folder, ledger, tree, grace_s)
        yield box
    finally:
        try:
            if box is not None:
                box._end(grace_s)
        finally:  # Ctrl-C skips the grace period
            try:
                if box is not None:
                    box._kill()
            finally:
                remove_tree(groups)
                remove_folder(folder)
            ledger.done(entry)  # not after an interrupted kill: cleanup has to look for survivors


def free_ports(number: int) -> list[int]:
    """Distinct free ports of the loopback address, for hosts without isolation. If another process takes one first, the
    program that wants to listen there reports it."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [int(listener.getsockname()[1]) for listener in sockets]


def _build(name: str, folder: Path, ledger: Ledger, tree: Tree | str, grace_s: float) -> Sandbox:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise _unwritable(folder, error) from error
    tree = with_groups(tree, ROLES)
    needed = (Path(sys.prefix), Path(sys.base_prefix), HERE, Path.cwd(), Path.home(), folder)
    first = start_first_process(grace_s, needed, folder.name)
    reasons = tuple(part for part in (tree, first) if isinstance(part, str))
    parts = _Parts(
        folder, ledger, None if isinstance(first, str) else first, None if isinstance(tree, str) else tree, reasons
    )
    try:
        return Sandbox(name, parts)
    except BaseException as error:
        if parts.first is not None:
            parts.first.kill()
        if isinstance(error, OSError):
            raise _unwritable(folder, error) from error
        raise


def _unwritable(folder: Path, error: OSError) -> MlscaleError:
    return MlscaleError(f"no scratch folder: {error.strerror}", str(folder), "set TMPDIR to a writable folder")
