"""The applications that can be measured, by import string: their code is only ever loaded inside an environment."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Final

import codereader
from mlscale.environments import App, Component

CHECK: Final = "codereader.answers:same_codes"
# The networks of each component, as codereader.partition has them.
NETS: Final = {"localiser": ("localiser",), "readers": ("strips", "grids", "modules")}


def code_reader(*, partitioned: bool = False) -> App:
    """The project's own application: photo in, decoded codes out (packages/codereader). Undivided, or in two
    components that scale separately, ``localiser`` (the front) and ``readers``; the answers are the same. All in
    float32, so that hosts differ in speed only."""
    files = sorted((Path(codereader.__file__).parent / "trained").glob("*.safetensors"))
    weights = {file.stem: file for file in files}
    app_version = f"{version('mlscale')}+weights.{_digest([*weights.values()])}"
    if not partitioned:
        entry = "codereader.decoder:make_float32_decoder"
        undivided = Component(name="app", entry=entry, weights=(*weights.values(),))
        return App(name="code-reader", version=app_version, components=(undivided,), front="app", check=CHECK)
    parts = {name: tuple(weights[net] for net in nets if net in weights) for name, nets in NETS.items()}
    entry = "codereader.partition:make_"
    localiser = Component("localiser", f"{entry}localiser", parts["localiser"], calls=("readers",))
    readers = Component("readers", f"{entry}readers", parts["readers"])
    return App(name="code-reader", version=app_version, components=(localiser, readers), front="localiser", check=CHECK)


def _digest(files: Sequence[Path]) -> str:
    """Hash of the weights, so that runs with different weights count as different applications."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
