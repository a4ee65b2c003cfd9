"""The sandbox without a browser: every setting has a control, every move is drawn, and what is shown is labelled.

`benchmarks/sandbox_redraw.py` measures it in a browser.
"""

from __future__ import annotations

import ast
import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from ipywidgets import IntSlider, SelectionSlider
from pydantic import TypeAdapter

from mlscale import environments
from mlscale.runs import MlscaleError
from mlscale_lab import thresholds
from mlscale_lab.sandbox.form import DEFAULT, Form, main_settings
from mlscale_lab.sandbox.load import PARTS, SHAPES, rates_of_trace, schedule_of
from mlscale_lab.sandbox.prediction import error_of, predict, profile_of
from mlscale_lab.sandbox.widget import ARMS, NAMES, Sandbox


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_control_that_starts_at_its_value(name: str, arm: str) -> None:
    scaling = environments.get(name).arm(arm)
    form = Form(name, environments.get(name).arm("matched"), lambda: None)
    form.set(scaling)
    assert set(form.control) == set(type(scaling).model_fields)
    assert type(scaling).model_validate(form.values()) == scaling
    assert set(main_settings(name)) <= set(form.control)


@pytest.mark.parametrize("name", NAMES)
def test_no_slider_offers_a_value_that_its_setting_refuses(name: str) -> None:
    fields = environments.get(name).settings.model_fields
    form = Form(name, environments.get(name).arm("matched"), lambda: None)
    for setting, control in form.control.items():
        if isinstance(control, SelectionSlider):
            offered = [value for _, value in control.options if value != DEFAULT]
        elif isinstance(control, IntSlider):
            offered = [control.min, control.max]
        else:
            continue
        accepts = TypeAdapter(Annotated[fields[setting].annotation, *fields[setting].metadata])
        assert [accepts.validate_python(value) for value in offered] == offered


def drawn(sandbox: Sandbox) -> int:
    return int(re.search(r'data-drawn="(\d+)"', sandbox._figure.value)[1])  # type: ignore[index]


def test_a_move_redraws_and_says_what_is_shown() -> None:
    sandbox = Sandbox(a=("torchserve", "matched"), b=("k3s", "matched"))
    before, first = sandbox._figure.value, drawn(sandbox)
    sandbox.sides[0].form.control["max_replicas"].value = 1
    assert drawn(sandbox) == first + 1
    assert sandbox._figure.value != before
    assert "SIMULATED" in sandbox._figure.value
    assert "SIMULATED" in sandbox._status.value
    low, high = profile_of("torchserve").compared.ratios["mean_response_s"]  # type: ignore[union-attr]
    assert f"{low:.2f} to {high:.2f}" in sandbox._status.value
    assert "k3s" in sandbox._status.value
    svg = re.search(r"<svg.*</svg>", sandbox._figure.value, re.DOTALL)
    assert svg is not None
    assert ElementTree.fromstring(svg[0]).get("role") == "img"


def test_moving_a_bar_of_the_load_changes_both_sides() -> None:
    sandbox = Sandbox(a=("k3s", "matched"), b=("k3s", "shipped"))
    before = [side.prediction for side in sandbox.sides]
    sandbox.bars[0].value = 20.0
    after = [side.prediction for side in sandbox.sides]
    assert all(one.mean_s != other.mean_s for one, other in zip(before, after, strict=True))  # type: ignore[union-attr]


def test_settings_that_contradict_each_other_are_said_and_the_last_figure_stays() -> None:
    sandbox = Sandbox(a=("k3s", "matched"), b=("k3s", "shipped"))
    kept = sandbox.sides[0].prediction
    sandbox.sides[0].form.control["min_replicas"].value = 9
    assert "min_replicas (9) is above max_replicas (4)" in sandbox.sides[0]._problem.value
    assert sandbox.sides[0].prediction is kept
    sandbox.sides[0].form.control["max_replicas"].value = 9
    assert sandbox.sides[0]._problem.value == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_text_to_paste_is_the_frameworks_own_format(name: str) -> None:
    sandbox = Sandbox(a=(name, "matched"), b=("k3s", "matched"))
    sandbox.sides[0].form.control["max_replicas"].value = 7
    text = sandbox.sides[0].text.value
    assert text.startswith(f"# mlscale measure {name} --scaling max_replicas=7")
    _, first, *others = re.split(r"\n# \S+\n", text)
    assert "7" in json.dumps(json.loads(first) if name == "torchserve" else yaml.safe_load(first))
    assert all(isinstance(yaml.safe_load(other), dict) for other in others)


