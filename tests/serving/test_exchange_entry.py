"""The error convention of a Component's answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlscale.serving.exchange import load_entry, reply_to


class FaultError(ValueError):
    def __init__(self, status: int) -> None:
        super().__init__("text")
        self.http_status, self.reason = status, "too large"


def _raising(error: Exception) -> Any:
    def answer(body: bytes) -> Mapping[str, Any]:
        raise error

    return answer


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (FaultError(413), 413, "too large"),
        (FaultError(200), 400, "too large"),
        (ValueError("no photo"), 400, "no photo"),
        (KeyError("k"), 500, "KeyError: 'k'"),
    ],
)
def test_errors(error: Exception, status: int, text: str) -> None:
    reply = reply_to(_raising(error), b"", "replica-1")
    assert (reply.status, json.loads(reply.body)) == (status, {"error": text})
    assert (reply.error is error) == (status == 500)


def test_answer_and_times() -> None:
    before = time.monotonic()
    reply = reply_to(lambda body: {"n": len(body), "sum": sum(range(200_000))}, b"abc", "replica-1")
    assert reply.status == 200
    assert json.loads(reply.body)["n"] == 3
    started, wall = float(reply.headers["X-Mlscale-Started-S"]), float(reply.headers["X-Mlscale-Inference-S"])
    assert before <= started + 1e-6
    assert started + wall <= time.monotonic() + 1e-5
    assert float(reply.headers["X-Mlscale-Cpu-S"]) > 0
    assert reply.headers["X-Mlscale-Replica"] == "replica-1"


def test_load_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "entry_for_test.py").write_text("def make():\n    return lambda body: {'size': len(body)}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_entry("entry_for_test:make")(b"ab") == {"size": 2}
    with pytest.raises(ValueError, match=r"package\.module:factory"):
        load_entry("entry_for_test")
    with pytest.raises(AttributeError):
        load_entry("entry_for_test:missing")
    sys.modules.pop("entry_for_test")
