"""The trials of the campaign: each does one thing to a running command, and says what was not as it should be."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from place import REQUESTS, Place

from mlscale.runs import SCHEMAS, MlscaleError, load_run, load_runs

# A framework may take 240 s to start, and a fault can keep it from starting at all; a namespace is given up after 90 s,
# twice where its cluster has lost its kubelet.
ENDS_WITHIN_S: Final = 450.0
# By their arguments.
VICTIMS: Final[Mapping[tuple[str, str], str]] = {
    ("torchserve", "replica"): "model_service_worker.py",
    ("torchserve", "front end"): "org.pytorch.serve.ModelServer",
    ("torchserve", "load generator"): "mlscale.loadgen.worker",
    ("rayserve", "replica"): "ServeReplica",
    ("rayserve", "front end"): "ProxyActor",
    ("rayserve", "load generator"): "mlscale.loadgen.worker",
    ("k3s", "load generator"): "mlscale.loadgen.worker",
    ("load", "load generator"): "mlscale.loadgen.worker",
}


@dataclass
class Outcome:
    """``moment_s``: when it was done, after the command's start; ``run``: none, incomplete or complete; ``wrong``: what
    was not as it should be, each as "kind: what"."""

    moment_s: float = float("nan")
    exit_code: int | None = None
    run: str = "none"
    wrong: list[str] = field(default_factory=list)


Trial = Callable[[Place, random.Random], Outcome]


@dataclass(frozen=True)
class Command:
    """A command that writes a run: ``words``, and then ``--out RUN``."""

    name: str
    words: Callable[[Place], Sequence[str]]
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, place: Place, out: Path, log: str = "errors", **more: str) -> subprocess.Popen[bytes]:
        return place.start([*self.words(place), "--out", str(out)], log, **self.environment, **more)


def measure(environment: str, *options: str, model: str = "models:make", **variables: str) -> Command:
    def words(place: Place) -> list[str]:
        files = ["--bodies", str(place.folder / "bodies"), "--schedule", str(place.folder / "load.json")]
        return ["measure", environment, "--app", model, *files, "--set", "idle_s=0", *options]

    return Command(environment, words, variables)


def load(url: str) -> Command:
    return Command("load", lambda place: ["load", url, "--schedule", str(place.folder / "load.json")])


def simulate(environment: str) -> Command:
    return Command("simulate", lambda place: ["simulate", environment, "--schedule", str(place.folder / "load.json")])


def whole(place: Place, command: Command) -> Outcome:
    """The command, undisturbed: it has to work after whatever was done before."""
    out, begun_s = place.new_run(), time.monotonic()
    outcome = end(place, command.start(place, out), out, {0})
    place.lengths_s[command.name] = time.monotonic() - begun_s
    if outcome.run != "complete":
        outcome.wrong.append(f"next run: {outcome.run}")
    return outcome


def killed(command: Command, victim: str = "mlscale") -> Trial:
    """kill -9 of the command itself or of a process that it started, at a random moment of its life."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out)
        if victim == "mlscale":
            wait(process, rng.uniform(0, length_s(place, command)))
            moment_s = time.monotonic() - begun_s
            process.kill()
            outcome = end(place, process, out, {-signal.SIGKILL, 0}, cleaned_up_by_itself=False)
        else:
            part = VICTIMS[command.name, victim]
            while not place.processes(part) and process.poll() is None:
                time.sleep(0.05)
            wait(process, rng.uniform(0, length_s(place, command) - (time.monotonic() - begun_s)))
            moment_s, pids = time.monotonic() - begun_s, place.processes(part)
            for pid in rng.sample(pids, min(len(pids), 1)):
                os.kill(pid, signal.SIGKILL)
            outcome = end(place, process, out, {0, 2})
            if not pids:
                moment_s = float("nan")  # it had ended already
        outcome.moment_s = moment_s
        return outcome

    return trial