def test_another_environment_brings_its_own_controls_and_its_own_time() -> None:
    sandbox = Sandbox(a=("k3s", "matched"), b=("k3s", "matched"))
    sandbox.sides[1].environment.value = "ecs"
    assert "out_cooldown_s" in sandbox.sides[1].form.control
    assert sandbox.duration.value == 900
    assert sandbox.sides[1].prediction is not None
    assert "never compared with a live run" in error_of("ecs")


def test_the_same_draw_has_the_same_arrivals_whatever_the_settings() -> None:
    schedule = schedule_of(SHAPES["step"], 120.0)
    arm = environments.get("torchserve").arm("static-max")
    first = predict("torchserve", arm, schedule)
    assert first.mean_s == predict("torchserve", arm, schedule).mean_s
    assert first.mean_s != predict("torchserve", arm, schedule, draw=1).mean_s
    assert np.isfinite(first.response_s).any()


def test_a_trace_becomes_twelve_rates(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,rate_rps\n0,1\n60,5\n120,5\n")
    rates = rates_of_trace(trace)
    assert len(rates) == PARTS
    assert rates[0] == 1.0
    sandbox = Sandbox(a=("k3s", "matched"), b=("k3s", "matched"))
    sandbox.trace.value = str(trace)
    assert [bar.value for bar in sandbox.bars] == list(rates)
    sandbox.trace.value = str(tmp_path / "none.csv")
    assert "none.csv" in sandbox._status.value
    with pytest.raises(MlscaleError):
        rates_of_trace(tmp_path / "none.csv")


def test_a_is_copied_to_b_and_reset_brings_back_what_was_there() -> None:
    sandbox = Sandbox(a=("torchserve", "matched"), b=("k3s", "shipped"), load="waves")
    a, b = sandbox.sides
    before = a.settings(), b.settings(), [bar.value for bar in sandbox.bars]
    a.form.control["min_replicas"].value = 2
    sandbox.bars[0].value = 30.0
    sandbox.copy()
    assert (b.environment.value, b.settings()) == ("torchserve", a.settings())
    assert b.prediction.mean_s == a.prediction.mean_s  # type: ignore[union-attr]
    sandbox.reset()
    assert (a.settings(), b.settings(), [bar.value for bar in sandbox.bars]) == before
    assert (b.environment.value, sandbox.shape.value) == ("k3s", "waves")


def test_the_answer_is_what_a_lab_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sandbox = Sandbox(a=("torchserve", "matched"), b=("torchserve", "matched"), load="waves", duration_s=300)
    assert ast.literal_eval(sandbox.sides[0].answer.value) == {}
    sandbox.sides[0].form.control["min_replicas"].value = 2
    assert thresholds.checks()("settings", ast.literal_eval(sandbox.sides[0].answer.value)).right is True


def test_a_shape_chosen_again_is_drawn_again() -> None:
    sandbox = Sandbox(a=("torchserve", "matched"), b=("torchserve", "shipped"), load="spike")
    sandbox.bars[0].value = 25.0
    sandbox.shape.value = "spike"
    assert [bar.value for bar in sandbox.bars] == list(SHAPES["spike"])


def test_a_picture_is_kept_beside_the_widget() -> None:
    (picture,) = re.findall(r'src="data:image/svg[+]xml;base64,([^"]+)"', Sandbox().still())
    assert ElementTree.fromstring(b64decode(picture)).get("data-drawn") == "1"
