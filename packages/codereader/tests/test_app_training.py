"""Training: its samples, its targets, and that it goes on after a kill -9 as if nothing had happened."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from codereader import cli, ean, generator
from codereader.crops import strip_quads
from codereader.difficulties import DIFFICULTIES
from codereader.errors import ApplicationError
from codereader.training import samples
from codereader.training.loop import Training, rate_at, train
from codereader.training.side_by_side import train_side_by_side
from codereader.training.tasks import TASKS
from codereader.weights import weights_folder

FOUR_STEPS = 4 / TASKS["modules"].steps
# Its first batches hold small QR codes alone, which cost a tenth of the large ones.
SEED = 3

KILLED_AT_STEP_3 = """
import os, signal, sys
from pathlib import Path
from codereader.training.loop import Training, train
from codereader.training.tasks import TASKS
def report(name, step, steps, measures):
    if step == 3:
        os.kill(os.getpid(), signal.SIGKILL)
training = Training(Path(sys.argv[1]), int(sys.argv[2]), 4 / TASKS["modules"].steps, checkpoint_steps=2)
train(training, ("modules",), report)
"""

SIDE_BY_SIDE = """
import sys
from pathlib import Path
from codereader.training.loop import Training
from codereader.training.side_by_side import train_side_by_side
def report(name, step, steps, measures):
    print("learning", flush=True)
if __name__ == "__main__":
    train_side_by_side(Training(Path(sys.argv[1]), int(sys.argv[2]), 0.1), 2, report)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training of ``modules`` in one go."""
    folder = tmp_path_factory.mktemp("whole")
    train(Training(folder, SEED, FOUR_STEPS, checkpoint_steps=2), ("modules",))
    return folder


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_file(folder / "modules.safetensors") for folder in (one, other))
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_killed_training_resumes_to_the_same_weights(whole: Path, tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_STEP_3, str(tmp_path), str(SEED)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "modules.safetensors").exists()
    train(Training(tmp_path, SEED, FOUR_STEPS, checkpoint_steps=2), ("modules",))
    assert same_weights(whole, tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps[-2:] == [2, 3]  # from the checkpoint at 2, and not from the start
    assert steps.count(0) == 1


def but(folder: Path, *names: str) -> Training:
    """A short training of ``names``: the other networks are finished."""
    folder.mkdir()
    for name in set(TASKS) - set(names):
        shutil.copy(weights_folder() / f"{name}.safetensors", folder)
    return Training(folder, SEED, FOUR_STEPS, checkpoint_steps=2)


def test_networks_learn_the_same_side_by_side_and_lines_say_how_far_they_are(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "_LINE_EVERY_S", 0.0)
    together = but(tmp_path / "together", "strips", "modules")
    cli._train(together, jobs=2)
    assert same_weights(whole, together.folder)
    assert together.is_finished("strips")
    lines = capsys.readouterr().err.splitlines()  # it is no terminal
    assert any("strips: step " in line for line in lines)
    assert any(f"modules: step {together.steps('modules')} of {together.steps('modules')}" in line for line in lines)
    assert any("left; " in line for line in lines)


def test_what_has_been_trained_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = but(tmp_path / "trained")
    cli.train(training.folder, training.seed, training.length, jobs=1, photos=1)
    assert f"MLSCALE_WEIGHTS={training.folder}" in capsys.readouterr().out
    assert set(json.loads((training.folder / "rates.json").read_text())) == set(DIFFICULTIES)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_processes_end_with_a_training_that_is_killed(tmp_path: Path) -> None:
    training = but(tmp_path / "killed", "modules")
    argv = [sys.executable, "-c", SIDE_BY_SIDE, str(training.folder), str(SEED)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == b"learning"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path("/proc", child).exists() for child in children):
        assert time.monotonic() < deadline, "a process outlived its training"
        time.sleep(0.1)


def test_another_seed_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    train(Training(tmp_path, seed=1), names=())
    with pytest.raises(ApplicationError, match="other settings"):
        train(Training(tmp_path, seed=2), names=())


@pytest.mark.parametrize("before", [b"", b"{", b"\xff"])
def test_a_folder_whose_settings_make_no_sense_is_refused(tmp_path: Path, before: bytes) -> None:
    (tmp_path / "training.json").write_bytes(before)
    with pytest.raises(ApplicationError, match="other settings"):
        train(Training(tmp_path), names=())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.checkpoint").write_bytes(b"PK\x03\x04")
    with pytest.raises(ApplicationError, match=r"modules\.checkpoint.*delete it"):
        train(Training(tmp_path), ("modules",))


def test_why_a_process_could_not_write_is_said(tmp_path: Path) -> None:
    training = but(tmp_path / "blocked", "modules")
    (training.folder / "metrics.jsonl").mkdir()
    with pytest.raises(ApplicationError, match=r"training of modules: .*metrics\.jsonl: Is a directory"):
        train_side_by_side(training, 1, lambda *_: None)


@pytest.mark.parametrize(("option", "value"), [("--length", "inf"), ("--length", "nan"), ("--seed", str(2**64))])
def test_numbers_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, value: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["codereader", "train", "--out", str(tmp_path), option, value])
    with pytest.raises(SystemExit) as raised:
        cli.main()
    assert raised.value.code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", TASKS)
def test_samples_follow_from_seed_and_index(name: str) -> None:
    one, again, other = (TASKS[name].sample(seed, 7, 0) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(one, again, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_strip_target_spells_the_number_in_both_directions() -> None:
    code = generator.close_up(np.random.default_rng(2), "medium", "EAN13").codes[0]
    for turned in (False, True):
        box = np.roll(code.corners, 2 if turned else 0, axis=0)
        target = samples.strip_target(code, strip_quads(box)[1], turned)
        starts = np.flatnonzero(np.diff(np.concatenate([[40], target])))
        drawn = [int(target[start]) for start in starts if target[start] < 40]
        sure = np.where(np.arange(40)[:, None] == np.array(drawn)[None], np.float32(-0.01), np.float32(-9))
        assert ean.spell(ean.upside_down(sure) if turned else sure)[:2] == ("EAN13", code.text)


def test_grid_targets_straighten_the_sheet() -> None:
    """Followed as the finder follows its own answers, a sample's offsets lead to the code."""
    inputs, offsets, version = samples.grid_sample(3, 5)
    assert inputs.shape == (2, 1, 224, 224)
    assert offsets.shape == (2, 18)
    near = np.abs(offsets[1]).max()
    assert near < np.abs(offsets[0]).max()
    assert near < 0.25
    assert 0 <= version[0] < 25


def test_what_is_learnt_from_is_shown(whole: Path) -> None:
    with Image.open(whole / "modules.png") as picture:
        assert min(picture.size) > 100


def test_learning_rate_rises_then_falls() -> None:
    rates = [rate_at(progress) for progress in np.linspace(0, 1, 101)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert np.argmax(rates) == 5
