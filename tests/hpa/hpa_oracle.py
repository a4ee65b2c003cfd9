"""Kubernetes' own autoscaler, built from its pinned source (onenode/build), and its answers."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.host.scratch import remove_folder
from mlscale.host.state import cache_home
from onenode.cache import Cache
from onenode.gobuild import go_program
from onenode.progress import Reporter

SOURCE: Final = Path(__file__).parents[2] / "packages/onenode/onenode/build/kubernetes"
# testing/synctest is in from here on.
GO: Final = (1, 25)


@dataclass(frozen=True)
class Oracle:
    """The program that was built."""

    folder: Path

    def ask(self, test: str, questions: Iterable[Any], work: Path) -> list[Any]:
        """Answers of ``TestCalculator`` or ``TestController``; ``work``: an empty folder."""
        asked, told = work / "questions.jsonl", work / "answers.jsonl"
        with asked.open("w") as file:
            file.writelines(json.dumps(question) + "\n" for question in questions)
        argv = [str(self.folder / "oracle"), f"-test.run=^{test}$"]
        environment = {**os.environ, "QUESTIONS": str(asked), "ANSWERS": str(told)}
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=work, check=False)
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return [json.loads(line) for line in told.read_text().splitlines()]


def own_cache() -> Cache:
    """Beside the cluster's, whose lock would be held for minutes."""
    return Cache(cache_home() / "hpa-oracle")


def built_folder() -> Path:
    """Where it lies once it is built."""
    sources = [SOURCE / "go.mod", SOURCE / "go.sum", *sorted((SOURCE / "oracle").glob("*.go"))]
    return own_cache().folder("built", "1", os.uname().machine, *(file.read_bytes() for file in sources))


@contextmanager
def oracle() -> Iterator[Oracle]:
    """Built the first time: some minutes."""
    cache, folder = own_cache(), built_folder()
    with cache.locked():
        if not folder.exists():
            _build(folder)
    yield Oracle(folder)


def _build(folder: Path) -> None:
    cache = own_cache()
    compiled = cache.root / "go-build"
    with go_program(GO, cache.root / "go-wheel", Reporter()) as go, cache.creating(folder) as made:
        environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOCACHE": str(compiled)}
        flags = ["-vet=off", "-mod=readonly", "-trimpath"]
        argv = [str(go), "test", "-c", *flags, "-o", str(made / "oracle"), "./oracle"]
        done = subprocess.run(argv, cwd=SOURCE, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    remove_folder(compiled)
