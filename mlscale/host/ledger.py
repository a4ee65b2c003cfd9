"""The ledger: what a run is about to create, recorded beforehand so that another process can remove it.

One JSONL file per run in ``${XDG_STATE_HOME:-~/.local/state}/mlscale/ledger``, outside any checkout. Every line is
synced to the disk before `Ledger.intend` returns. A kill -9 can truncate only the last line, which readers skip. A
process that could not remove something closes its ledger so that cleanup may take over, since the process itself may
run on for days (a notebook's kernel).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from mlscale.atomic import sync
from mlscale.host.processes import ProcessIdentity
from mlscale.host.state import state_home
from mlscale.runs import MlscaleError


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """Something that exists or is about to: ``kind`` selects its reaper, ``identity`` (JSON) identifies it."""

    id: str
    kind: str
    identity: dict[str, Any]
    owner: ProcessIdentity


class Ledger:
    """What one run has created and not yet removed. Thread-safe; a context manager that calls `close`."""

    def __init__(self, path: Path, owner: ProcessIdentity) -> None:
        """Called by `Ledger.create`; opens ``path`` for appending."""
        self.path = path
        self.owner = owner
        self._open: dict[str, LedgerEntry] = {}
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        sync(path.parent)

    @classmethod
    def create(cls, run_id: str, folder: Path | None = None, owner: ProcessIdentity | None = None) -> Self:
        """A new ledger for the run ``run_id``, in ``folder`` (default: `ledger_folder()`).

        While ``owner`` (default: this process) runs, cleanup does not touch what the ledger names.

        Raises:
            MlscaleError: the folder isn't writable.
        """
        parent = folder or ledger_folder()
        owner = owner or ProcessIdentity.of(os.getpid())
        assert owner is not None, "this process is running"
        name = re.sub(r"[^A-Za-z0-9._-]", "_", run_id)[:80]
        try:
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            ledger = cls(parent / f"{name}-{uuid.uuid4().hex[:8]}.jsonl", owner)
            ledger._write({"op": "open", "run_id": run_id, "owner": owner.to_json(), "wall_s": time.time()})
        except OSError as error:
            raise MlscaleError(
                f"the ledger can't be written: {error.strerror}",
                str(parent),
                "set XDG_STATE_HOME to a writable folder",
            ) from error
        return ledger

    def intend(self, kind: str, **identity: Any) -> LedgerEntry:
        """Record that something is about to be created.

        Args:
            kind: selects its reaper: "sandbox", "process", "process_group", or an environment's own kind.
            identity: all that its reaper needs to find it, as JSON data.

        Raises:
            MlscaleError: it can't be recorded; then nothing may be created.
        """
        entry = LedgerEntry(uuid.uuid4().hex, kind, identity, self.owner)
        with self._lock:
            self._write({"op": "intend", "id": entry.id, "kind": kind, "identity": identity})
            self._open[entry.id] = entry
        return entry

    def done(self, entry: LedgerEntry) -> None:
        """Record that ``entry`` is gone. Idempotent."""
        with self._lock:
            if self._open.pop(entry.id, None) is not None:
                self._write({"op": "done", "id": entry.id})

    @property
    def open_entries(self) -> tuple[LedgerEntry, ...]:
        """Entries that are not done, oldest first."""
        with self._lock:
            return tuple(self._open.values())

    def close(self) -> None:
        """Close the file, and remove it if every entry is done. Cleanup handles open entries, unless another process
        owns the ledger. Idempotent."""
        with self._lock:
            if self._file < 0:
                return
            if self._open and self.owner.pid == os.getpid():
                with contextlib.suppress(MlscaleError):  # a full disk: left to cleanup once this process has ended
                    self._write({"op": "closed"})
            os.close(self._file)
            self._file = -1
            if not self._open:
                self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, line: dict[str, Any]) -> None:
        data = (json.dumps(line) + "\n").encode()
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, before)  # only the last line may be truncated
            raise MlscaleError(
                f"the ledger can't be written: {error.strerror}",
                str(self.path),
                "make room there, or set XDG_STATE_HOME",
            ) from error


@dataclass(frozen=True, slots=True)
class LedgerFile:
    """A ledger as another process reads it; its open entries, oldest first."""

    path: Path
    run_id: str
    owner: ProcessIdentity
    """The process that owns it. It counts as ended once it has closed the ledger."""
    created_s: float
    """Wall clock (Unix time), s."""
    open_entries: tuple[LedgerEntry, ...]


def ledger_folder() -> Path:
    """``${XDG_STATE_HOME:-~/.local/state}/mlscale/ledger``."""
    return state_home() / "ledger"


def read_ledger(path: Path) -> LedgerFile | None:
    """Read a ledger; None if its first line is incomplete (then nothing was created under it).

    Raises:
        MlscaleError: a line other than the last is malformed, so entries may be missing.
        FileNotFoundError: its owner has just removed it.
    """
    lines = _complete_lines(path)
    if not lines:
        return None
    try:
        head, rest = lines[0], lines[1:]
        owner = ProcessIdentity.from_json(head["owner"])
        entries: dict[str, LedgerEntry] = {}
        for line in rest:
            if line["op"] == "closed":
                owner = replace(owner, start="")
            elif line["op"] == "intend":
                entries[line["id"]] = LedgerEntry(line["id"], line["kind"], line["identity"], owner)
            else:
                entries.pop(line["id"], None)
        return LedgerFile(path, head["run_id"], owner, float(head["wall_s"]), tuple(entries.values()))
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(path) from error


def ledger_paths(folder: Path | None = None) -> Iterable[Path]:
    """The ledger files in ``folder`` (default: `ledger_folder()`), oldest name first."""
    return sorted((folder or ledger_folder()).glob("*.jsonl"))


def active_runs(persistent: Container[str] = ()) -> list[str]:
    """Ids of the runs that are in progress: their owner is alive, and something that they made is there. Entries of the
    kinds ``persistent`` don't count, since these outlive the command that made them."""
    runs = []
    for path in ledger_paths():
        try:
            ledger = read_ledger(path)
        except (FileNotFoundError, MlscaleError):  # its owner has just finished; what is malformed, cleanup names
            continue
        made = ledger is not None and any(entry.kind not in persistent for entry in ledger.open_entries)
        if ledger is not None and made and ledger.owner.alive():
            runs.append(ledger.run_id)
    return runs


def _complete_lines(path: Path) -> list[dict[str, Any]]:
    texts = path.read_bytes().split(b"\n")
    lines: list[dict[str, Any]] = []
    for text in texts[:-1]:  # what follows the last newline is truncated or empty
        try:
            lines.append(json.loads(text))
        except ValueError as error:
            raise _broken(path) from error
    return lines


def _broken(path: Path) -> MlscaleError:
    return MlscaleError("the ledger is malformed", str(path), "look for leftover processes, then delete the file")
