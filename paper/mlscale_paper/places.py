"""Paths of the project's notebooks, data and figures: beside the package, in the checkout."""

from __future__ import annotations

from pathlib import Path

import mlscale
from mlscale.runs import MlscaleError


def in_checkout() -> bool:
    """Whether notebooks/, data/ and figures/ are there: a wheel comes without them."""
    return (_root() / "notebooks").is_dir()


def checkout() -> Path:
    """The folder that holds notebooks/, data/ and figures/.

    Raises:
        MlscaleError: the package was installed without them.
    """
    if not in_checkout():
        raise MlscaleError("the notebooks are not beside the package", str(_root()), "work from a clone of the project")
    return _root()


def notebooks() -> Path:
    """notebooks/ of the checkout."""
    return checkout() / "notebooks"


def data() -> Path:
    """data/ of the checkout."""
    return checkout() / "data"


def figures() -> Path:
    """figures/ of the checkout."""
    return checkout() / "figures"


def settings_file() -> Path:
    """The published experiment's experiment.yaml."""
    return checkout() / "paper" / "experiment.yaml"


def protocol_file() -> Path:
    """The protocol that the pilot writes."""
    return data() / "protocol.json"


def reference() -> Path:
    """The published runs, and beside them the protocol under which they were measured, once there are any."""
    return data() / "reference"


def reference_protocol_file() -> Path:
    """The protocol of the published runs; a later pilot moves the checkout's, not this one."""
    return reference() / "protocol.json"


def _root() -> Path:
    return Path(mlscale.__file__).resolve().parents[1]
