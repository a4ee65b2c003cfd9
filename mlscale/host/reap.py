"""Removes resources left by crashed runs: only what a ledger names, and only once the ledger's owner has ended."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mlscale.host.cgroups import pids_below, remove_tree
from mlscale.host.ledger import LedgerEntry, LedgerFile, ledger_paths, read_ledger
from mlscale.host.processes import ProcessIdentity, boot_id, end_group, end_marked, kill_process, kill_until_none
from mlscale.host.scratch import remove_folder
from mlscale.runs import MlscaleError

Reaper = Callable[[LedgerEntry], None]


class TargetUnreachable(MlscaleError):  # noqa: N818
    """The resource can't be reached or removed now, for example on a stopped cluster. Its ledger stays for a later
    cleanup."""


_FOLDER: Final = re.compile(r"mls-[0-9a-f]{8}")
_GROUP: Final = re.compile(r"mlscale-[0-9a-f]{8}")
_INCOMPLETE_AFTER_S: Final = 60.0
_INTERRUPTS: Final = (KeyboardInterrupt, SystemExit)


def despite_interrupt(remove: Callable[[], None]) -> None:
    """Call ``remove``, which must be idempotent, at the end of a run. A first interrupt during the removal is raised
    after everything is removed. A second one, or any after the run itself was interrupted, is raised at once."""
    interrupted = isinstance(sys.exception(), _INTERRUPTS)
    try:
        remove()
    except _INTERRUPTS:
        if not interrupted:
            remove()
        raise


def reap(entry: LedgerEntry) -> None:
    """Remove what an entry of kind "sandbox", "process" or "process_group" names, if it still exists.

    Idempotent; any process may call it.

    Raises:
        MlscaleError: another kind, a name that mlscale doesn't use, or something that could not be removed.
    """
    reaper = _REAPERS.get(entry.kind)
    if reaper is None:
        raise MlscaleError(f"no reaper for the kind {entry.kind!r}", f"ledger entry {entry.id}", "update mlscale")
    try:
        reaper(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise MlscaleError(f"malformed: {error!r}", f"ledger entry {entry.id}", "remove what it names") from error


def cleanup(
    older_than_s: float = 0,
    reapers: Mapping[str, Reaper] | None = None,
    folder: Path | None = None,
    *,
    unreachable: Callable[[MlscaleError], object] | None = None,
) -> list[LedgerEntry]:
    """Remove everything named in ledgers whose owner has ended; active runs are not touched.

    Args:
        older_than_s: skip ledgers created more recently than this, s.
        reapers: kind -> reaper, for the kinds that aren't the host's.
        folder: of the ledgers (default: `mlscale.host.ledger.ledger_folder()`).
        unreachable: called with what can't be reached now (`TargetUnreachable`), in place of raising it; it stays in
            its ledger either way.

    Returns:
        What was removed, newest first within a run.

    Raises:
        MlscaleError: something could not be removed (the rest was). Its ledger stays, so the next call tries again.
    """
    removed: list[LedgerEntry] = []
    failures: list[MlscaleError] = []
    skip = unreachable or failures.append
    by_kind = {**dict.fromkeys(_REAPERS, reap), **(reapers or {})}
    for path in ledger_paths(folder):
        try:
            ledger = read_ledger(path)
            if ledger is None:
                _drop_incomplete(path)
            elif not ledger.owner.alive() and _is_older(ledger, older_than_s):
                removed += _remove_all(ledger, by_kind)
        except FileNotFoundError:
            continue  # its owner or another cleanup has just removed it
        except OSError as error:
            skip(_out_of_reach(path, error))
        except TargetUnreachable as error:
            skip(error)
        except MlscaleError as error:
            failures.append(error)
    if failures:
        raise MlscaleError(
            "; ".join(map(str, failures)), f"{len(failures)} ledger(s)", "fix this, then run `mlscale cleanup`"
        )
    return removed


def _is_older(ledger: LedgerFile, age_s: float) -> bool:
    """Whether the ledger is at least that old. A date in the future counts as old: the clock may have been set back."""
    return age_s <= 0 or time.time() - ledger.created_s >= age_s


def _out_of_reach(path: Path, error: OSError) -> MlscaleError:
    """For example another user's ledger after ``sudo -E``. As with a stopped cluster, that must not prevent a run."""
    what = f"the ledger can't be read or removed: {error.strerror or error}"
    return MlscaleError(what, str(path), "run `mlscale cleanup` as the file's owner")


def _remove_all(ledger: LedgerFile, reapers: Mapping[str, Reaper]) -> list[LedgerEntry]:
    """Newest first; if one fails, the others are still tried."""
    removed: list[LedgerEntry] = []
    failures: list[Exception] = []
    for entry in reversed(ledger.open_entries):
        reaper = reapers.get(entry.kind, reap)
        try:
            reaper(entry)
            removed.append(entry)
        except (MlscaleError, PermissionError) as error:
            failures.append(error)
    if failures:
        kind = TargetUnreachable if all(isinstance(error, TargetUnreachable) for error in failures) else MlscaleError
        raise kind("; ".join(map(str, failures)), str(ledger.path), "see the remedies above")
    ledger.path.unlink(missing_ok=True)
    return removed


def _drop_incomplete(path: Path) -> None:
    """Remove a ledger without a complete first line: it names nothing, and after a minute nobody is writing it."""
    if time.time() - path.stat().st_mtime > _INCOMPLETE_AFTER_S:
        path.unlink()


def _reap_sandbox(entry: LedgerEntry) -> None:
    folder = Path(entry.identity["folder"])
    groups = tuple(map(Path, entry.identity["cgroups"]))
    foreign = [
        path
        for path, form in [(folder, _FOLDER), *((group, _GROUP) for group in groups)]
        if not form.fullmatch(path.name)
    ]
    if foreign:
        raise MlscaleError("not a name that mlscale uses", str(foreign[0]), f"delete the ledger entry {entry.id}")
    if entry.owner.boot_id == boot_id():
        end_marked(folder.name, grace_s=0)
        kill_until_none(lambda: pids_below(groups))
        remove_tree(groups)
    remove_folder(folder)


def _reap_process(entry: LedgerEntry) -> None:
    kill_process(ProcessIdentity.from_json(entry.identity))


def _reap_process_group(entry: LedgerEntry) -> None:
    leader = ProcessIdentity.from_json(entry.identity)
    if leader.here_and_alive():
        end_group(leader.pid, grace_s=0)


_REAPERS: Final[Mapping[str, Reaper]] = {
    "sandbox": _reap_sandbox,
    "process": _reap_process,
    "process_group": _reap_process_group,
}
