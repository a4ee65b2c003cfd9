"""A user's model is tried before anything is deployed: what is wrong with it is one line, a second later."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from mlscale.environments.base import App, own_model
from mlscale.host.processes import process_start
from mlscale.loadgen.bodies import BodySet
from mlscale.measurement import trial
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.measurement.trial import try_model
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError

TRIAL = MeasureOptions(trial=True)
MODELS = """
import ctypes, os, sys, time
def hangs_at_load():
    time.sleep(600)
def hangs_at_an_answer():
    return lambda body: time.sleep(600)
def leaves_a_child():
    child = os.fork()
    if child == 0:
        time.sleep(600)
    return lambda body: {"child": child}
def prints():
    def answer(body):
        sys.stdout.write("no line's end")
        sys.stdout.flush()
        ctypes.CDLL(None).puts(b"from C")
        ctypes.CDLL(None).fflush(None)
        return {"letters": len(body)}
    return answer
def ends():
    print("a fatal line", flush=True)
    os._exit(3)
def slow():
    def answer(body):
        time.sleep(0.1)
        return {}
    return answer
def count():
    print("loading")
    return lambda body: {"letters": len(body)}
def raises():
    raise RuntimeError("the weights are missing")
def needs():
    import no_such_package
def number():
    return 5
def no_mapping():
    return lambda body: 3
def refuses():
    def answer(body):
        raise ValueError("not a photo")
    return answer
def front():
    def answer(body):
        counted = yield "count", body
        return {"twice": 2 * counted["letters"]}
    return answer
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(MODELS)
    Path("bodies").mkdir()
    Path("bodies/one.txt").write_text("word")
    Path("bodies/two.txt").write_text("words")


def wait_until_gone(pid: int) -> None:
    deadline_s = time.monotonic() + 30
    while process_start(pid) is not None:
        assert time.monotonic() < deadline_s, "it has ended"
        time.sleep(0.01)


def said(app: App) -> str:
    return try_model(app, BodySet.read("bodies"), "bodies").said


def test_answers_are_counted_and_their_cost_is_said() -> None:
    assert said(own_model("models:count")).startswith("trial: each of 2 bodies is answered; ")


def test_wrong_answers_are_named_before_they_count_as_failures() -> None:
    labels = [{"file": "one.txt", "answer": {"letters": 4}}, {"file": "two.txt", "answer": {"letters": 4}}]
    Path("bodies/labels.jsonl").write_text("\n".join(map(json.dumps, labels)))
    text = said(own_model("models:count"))
    assert "1 of 2 answers are right" in text
    assert 'two.txt: {"letters": 5}' in text
    assert "each of 2 bodies" in said(replace(own_model("models:count"), check="none"))


def test_no_right_answer_at_all_ends_it() -> None:
    Path("bodies/two.txt").unlink()
    Path("bodies/labels.jsonl").write_text('{"file": "one.txt", "answer": {"letters": 5}}')
    with pytest.raises(MlscaleError, match=r'none of 1 answers is right: one.txt: {"letters": 4} .*--check none'):
        said(own_model("models:count"))


def test_a_model_may_print_what_it_likes() -> None:
    assert "each of 2 bodies" in said(own_model("models:prints"))


def test_what_a_model_has_started_ends_with_the_trial() -> None:
    Path("bodies/two.txt").unlink()
    Path("bodies/labels.jsonl").write_text('{"file": "one.txt"}')
    Path("checks.py").write_text(
        "def noted(label, answer):\n    return not open('pid', 'w').write(str(answer['child']))\n"
    )
    with pytest.raises(MlscaleError, match="none of 1"):
        said(replace(own_model("models:leaves_a_child"), check="checks:noted"))
    wait_until_gone(int(Path("pid").read_text()))


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("models:hangs_at_load", "not loaded after 1 s"),
        ("models:hangs_at_an_answer", r"on one.txt: no answer within 1 s, .*timeout_s="),
    ],
)
def test_a_model_that_hangs_is_left(entry: str, named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LOAD_AT_MOST_S", 1.0 if entry.endswith("load") else 60.0)
    shares: dict[str, list[float]] = {}

    def progress(step: str, share: float) -> None:
        shares.setdefault(step, []).append(share)

    with pytest.raises(MlscaleError, match=named):
        try_model(own_model(entry), BodySet.read("bodies"), "bodies", progress, 1.0)
    loading = shares["trying the model: loading, for at most " + ("1 s" if entry.endswith("load") else "60 s")]
    assert loading == sorted(loading), "the share done, from which the time left follows"


def test_a_few_bodies_are_tried_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(998):
        Path(f"bodies/{number:03d}").write_text("word")
    assert "each of 16 bodies is answered; 984 of 1000 bodies were left out" in said(own_model("models:count"))
    monkeypatch.setattr(trial, "ANSWERS_AT_MOST_S", 0.25)
    answered = int(said(own_model("models:slow")).removeprefix("trial: each of ").split()[0])
    assert 1 <= answered <= 3


def test_components_are_called() -> None:
    app = own_model("models:front", count="models:count")
    Path("bodies/labels.jsonl").write_text('{"file": "one.txt", "answer": {"twice": 8}}')
    Path("bodies/two.txt").unlink()
    assert "1 of 1 answers are right" in said(app)


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        ("models:missing", "has no attribute 'missing'"),
        ("nowhere:make", "No module named 'nowhere'"),
        ("models.count", "not of the form"),
        ("models:raises", "the weights are missing"),
        ("models:needs", "No module named 'no_such_package'"),
        ("models:ends", "exit code 3, after 'a fatal line'"),
        ("models:number", "returns nothing that can be called"),
        ("models:no_mapping", "one.txt: answered 500: TypeError: 'int' object is not iterable (an answer is a mapping"),
        ("models:refuses", "one.txt: answered 400: not a photo"),
    ],
)
def test_what_is_wrong_is_one_line(entry: str, named: str) -> None:
    with pytest.raises(MlscaleError) as failed:
        said(own_model(entry))
    assert named in str(failed.value)
    assert "\n" not in str(failed.value)


def test_measure_tries_it_after_its_own_checks_and_before_anything_is_made() -> None:
    measured = partial(measure, "torchserve", own_model("models:raises"), bodies="bodies", options=TRIAL)
    load = ClosedLoop(duration_s=2.0, stages=(ClosedStage(start_s=0, clients=1),))
    with pytest.raises(MlscaleError, match="the weights are missing"):
        measured(load, out="run")
    assert not Path("run").exists()
    with pytest.raises(MlscaleError, match="not empty"):
        measured(load, out="bodies")


WAITS = """
import os, time
def make():
    print(os.getpid(), file=open("pid", "w"))
    time.sleep(600)
"""
CALLER = """
import sys
sys.path.insert(0, sys.argv[1])
from test_trial import own_model, said
said(own_model("waits:make"))
"""


def test_kill_9_of_the_caller_ends_the_trial() -> None:
    os.mkfifo("pid")
    Path("waits.py").write_text(WAITS)
    with subprocess.Popen([sys.executable, "-c", CALLER, str(Path(__file__).parent)]) as caller:
        pid = int(Path("pid").read_text())
        assert process_start(pid) is not None
        caller.kill()
    wait_until_gone(pid)
