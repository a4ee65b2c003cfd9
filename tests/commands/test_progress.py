"""The bar's arithmetic, with a clock that the test turns."""

from __future__ import annotations

import io
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mlscale.progress import Bar, Display, Shown, duration, time_left


class Turned:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_time_left_follows_the_clock_inside_a_step_and_the_plan_between_them() -> None:
    clock, out = Turned(), io.StringIO()
    with Bar(100.0, out, clock) as bar:
        bar.step("first", 60.0)
        clock.now_s += 20
        assert bar.left_s == 80
        clock.now_s += 100
        assert bar.left_s == 40, "a step that takes longer than planned does not eat the next one's time"
        bar.step("second", 40.0)
        assert bar.left_s == 40
        bar.extend(40.0)
        clock.now_s += 40
        assert bar.left_s == 40
        bar.say("a line")
    assert "first" in out.getvalue()
    assert "second" in out.getvalue()
    assert "a line" in out.getvalue()
    assert "\x1b" not in out.getvalue(), "no terminal: plain lines"


def test_nothing_to_do_is_done() -> None:
    with Bar(0.0, io.StringIO()) as bar:
        assert bar.left_s == 0


@pytest.mark.parametrize(("seconds", "text"), [(30, "30 s"), (89, "89 s"), (240, "4 min"), (7500, "2 h 5 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_one_measures_progress_is_a_line_per_change() -> None:
    out = io.StringIO()
    with Shown(out) as shown:
        for share in (0.0, 0.3, 0.6):
            shown("under load", share)
        shown("sealing", 1.0)
    assert out.getvalue().splitlines() == ["under load", "sealing"]


def test_without_a_terminal_the_time_left_is_printed_now_and_then() -> None:
    clock, out = Turned(), io.StringIO()
    with Display(out, 10.0, clock) as display:
        for second in range(31):
            display.update("sending", second / 60, time_left(60 - second))
            clock.now_s += 1
    assert out.getvalue().splitlines() == [
        "  0%  60 s left  sending",
        " 17%  50 s left  sending",
        " 33%  40 s left  sending",
        " 50%  30 s left  sending",
    ]


def test_the_time_left_is_estimated_from_the_speed_of_the_present_step() -> None:
    clock, out = Turned(), io.StringIO()
    with Display(out, 10.0, clock) as display:
        for step, per_s in (("slow", 1 / 128), ("fast", 1 / 64)):
            display.restart()
            for second in range(31):
                display.update(step, second * per_s, line=second == 30)
                clock.now_s += 1
    lines = out.getvalue().splitlines()
    assert " 23%  2 min left  slow" in lines
    assert " 47%  34 s left  fast" in lines


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_in_a_terminal_one_bar_shows_what_is_left() -> None:
    clock, out = Turned(), Terminal()
    with Bar(600.0, out, clock) as bar:
        bar.step("run 1 of 2", 300.0)
        clock.now_s += 300
        bar.say("a [line] above")
        bar.step("run 2 of 2", 300.0)
    shown = out.getvalue()
    assert "5 min left" in shown
    assert "50 %" in shown
    assert "run 2 of 2" in shown
    assert "a [line] above" in shown


def test_in_a_notebook_it_is_one_bar_that_changes_and_nothing_on_stderr(tmp_path: Path) -> None:
    made = nbformat.v4.new_notebook()
    source = (
        "import threading\nfrom mlscale.progress import Bar, Shown\n"
        "with Shown() as shown:\n    shown('under <load>', 0.5)\n    shown('sealing', 1.0)\n"
        "with Bar(2.0) as bar:\n    bar.step('a step', 2.0)\n    threading.Event().wait(1.2)\n"
    )
    made.cells = [nbformat.v4.new_code_cell(source)]
    NotebookClient(made, kernel_name="python3", timeout=120).execute()
    outputs = made.cells[0].outputs
    assert [output.output_type for output in outputs] == ["display_data", "display_data"]
    first, second = (output.data["text/html"] for output in outputs)
    assert "done · after 0 s · sealing" in first
    assert 'value="1.000"' in first
    assert "a step" in second
