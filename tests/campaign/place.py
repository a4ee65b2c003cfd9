"""Where trials run, and a look at what they left there: processes, cgroups, mounts, interfaces, files.

All trials of a campaign share one place, so that each begins in what the one before it left.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from impatient import MLSCALE

RATE_RPS = 5.0
DURATION_S = 4.0
REQUESTS = round(RATE_RPS * DURATION_S)


@dataclass(frozen=True)
class Place:
    """A folder with bodies, a schedule, a state home and a scratch folder; and what the host had before."""

    folder: Path
    groups: frozenset[str]
    links: frozenset[str]
    mounted: set[str] = field(default_factory=set)
    """Mount points of the trial itself."""
    lengths_s: dict[str, float] = field(default_factory=dict)
    """How long a whole command takes, by its name."""
    others: list[Callable[[], list[str]]] = field(default_factory=list)
    """Further places to look for what is left."""

    @classmethod
    @contextmanager
    def open(cls) -> Iterator[Place]:
        folder = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))  # short: Unix sockets lie below it
        place = cls(folder, frozenset(_groups()), frozenset(_links()))
        try:
            place.scratch.mkdir()
            (folder / "bodies").mkdir()
            for number in range(4):
                (folder / "bodies" / f"{number}").write_text(f"photo {number}")
            rate = {"shape": "constant", "rate_rps": RATE_RPS}
            load = {"loop": "open", "duration_s": DURATION_S, "rate": rate, "arrivals": "even"}
            (folder / "load.json").write_text(json.dumps(load))
            yield place
        finally:
            for pid in place.processes():
                os.kill(pid, signal.SIGKILL)
            place.start(["cleanup"], "cleanup").wait()  # of the trial that was interrupted, if one was
            shutil.rmtree(folder)

    @property
    def scratch(self) -> Path:
        return self.folder / "t"

    @property
    def _ledgers(self) -> Path:
        return self.folder / "state/mlscale/ledger"

    @property
    def environment(self) -> dict[str, str]:
        """Names the folder, and with it every process that a trial starts."""
        return {**os.environ, "XDG_STATE_HOME": str(self.folder / "state"), "TMPDIR": str(self.scratch)}

    def new_run(self) -> Path:
        return self.folder / "runs" / uuid.uuid4().hex[:8]

    def start(self, words: Sequence[str], log: str = "errors", **more: str) -> subprocess.Popen[bytes]:
        """``mlscale WORDS``, in a process group of its own, as a shell would; its standard error is kept."""
        with (self.folder / log).open("wb") as errors:
            return subprocess.Popen(
                [*MLSCALE, *words],
                cwd=Path(__file__).parent,  # where the models are
                env=self.environment | more,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )

    def errors(self, log: str = "errors") -> str:
        return (self.folder / log).read_text(errors="replace")

    def processes(self, part: str = "") -> list[int]:
        """Processes that name the folder in their environment or arguments, or belong to a cgroup in its ledgers (Ray
        overwrites both), and ``part`` in their arguments."""
        mine = str(self.folder).encode()
        ledgers = "".join(file.read_text() for file in self._ledgers.glob("*.jsonl"))
        groups = re.findall(r'"(/sys/fs/cgroup/[^"]*/mlscale-[0-9a-f]{8})"', ledgers)
        members = {pid for group in groups for pid in _members(group)}
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                named = entry.name in members or mine in argv or mine in (entry / "environ").read_bytes()
            except OSError:  # it has ended
                continue
            if named and part.encode() in argv and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def left(self, at_most_s: float = 15.0) -> list[str]:
        """What is left; waits for it to go. A port can only be left with a process, an interface of a sandbox only with
        its network namespace, which lives as long as a process in it."""
        deadline_s = time.monotonic() + at_most_s
        while (found := self._left()) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        return found

    def _left(self) -> list[str]:
        found = [f"process {_named(pid)}" for pid in self.processes()]
        # Other tests' sandboxes may run beside this; what nothing runs in is nobody's any more.
        found += [f"cgroup {group}" for group in sorted(set(_groups()) - self.groups) if not _members(group)]
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        found += [f"mount {point}" for point in mounts if str(self.folder) in point and point not in self.mounted]
        links = _links() - self.links
        found += [f"interface {name}" for name in sorted(links) if not name.startswith("mlsc")]  # another cluster's
        for folder in (self.scratch, self._ledgers):
            found += [f"file {path}" for path in sorted(folder.glob("*"))]
        return found + [what for other in self.others for what in other()]


def _named(pid: int) -> str:
    try:
        return (
            f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().replace(bytes(1), b' ').decode(errors='replace')[:80]}"
        )
    except OSError:
        return str(pid)


def _links() -> set[str]:
    return {path.name for path in Path("/sys/class/net").iterdir()}


def _groups() -> list[str]:
    """Sandboxes' cgroups, in every hierarchy."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if re.search(r"/mlscale-[0-9a-f]{8}$", folder)]


def _members(group: str) -> list[str]:
    found: list[str] = []
    for folder, _, _ in os.walk(group):
        try:
            found += Path(folder, "cgroup.procs").read_text().split()
        except OSError:  # it is being removed
            continue
    return found
