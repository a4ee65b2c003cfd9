"""The load generator's own cgroup on this host, for when the application isn't in a sandbox.

The group has the highest CPU weight, and its processes may run as real-time tasks, as in a sandbox (METHOD §6). Without
cgroups the load generator runs like any process, and `LoadCgroup.facts` says so.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.host.cgroups import Tree, find_hierarchy, pids_below, remove_tree, with_groups
from mlscale.host.init_process import HERE, PROGRAM
from mlscale.host.ledger import Ledger
from mlscale.host.processes import MARKER_VARIABLE, ROLE_VARIABLE, end_marked, kill_until_none
from mlscale.host.proctable import Usage
from mlscale.host.replica_launcher import write_entry_file
from mlscale.host.sampling import rss_bytes
from mlscale.host.scratch import remove_folder, scratch_root

_ROLE: Final = "load_generator"


@dataclass(frozen=True)
class LoadCgroup:
    """Created by `open_load_cgroup`."""

    prefix: tuple[str, ...]
    """argv to prepend to the load generator's."""
    tree: Tree | str
    """Its cgroup, or the reason why it has none."""

    @property
    def facts(self) -> dict[str, Any]:
        """For run.json: limited (has a cgroup), cgroup_version, load_realtime, reasons (why something is missing)."""
        tree = None if isinstance(self.tree, str) else self.tree
        return {
            "limited": tree is not None,
            "cgroup_version": tree.version if tree else None,
            "load_realtime": os.geteuid() == 0 and (tree is None or tree.realtime),
            "reasons": [self.tree] if isinstance(self.tree, str) else [],
        }

    def usage(self) -> Mapping[str, Usage]:
        """Use by the load generator: {"load_generator": ...}; empty without a cgroup."""
        group = None if isinstance(self.tree, str) else self.tree.group(_ROLE)
        reading = group.read() if group else None
        return {} if group is None or reading is None else {_ROLE: Usage(reading, rss_bytes(group.pids()))}


@contextmanager
def open_load_cgroup(ledger: Ledger) -> Iterator[LoadCgroup]:
    """A cgroup for the length of the ``with`` block; neither it nor its processes remain afterwards.

    Raises:
        MlscaleError: no scratch folder, or something could not be removed (its ledger entry then stays).
    """
    identifier = uuid.uuid4().hex[:8]
    folder = scratch_root() / f"mls-{identifier}"
    hierarchy = find_hierarchy()
    tree = hierarchy if isinstance(hierarchy, str) else Tree(hierarchy, f"mlscale-{identifier}")
    groups = () if isinstance(tree, str) else tree.folders
    entry = ledger.intend("sandbox", folder=str(folder), cgroups=[str(path) for path in groups])
    try:
        folder.mkdir(mode=0o700)
        tree = with_groups(tree, (_ROLE,))
        yield LoadCgroup(_prefix(folder, tree), tree)
    finally:
        end_marked(folder.name, grace_s=1.0)
        kill_until_none(lambda: pids_below(groups))
        remove_tree(groups)
        remove_folder(folder)
        ledger.done(entry)


def _prefix(folder: Path, tree: Tree | str) -> tuple[str, ...]:
    content = {
        "target": None,
        "namespaces": [],
        "cgroup": [] if isinstance(tree, str) else [str(file) for file in tree.group(_ROLE).entry_files],
        "nice": -5,
        "realtime": True,
        "environment": {MARKER_VARIABLE: folder.name, ROLE_VARIABLE: _ROLE},
    }
    return (*PROGRAM, str(HERE / "sandbox_enter.py"), str(write_entry_file(folder, "load", content)), "--")
