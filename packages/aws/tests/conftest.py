"""An AWS account in memory, and a ledger."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_account import MemoryAccount, Time

from mlscale.host.ledger import Ledger


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def account(clock: Time, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MemoryAccount:
    made = MemoryAccount(clock)
    made.install(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return made


@pytest.fixture
def ledger(account: MemoryAccount) -> Ledger:
    return Ledger.create("run")
