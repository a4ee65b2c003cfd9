"""``mlscale new-app NAME``: a folder with a small working model, files to send, their answers, and a test."""

from __future__ import annotations

import keyword
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Final

from mlscale.atomic import write_text
from mlscale.errors import MlscaleError

_TEMPLATES: Final = Path(__file__).parent / "templates" / "app"


def new_app(name: str, parent: Path) -> Path:
    """Write the skeleton into the new folder ``parent``/``name`` and return it.

    Raises:
        MlscaleError: ``name`` can't be imported, or is an installed module's; or the folder exists.
    """
    folder = parent / name
    if not name.isidentifier() or keyword.iskeyword(name):
        raise MlscaleError("not a name that Python can import", name, "use letters, digits and _, such as my_model")
    if folder.exists():
        raise MlscaleError("it exists already", str(folder), "choose another name, or delete it")
    if name in sys.stdlib_module_names or find_spec(name) is not None:
        raise MlscaleError("a module of that name is installed, and would be imported instead", name, "choose another")
    values = {"name": name, "entry": f"{name}.model:make", "bodies": "bodies"}
    for source in sorted(_TEMPLATES.rglob("*.in")):
        file = source.relative_to(_TEMPLATES).with_suffix("")
        write_text(folder / file, skeleton(str(file), **values))
    return folder


def skeleton(file: str, **values: str) -> str:
    """The contents of one of the skeleton's files."""
    return Template((_TEMPLATES / f"{file}.in").read_text()).substitute(values)
