"""Records of machines: one file each, written before anything of the machine exists, so that any daemon finds it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

from mlscale.atomic import write_whole
from mlscale.host.scratch import remove_folder
from mlscale.runs import MlscaleError
from onenode.machines.plan import Machine

_FILE: Final = "machine.json"


def save(folder: Path, machine: Machine) -> None:
    """Write a record into ``folder``, which holds all machines."""
    write_whole(folder / machine.name / _FILE, json.dumps(asdict(machine), indent=2))


def load(folder: Path) -> dict[str, Machine]:
    """All machines by name. A folder without a record, left by an interrupted removal, is removed.

    Raises:
        MlscaleError: a record is broken.
    """
    machines: dict[str, Machine] = {}
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        file = place / _FILE
        if not file.exists():
            remove_folder(place)
            continue
        try:
            machines[place.name] = Machine(**json.loads(file.read_text()))
        except (TypeError, ValueError) as error:
            raise MlscaleError(f"it is broken: {error}", str(file), "mlscale cluster down") from error
    return machines
