"""The applications that can be measured, by import string: their code is only ever loaded inside an environment."""

from __future__ import annotations

from importlib.metadata import version

from mlscale.environments import App, Component
from mlscale.experiment import places


def code_reader() -> App:
    """The project's own application, whole: photo in, decoded codes out (README, mlscale/application)."""
    weights = tuple(sorted((places.data() / "weights").glob("*.safetensors")))
    reader = Component(name="app", entry="mlscale.application.decoder:make_decoder", weights=weights)
    return App(name="code-reader", version=version("mlscale"), components=(reader,), front="app")
