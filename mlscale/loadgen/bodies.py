"""What load sends: a folder of files, their content types and, in labels.jsonl, the expected answers."""

from __future__ import annotations

import hashlib
import importlib
import json
import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.errors import MlscaleError
from mlscale.importing import add_working_folder
from mlscale.loadgen.spec import LoadSpec

LABELS: Final = "labels.jsonl"
_DEFAULT_TYPE: Final = "application/octet-stream"

Label = Mapping[str, Any]
"""A line of labels.jsonl: "file" and what is known about it."""
Check = Callable[[Label, Any], bool]
"""Whether an answer, decoded from JSON, is correct for the file with this label."""


@dataclass(frozen=True)
class BodySet:
    """Files in name order, and a label for each. ``labels`` None: answers are not checked."""

    names: tuple[str, ...]
    bodies: tuple[bytes, ...]
    content_types: tuple[str, ...]
    labels: tuple[Label, ...] | None
    facts: Mapping[str, Any]
    """For run.json: count, bytes (mean), sha256 (of all files and labels), labelled, cpu_s (mean, where known)."""

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def read(cls, folder: Path | str) -> BodySet:
        """Read every file of ``folder`` except hidden ones, and its labels.jsonl if it has one; or the one file named.

        Raises:
            MlscaleError: no such folder, no files, an unreadable file, a name that is not UTF-8, or malformed or
                unmatched labels.
        """
        source = Path(folder)
        try:
            files = (
                [source]
                if source.is_file()
                else sorted(file for file in source.iterdir() if file.name != LABELS and not file.name.startswith("."))
            )
            bodies = tuple(_read(file) for file in files)
            labelled = None if source.is_file() else _read_labels(source / LABELS)
        except OSError as error:
            raise MlscaleError(
                f"the files can't be read: {error.strerror}", str(error.filename or source), "name a folder of files"
            ) from error
        if not files:
            raise MlscaleError("the folder has no files", str(source), "name a folder of files to send")
        names = tuple(file.name for file in files)
        types = tuple(mimetypes.guess_type(name)[0] or _DEFAULT_TYPE for name in names)
        labels = None if labelled is None else _labels_of(names, labelled, source / LABELS)
        return cls(names, bodies, types, labels, _facts(names, bodies, labels))


def bodies_of(spec: LoadSpec) -> BodySet | None:
    """The bodies of a load; None: it sends none. A text is sent as JSON if it is JSON, else as plain text.

    Raises:
        MlscaleError: as `BodySet.read`.
    """
    if spec.body is None:
        return BodySet.read(spec.bodies) if spec.bodies is not None else None
    names, bodies = ("body",), (spec.body.encode(),)
    try:
        json.loads(spec.body)
        kind = "application/json"
    except (ValueError, RecursionError):
        kind = "text/plain; charset=utf-8"
    return BodySet(names, bodies, (kind,), None, _facts(names, bodies, None))


def same_answer(label: Label, answer: Any) -> bool:
    """The label's "answer", compared as JSON."""
    return bool(label["answer"] == answer)


def load_check(name: str | None, labels: tuple[Label, ...] | None) -> Check | None:
    """How to check answers. ``name`` is "module:function", or "none"; None: `same_answer`, if there are labels.

    Raises:
        MlscaleError: no such function, or no function is named and a label has no "answer".
    """
    if labels is None or name == "none":
        return None
    if name is None:
        incomplete = next((label for label in labels if "answer" not in label), None)
        if incomplete is not None:
            raise MlscaleError(
                f'the label of {incomplete["file"]} has no "answer"',
                LABELS,
                "add the answers, name a function that checks them (--check module:function), or use --check none",
            )
        return same_answer
    module, _, attribute = name.partition(":")
    add_working_folder()
    try:
        check: Check = getattr(importlib.import_module(module), attribute)
        if not callable(check):
            raise TypeError(f"{attribute} is not a function")
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise MlscaleError(
            f"it can't be imported: {error}", f"check {name!r}", "use the form module:function, importable from here"
        ) from error
    return check


def check_needs_labels(check: str | None, bodies: Path | str | None) -> None:
    """Raise MlscaleError if ``check`` names a function, which is never called without labels beside ``bodies``."""
    if check in (None, "none") or (bodies is not None and (Path(bodies) / LABELS).is_file()):
        return
    remedy = 'write one beside the files, a line for each: {"file": "one.txt"}'
    raise MlscaleError(f"there is no {LABELS} in {bodies or '--bodies'}", f"--check {check}", remedy)


def _read(file: Path) -> bytes:
    if not file.is_file():  # a device or a pipe might never end
        raise MlscaleError("it is not a regular file", str(file), "remove it from the folder of files to send")
    try:
        file.name.encode()
    except UnicodeEncodeError as error:  # the run's tables could not hold it
        raise MlscaleError("the file's name is not UTF-8", ascii(str(file)), "rename the file") from error
    return file.read_bytes()


def _read_labels(file: Path) -> dict[str, Label] | None:
    if not file.exists():
        return None
    labels: dict[str, Label] = {}
    for number, line in enumerate(_read(file).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            label = json.loads(line)
            if not isinstance(label["file"], str):
                raise TypeError("the file's name is not text")
            twice = label["file"] in labels
            labels[label["file"]] = label
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MlscaleError(
                "the label is malformed", f"{file}, line {number}", 'write {"file": ..., "answer": ...}'
            ) from error
        if twice:
            raise MlscaleError(f"{label['file']} has a second label", f"{file}, line {number}", "keep one of them")
    return labels


def _labels_of(names: tuple[str, ...], labels: Mapping[str, Label], file: Path) -> tuple[Label, ...]:
    missing = sorted(set(labels) - set(names))
    if missing:
        raise MlscaleError(f"the labelled file {missing[0]} is missing", str(file), "add the file")
    unlabelled = sorted(set(names) - set(labels))
    if unlabelled:
        raise MlscaleError(
            f"{unlabelled[0]} has no label, so its answers can't be checked",
            str(file),
            "add its label, or remove labels.jsonl to check no answers",
        )
    return tuple(labels[name] for name in names)


def _facts(names: tuple[str, ...], bodies: tuple[bytes, ...], labels: tuple[Label, ...] | None) -> dict[str, Any]:
    digest = hashlib.sha256()
    for number, (name, body) in enumerate(zip(names, bodies, strict=True)):
        digest.update(hashlib.sha256(body).digest())
        digest.update(json.dumps([name, labels[number] if labels else None], sort_keys=True).encode())
    facts: dict[str, Any] = {
        "count": len(names),
        "bytes": round(sum(map(len, bodies)) / len(bodies)),
        "sha256": digest.hexdigest(),
        "labelled": labels is not None,
    }
    costs = [label["cpu_s"] for label in labels or () if isinstance(label.get("cpu_s"), int | float)]
    if costs:
        facts["cpu_s"] = sum(costs) / len(costs)
    return facts