def interrupted(command: Command) -> Trial:
    """Ctrl-C, as a terminal sends it to the process group; one in four times twice."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out)
        wait(process, rng.uniform(0.5, length_s(place, command)))  # before, Python itself is still starting
        moment_s, again = time.monotonic() - begun_s, rng.random() < 0.25
        for _ in range(1 + again):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
                wait(process, 0.3)
        # A shell calls the end by SIGINT 130 as well: while Python imports or, the command done, exits.
        outcome = end(place, process, out, {130, -signal.SIGINT, 0}, cleaned_up_by_itself=not again)
        outcome.moment_s = moment_s
        return outcome

    return trial


def disk_full(command: Command, where: str, smallest_kib: int, largest_kib: int) -> Trial:
    """The run's folder, the scratch folder or the state home is a small disk. ``where``: runs, t or state."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        kib = rng.randint(smallest_kib, largest_kib)
        with _small_disk(place, place.folder / where, kib):
            out = place.new_run()
            return end(place, command.start(place, out), out, {0, 2})

    return trial


def clock_stepped(command: Command) -> Trial:
    """The wall clock of everything that runs jumps by 1 s to 1 h, forwards or back. (A preloaded library adds the step:
    a time namespace has no wall clock of its own.)"""

    def trial(place: Place, rng: random.Random) -> Outcome:
        file = place.folder / "step"
        file.write_bytes(struct.pack("q", 0))
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out, LD_PRELOAD=str(_shim(place)), CLOCK_STEP_FILE=str(file))
        wait(process, rng.uniform(0.5, length_s(place, command)))
        moment_s = time.monotonic() - begun_s
        with file.open("r+b") as mapped:
            mapped.write(struct.pack("q", rng.choice((-1, 1)) * round(3600 ** rng.random())))
        outcome = end(place, process, out, {0, 2})  # Ray does not start if its clock is stepped meanwhile
        outcome.moment_s = moment_s
        if outcome.run == "complete":
            outcome.wrong += _times_out_of_range(out)
        return outcome

    return trial


def bad_network(command: Command, *rule: str) -> Trial:
    """``rule``, such as a tc command, is applied in the sandbox's network namespace at a random moment."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out)
        wait(process, rng.uniform(2, length_s(place, command)))
        here = _namespace(os.getpid())
        inside = [pid for pid in place.processes() if _namespace(pid) not in ("", here)]
        moment_s = time.monotonic() - begun_s if inside else float("nan")
        for pid in inside[:1]:
            subprocess.run(["nsenter", "-t", str(pid), "-n", *rule], check=False, capture_output=True)
        outcome = end(place, process, out, {0, 2})
        outcome.moment_s = moment_s
        return outcome

    return trial


def memory_limited(command: Command, limit_bytes: int) -> Trial:
    """Replicas may use ``limit_bytes``, and their model keeps more with every request: the kernel kills them."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        group = Path("/sys/fs/cgroup/memory", place.folder.name)
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        out, begun_s = place.new_run(), time.monotonic()
        process = command.start(place, out)
        kills = 0
        while process.poll() is None and time.monotonic() < begun_s + ENDS_WITHIN_S:
            for pid in place.processes(VICTIMS[command.name, "replica"]):
                _enter(group, pid)
            kills = max(kills, _oom_kills(group))
            time.sleep(0.1)
        outcome = end(place, process, out, {0, 2})
        group.rmdir()
        if kills == 0:
            outcome.wrong.append("trial: no replica reached the limit")
        return outcome

    return trial


def two_at_once(command: Command, *, same_folder: bool) -> Trial:
    """Two starts of the same command at the same moment: into one folder, one is refused; into two, both work."""

    def trial(place: Place, rng: random.Random) -> Outcome:
        outs = [place.new_run()] * 2 if same_folder else [place.new_run(), place.new_run()]
        pair = [command.start(place, out, f"errors{number}") for number, out in enumerate(outs)]
        codes = sorted(filter(lambda code: code is not None, [exit_code_of(process) for process in pair]))
        outcome = end(place, pair[0], outs[0], {0, 2}, log="errors0")
        outcome.wrong += [f"run: {text}" for text in _look(outs[1])[1]]
        if codes != ([0, 2] if same_folder else [0, 0]):
            outcome.wrong.append(f"exit code: {codes} of two starts")
        return outcome

    return trial


