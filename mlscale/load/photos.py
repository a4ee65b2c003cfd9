"""Photo sets: a folder of photos with the codes known to be in them (labels.jsonl)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.runs.errors import MlscaleError

LABELS: Final = "labels.jsonl"
_SUFFIXES: Final = (".jpg", ".jpeg", ".png")

Codes = frozenset[tuple[str, str]]
"""What an answer has to name: the set of (kind, text)."""


@dataclass(frozen=True)
class PhotoSet:
    """Photos in order of their names: ``names``, ``bodies`` and known ``codes`` (None: not known, not checked)."""

    names: tuple[str, ...]
    bodies: tuple[bytes, ...]
    codes: tuple[Codes, ...] | None
    facts: Mapping[str, Any]
    """For run.json: count, bytes (mean), sha256 (of all photos and labels), labelled, cpu_s (mean, where known)."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, folder: Path | str) -> PhotoSet:
        """Read every .jpg, .jpeg and .png of ``folder``, and its labels.jsonl where there is one.

        Raises:
            MlscaleError: no such folder, no photos, an unreadable photo, labels that are malformed or don't match.
        """
        place = Path(folder)
        try:
            files = sorted(file for file in place.iterdir() if file.suffix.lower() in _SUFFIXES)
            bodies = tuple(file.read_bytes() for file in files)
            labels = _read_labels(place / LABELS)
        except OSError as error:
            raise MlscaleError(
                f"the photos can't be read: {error.strerror}", str(error.filename or place), "name a folder of photos"
            ) from error
        if not files:
            raise MlscaleError("no photos (.jpg, .jpeg, .png) in it", str(place), "name a folder that holds photos")
        names = tuple(file.name for file in files)
        codes = None if labels is None else _matched(names, labels, place / LABELS)
        return cls(names, bodies, codes, _facts(names, bodies, labels))


def _read_labels(file: Path) -> dict[str, dict[str, Any]] | None:
    if not file.exists():
        return None
    labels: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            label = json.loads(line)
            labels[label["file"]] = label | {
                "codes": frozenset((str(code["kind"]), str(code["text"])) for code in label["codes"])
            }
        except (ValueError, KeyError, TypeError) as error:
            raise MlscaleError(
                "the label is malformed",
                f"{file}, line {number}",
                'write {"file": ..., "codes": [{"kind": ..., "text": ...}]}',
            ) from error
    return labels


def _matched(names: tuple[str, ...], labels: Mapping[str, Mapping[str, Any]], file: Path) -> tuple[Codes, ...]:
    missing = sorted(set(labels) - set(names))
    if missing:
        raise MlscaleError(f"it has a label for {missing[0]}, which is not there", str(file), "add the photo")
    unlabelled = sorted(set(names) - set(labels))
    if unlabelled:
        raise MlscaleError(
            f"{unlabelled[0]} has no label, so its answers can't be checked",
            str(file),
            "add its label, or remove labels.jsonl to check no answers",
        )
    return tuple(labels[name]["codes"] for name in names)


def _facts(
    names: tuple[str, ...], bodies: tuple[bytes, ...], labels: Mapping[str, Mapping[str, Any]] | None
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for name, body in zip(names, bodies, strict=True):
        digest.update(hashlib.sha256(body).digest())
        digest.update(repr((name, sorted(labels[name]["codes"]) if labels else None)).encode())
    facts: dict[str, Any] = {
        "count": len(names),
        "bytes": round(sum(map(len, bodies)) / len(bodies)),
        "sha256": digest.hexdigest(),
        "labelled": labels is not None,
    }
    costs = [label["cpu_s"] for label in (labels or {}).values() if isinstance(label.get("cpu_s"), int | float)]
    if costs:
        facts["cpu_s"] = sum(costs) / len(costs)
    return facts
