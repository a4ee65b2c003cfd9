"""The protocol between an agent and its parent, against small real child processes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from mlscale.environments.agent import AgentProcess, to_observation
from mlscale.environments.base import ObservationLost
from mlscale.environments.emit import Emitter, commands
from mlscale.host.log_tail import log_tail
from mlscale.runs import Event, MlscaleError, Observation, ReplicaSample, ResourceSample, RunClock


def _spawn(argv: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes]) -> subprocess.Popen[Any]:
    return subprocess.Popen(list(argv), stdin=stdin, stdout=stdout, stderr=stderr)


def _agent(tmp_path: Path, code: str) -> AgentProcess:
    prelude = "import sys\nfrom mlscale.environments.emit import Emitter, commands\nout = Emitter()\n"
    return AgentProcess(
        _spawn, [sys.executable, "-c", prelude + textwrap.dedent(code)], tmp_path / "agent.log", "tester"
    )


def _take(iterator: Iterator[Observation], n: int) -> list[Observation]:
    return [next(iterator) for _ in range(n)]


def test_facts_then_observations_on_the_runs_clock(tmp_path: Path) -> None:
    code = """
        import time
        out.event("app", "replica_ready", "replica-1", t=time.monotonic() - 5)
        out.ready(port=7)
        for command in commands():
            out.replicas("app", 2, 1, 1)
            out.event("app", "scale_decision", detail={"reason": command["why"]}, known_within_s=0.5)
    """
    stop = threading.Event()
    with _agent(tmp_path, code) as agent:
        assert agent.wait_ready(20)["port"] == 7
        clock = RunClock()
        agent.send("go", why="load")
        early, sample, event = _take(agent.observations(clock, stop), 3)
        assert isinstance(early, Event)
        assert early.t_s < 0, "what happened while the run was prepared has negative times"
        assert isinstance(sample, ReplicaSample)
        assert (sample.desired, sample.starting, sample.ready) == (2, 1, 1)
        assert isinstance(event, Event)
        assert event.detail["reason"] == "load"
        assert 0 <= sample.t_s <= event.t_s <= clock()
    assert agent.process.poll() == 0, "end of input ends the agent by itself"


def test_samples_are_mixed_in_and_stop_ends_the_iterator(tmp_path: Path) -> None:
    row = ResourceSample(0.0, "app", "replica-1", "replica", 0.1, 1.0)
    stop = threading.Event()
    with _agent(tmp_path, "out.ready()\nfor _ in commands(): pass") as agent:
        agent.wait_ready(20)
        found = agent.observations(RunClock(), stop, sample=lambda: [row], sample_period_s=0.01)
        assert _take(found, 3) == [row, row, row]
        stop.set()
        assert len(list(found)) <= 1


@pytest.mark.parametrize("code", ["sys.exit('no such model')", "out.failed('no such model', 'archive', 'build it')"])
def test_failure_while_deploying_is_a_clear_error(tmp_path: Path, code: str) -> None:
    with _agent(tmp_path, code) as agent, pytest.raises(MlscaleError, match="no such model"):
        agent.wait_ready(20)


def test_bounded_wait_shows_the_log(tmp_path: Path) -> None:
    code = """
        print('loading forever', file=sys.stderr, flush=True)
        print('chatter', flush=True)
        out.replicas('a', 1, 0, 0)
        for _ in commands(): pass
    """
    with _agent(tmp_path, code) as agent:
        while "chatter" not in "".join(log_tail(tmp_path / "agent.log", 12)):
            assert agent.process.poll() is None
        with pytest.raises(MlscaleError, match=r"(?s)not ready within 0.1 s.*loading forever.*chatter"):
            agent.wait_ready(0.1, "load the model")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('segfault')", "exit code 1.*segfault"),
        ("out.failed('java is gone', 'torchserve', 'repeat')", "java is gone"),
        ("for _ in commands(): pass", "said nothing for 0.2 s"),
    ],
)
def test_lost_observations(tmp_path: Path, code: str, message: str) -> None:
    with _agent(tmp_path, f"out.ready()\n{code}") as agent:
        agent.wait_ready(20)
        with pytest.raises(ObservationLost, match=f"(?s){message}"):
            list(agent.observations(RunClock(), threading.Event(), silent_s=0.2))


def test_what_else_died_is_said_at_once(tmp_path: Path) -> None:
    trouble: list[str] = []
    (tmp_path / "server.log").write_text("out of memory\n")
    code = "from mlscale.environments.emit import Emitter, commands\nEmitter().ready()\nlist(commands())"
    agent = AgentProcess(
        _spawn,
        [sys.executable, "-c", code],
        tmp_path / "agent.log",
        more_logs=[tmp_path / "server.log"],
        watch=lambda: trouble[0] if trouble else None,
    )
    with agent:
        agent.wait_ready(20)
        trouble.append("the server ended")
        with pytest.raises(ObservationLost, match=r"(?s)the server ended.*out of memory"):
            list(agent.observations(RunClock(), threading.Event()))
        with pytest.raises(MlscaleError, match="the server ended"):
            agent.wait_ready(20)


def test_a_command_to_a_dead_agent_is_lost(tmp_path: Path) -> None:
    with _agent(tmp_path, "out.ready()") as agent:
        agent.wait_ready(20)
        agent.process.wait(20)
        with pytest.raises(ObservationLost, match="took no command"):
            agent.send("go")


def test_emitter_and_commands_round_trip() -> None:
    stream = io.StringIO()
    Emitter(stream, clock=lambda: 12.5).event("app", "replica_failed", "replica-7", detail={"why": "killed"})
    (message,) = commands(io.StringIO(stream.getvalue() + "\n"))
    event = to_observation(message, origin_s=10.0)
    assert event == Event(2.5, "app", "replica_failed", "replica-7", detail={"why": "killed"})
    assert to_observation(json.loads('{"type": "ready", "t": 1}'), 0.0) is None
