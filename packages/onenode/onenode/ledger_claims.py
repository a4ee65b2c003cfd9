"""The cluster in the ledger: claimed by the command that starts it, then by the node for as long as it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mlscale.host.ledger import Ledger, LedgerEntry, ledger_paths, read_ledger
from mlscale.host.processes import ProcessIdentity
from onenode.layout import Layout

KIND: Final = "cluster"
# `run_id` of its ledgers.
RUN_ID: Final = "cluster"


class Claim:
    """What `claim` yields."""

    def __init__(self, layout: Layout, ledger: Ledger) -> None:
        self._layout = layout
        self._ledger = ledger
        self._entry = ledger.intend(KIND, root=str(layout.root))

    def hand_over(self, init: ProcessIdentity) -> None:
        """The cluster has come up: it counts as left over only once ``init`` has ended."""
        with Ledger.create(RUN_ID, owner=init) as lasting:
            lasting.intend(KIND, root=str(self._layout.root))
            drop_claims(self._layout, (lasting, self._ledger))
        self._ledger.done(self._entry)


@contextmanager
def claim(layout: Layout) -> Iterator[Claim]:
    """Record the cluster before anything of it exists. Without `Claim.hand_over` the entry stays for cleanup."""
    with Ledger.create(RUN_ID) as ledger:
        yield Claim(layout, ledger)


def drop_claims(layout: Layout, but: tuple[Ledger, ...] = ()) -> None:
    """Remove the ledgers that name this cluster, except ``but``: it is up now, or gone. Call with it locked."""
    kept = {ledger.path for ledger in but}
    for path in ledger_paths():
        if path in kept or not path.name.startswith(f"{RUN_ID}-"):
            continue
        try:
            ledger = read_ledger(path)
        except FileNotFoundError:
            continue  # removed by `mlscale cleanup`
        if ledger is not None and any(_names(entry, layout) for entry in ledger.open_entries):
            path.unlink(missing_ok=True)


def _names(entry: LedgerEntry, layout: Layout) -> bool:
    return entry.kind == KIND and entry.identity.get("root") == str(layout.root)
