"""The applications that can be measured, by import string: their code is only ever loaded inside an environment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from mlscale.environments import App, Component
from mlscale.experiment import places


def code_reader() -> App:
    """The project's own application, whole: photo in, decoded codes out (README, mlscale/application)."""
    weights = tuple(sorted((places.data() / "weights").glob("*.safetensors")))
    reader = Component(name="app", entry="mlscale.application.decoder:make_decoder", weights=weights)
    named = f"{version('mlscale')}+weights.{_digest(weights)}"
    return App(name="code-reader", version=named, components=(reader,), front="app")


def _digest(files: Sequence[Path]) -> str:
    """The weights' hash, so that runs of different weights can't be taken for runs of one application."""
    whole = hashlib.sha256()
    for file in files:
        whole.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return whole.hexdigest()[:12]