def length_s(place: Place, command: Command) -> float:
    return place.lengths_s[command.name]


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return


def exit_code_of(process: subprocess.Popen[bytes]) -> int | None:
    """None if it hung; then it is killed."""
    try:
        return process.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def end(
    place: Place,
    process: subprocess.Popen[bytes],
    out: Path,
    expected: set[int],
    *,
    cleaned_up_by_itself: bool = True,
    log: str = "errors",
    repair: Callable[[], object] = lambda: None,
) -> Outcome:
    """Wait for the command, look at the run, ``repair`` what was broken (it raises AssertionError if it can't), clean
    up, and look at what is left."""
    code = exit_code_of(process)
    errors = place.errors(log)
    outcome = Outcome(exit_code=code)
    if code is None:
        outcome.wrong.append(f"hang: it had not ended after {ENDS_WITHIN_S:g} s")
    elif code not in expected:
        outcome.wrong.append(f"exit code: {code}, {errors.strip().splitlines()[-1:]}")
    if "Traceback" in errors:
        outcome.wrong.append(f"traceback: {errors.strip().splitlines()[-1]}")
    if cleaned_up_by_itself:
        outcome.wrong += [f"left: {what}" for what in place.left()]
    outcome.run, wrong = _look(out)
    outcome.wrong += [f"run: {text}" for text in wrong]
    try:
        repair()
    except AssertionError as error:
        outcome.wrong.append(f"repair: {error}")
    if exit_code_of(place.start(["cleanup"], "cleanup")) != 0:
        outcome.wrong.append(f"cleanup: {place.errors('cleanup').strip()}")
    outcome.wrong += [f"left after cleanup: {what}" for what in place.left()]
    # The record is published, and names no path of this machine.
    outcome.wrong = [text.replace(f"{place.folder}/", "") for text in outcome.wrong]
    return outcome


def _look(out: Path) -> tuple[str, list[str]]:
    """Whether there is a run, and what is wrong with it."""
    if not (out / "run.json").exists():
        files = [path.name for path in out.glob("*")]
        return "none", [f"{', '.join(files)} without a run.json"] if files else []
    run = load_run(out, allow_incomplete=True)
    rows = {name: len(getattr(run, name)) for name in SCHEMAS}  # every table can be read
    if not run.info.complete:
        return "incomplete", [] if _refused(out) else ["incomplete, yet opened for a comparison"]
    unfinished = int((run.requests["status"] == "unfinished").sum())
    if rows["requests"] != REQUESTS or run.requests["request_id"].nunique() != REQUESTS or unfinished:
        return "complete", [f"complete with {rows['requests']} of {REQUESTS} requests, {unfinished} unfinished"]
    return "complete", []


def _refused(out: Path) -> bool:
    try:
        load_runs([out])
    except MlscaleError:
        return True
    return False


def _times_out_of_range(out: Path) -> list[str]:
    """Times that a stepped clock has moved: a run of seconds has none beyond two minutes."""
    run = load_run(out)
    wrong = []
    for name in ("events", "replicas", "resources"):
        times_s = getattr(run, name)["t_s"].dropna()
        if len(times_s) and not times_s.between(-120, 120).all():
            wrong.append(f"times: {name} from {times_s.min():.0f} to {times_s.max():.0f} s")
    response_s = run.requests["done_s"] - run.requests["intended_s"]
    if not response_s.between(0, 30).all():
        wrong.append(f"times: responses from {response_s.min():.1f} to {response_s.max():.1f} s")
    return wrong


@contextmanager
def _small_disk(place: Place, folder: Path, kib: int) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], check=True)
    place.mounted.add(str(folder))
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        place.mounted.discard(str(folder))


def _shim(place: Place) -> Path:
    library, source = place.folder / "shim.so", Path(__file__).with_name("shim.c")
    if not library.exists():
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def _namespace(pid: int) -> str:
    try:
        return str(Path(f"/proc/{pid}/ns/net").readlink())
    except OSError:  # it has ended
        return ""


def _enter(group: Path, pid: int) -> None:
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return


def _oom_kills(group: Path) -> int:
    lines = (group / "memory.oom_control").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
