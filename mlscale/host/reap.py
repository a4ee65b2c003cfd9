"""Removing what a dead run left: only what its ledger names, only when its owner has ended (pid, start time, boot)."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from mlscale.host.cgroups import group_pids, remove_tree
from mlscale.host.ledger import LedgerEntry, LedgerFile, ledger_paths, read_ledger
from mlscale.host.processes import ProcessIdentity, boot_id, end_group, end_marked, kill_process, kill_until_none
from mlscale.host.scratch import remove_folder
from mlscale.runs import MlscaleError

Reaper = Callable[[LedgerEntry], None]


class NotNow(MlscaleError):  # noqa: N818 (what a reaper says)
    """What an entry names can't be reached now, such as a cluster that is stopped. Its ledger stays; a later cleanup
    takes it up."""


_FOLDER: Final = re.compile(r"mls-[0-9a-f]{8}")
_GROUP: Final = re.compile(r"mlscale-[0-9a-f]{8}")
_TORN_AFTER_S: Final = 60.0


def reap(entry: LedgerEntry) -> None:
    """Remove what an entry of the kinds "sandbox", "process" and "process_group" names, if it is still there.

    Idempotent; may be called from another process than the one that made it.

    Raises:
        MlscaleError: another kind, a name that mlscale never gives, or something that could not be removed.
    """
    reaper = _REAPERS.get(entry.kind)
    if reaper is None:
        raise MlscaleError(f"nothing here removes a {entry.kind!r}", f"ledger entry {entry.id}", "update mlscale")
    try:
        reaper(entry)
    except (KeyError, TypeError, ValueError) as error:
        raise MlscaleError(f"broken: {error!r}", f"ledger entry {entry.id}", "remove by hand what it names") from error


def cleanup(
    older_than_s: float = 0,
    reapers: Mapping[str, Reaper] | None = None,
    folder: Path | None = None,
    *,
    strict: bool = True,
) -> list[LedgerEntry]:
    """Remove everything named in ledgers whose owner has ended; runs that still live are not touched.

    Args:
        older_than_s: leave ledgers alone that were begun less than this ago, s.
        reapers: kind -> reaper, for kinds that are not the host's (the environments' own).
        folder: where the ledgers lie (default: `mlscale.host.ledger.ledger_folder()`).
        strict: raise for what can't be reached now (`NotNow`) too; it stays in its ledger either way.

    Returns:
        What was named there and is gone now, newest first within one run.

    Raises:
        MlscaleError: something could not be removed; all the rest was. Its ledger stays, so the next call tries again.
    """
    removed: list[LedgerEntry] = []
    failures: list[MlscaleError] = []
    known = {**dict.fromkeys(_REAPERS, reap), **(reapers or {})}
    for path in ledger_paths(folder):
        try:
            ledger = read_ledger(path)
            if ledger is None:
                _drop_torn(path)
            elif not ledger.owner.alive() and time.time() - ledger.created_s >= older_than_s:
                removed += _remove_all(ledger, known)
        except FileNotFoundError:
            continue  # its owner, or another cleanup, has just finished with it
        except NotNow as later:
            failures += [later] if strict else []
        except MlscaleError as error:
            failures.append(error)
    if failures:
        raise MlscaleError(
            "; ".join(map(str, failures)), f"{len(failures)} ledger(s)", "fix that, then `mlscale cleanup`"
        )
    return removed


def _remove_all(ledger: LedgerFile, reapers: Mapping[str, Reaper]) -> list[LedgerEntry]:
    """Newest first; every entry is tried even when one fails."""
    removed: list[LedgerEntry] = []
    failures: list[MlscaleError] = []
    for entry in reversed(ledger.open_entries):
        reaper = reapers.get(entry.kind, reap)
        try:
            reaper(entry)
            removed.append(entry)
        except MlscaleError as error:
            failures.append(error)
    if failures:
        kind = NotNow if all(isinstance(error, NotNow) for error in failures) else MlscaleError
        raise kind("; ".join(map(str, failures)), str(ledger.path), "see each")
    ledger.path.unlink(missing_ok=True)
    return removed


def _drop_torn(path: Path) -> None:
    """A ledger without a whole first line has named nothing yet; a minute later nobody is still writing that line."""
    if time.time() - path.stat().st_mtime > _TORN_AFTER_S:
        path.unlink()


def _reap_sandbox(entry: LedgerEntry) -> None:
    folder = Path(entry.identity["folder"])
    groups = tuple(map(Path, entry.identity["cgroups"]))
    strange = [
        path
        for path, form in [(folder, _FOLDER), *((group, _GROUP) for group in groups)]
        if not form.fullmatch(path.name)
    ]
    if strange:
        raise MlscaleError("not a name that mlscale gives", str(strange[0]), f"delete the ledger entry {entry.id}")
    if entry.owner.boot_id == boot_id():
        end_marked(folder.name, grace_s=0)
        kill_until_none(lambda: group_pids(groups))
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
