"""Hooks of `make docs`: pages that are generated at each build, and links from the pages to files outside docs/.

The reference is made from the code itself (settings models, commands' help, docstrings), so it can't differ from it.
Files outside docs/ that a page links to become part of the site below files/; README.md, CONTRIBUTING.md and
CHANGELOG.md become pages. A link to what doesn't exist stays as it is, and the strict build refuses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import relpath
from typing import Any, Literal, get_args, get_origin

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
SECTION = re.compile(r"\n(Args|Returns|Raises|Yields):\n")
OPTIONS = "    options:\n      heading_level: 3\n"


class SectionsApart(griffe.Extension):
    """Griffe wants a blank line above each section of a docstring; ours have none."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = SECTION.sub(r"\n\n\1:\n", obj.docstring.value)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and every file outside docs/ that a page leads to."""
    generated = {
        "reference/settings.md": settings_page(),
        "reference/help.md": help_page(),
        "reference/python.md": python_page(),
    }
    for uri, content in generated.items():
        files.append(File.generated(config, uri, content=content))
    seen: set[Path] = set()
    waiting = [ROOT / name for name in PAGES] + [DOCS / file.src_uri for file in files if _is_source(file)]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        if not path.is_relative_to(DOCS):
            files.append(File.generated(config, uri_of(path), abs_src_path=str(path)))
        if path.suffix == ".md":
            waiting += [target for target in linked_files(path) if not target.is_relative_to(DOCS)]
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at the site's own copy of what they lead to."""
    source = page.file.abs_src_path
    if source is None:
        return markdown

    def moved(match: re.Match[str]) -> str:
        target = target_of(Path(source), match[2])
        uri = relpath(uri_of(target), Path(page.file.src_uri).parent.as_posix()) if target else match[2]
        return f"{match[1]}{uri}{match[3]}"

    return LINK.sub(moved, markdown)


def linked_files(page: Path) -> Iterator[Path]:
    """Files of the checkout that a page links to."""
    for match in LINK.finditer(page.read_text()):
        target = target_of(page, match[2])
        if target:
            yield target


def target_of(page: Path, link: str) -> Path | None:
    """The file that a link leads to, of a folder its README.md; None for an address, or if there is none."""
    if ":" in link:
        return None
    target = (page.parent / link).resolve()
    target = target / "README.md" if target.is_dir() else target
    return target if target.is_file() and target.is_relative_to(ROOT) else None


def uri_of(path: Path) -> str:
    """Where a file of the checkout is in the site's sources."""
    name = path.relative_to(ROOT).as_posix()
    return PAGES.get(name) or (name.removeprefix("docs/") if path.is_relative_to(DOCS) else f"files/{name}")


def settings_page() -> str:
    """Every setting of every environment, load and notebook, from the models that check them."""
    from pydantic import BaseModel

    from mlscale import environments, runs
    from mlscale.notebook import parameters

    parts = [
        "# Settings\n\nGenerated from the models that check them. On the command line: `--scaling NAME=VALUE`; in "
        'Python: `scaling={"NAME": VALUE}`. *shipped* and *matched* are two of the arms ([METHOD](../METHOD.md), '
        "section 4); `static-min` and `static-max` fix the number of replicas of *matched*. `None` leaves it to the "
        "framework.\n",
    ]
    for name in environments.names():
        environment = environments.get(name)
        model = environment.settings
        arms = {arm: environment.arm(arm) for arm in ("shipped", "matched")}
        parts.append(f"## {name}\n\n{_prose(model)}\n\n{_source(model)}\n\n{_fields(model, arms)}")
    parts.append("## Load\n\nA schedule in Python, or as a JSON file for `--schedule`.\n")
    loads = [
        getattr(runs, name)
        for name in (
            "ClosedLoop",
            "ClosedStage",
            "OpenLoop",
            "Constant",
            "Ramp",
            "Sine",
            "Spike",
            "Staircase",
            "Step",
            "Trace",
        )
    ]
    parts += [f"### {model.__name__}\n\n{_prose(model)}\n\n{_fields(model)}" for model in loads]
    parts.append("## Notebooks\n\nThe parameters of the notebooks' first code cell.\n")
    for name, model in vars(parameters).items():
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == parameters.__name__:
            parts.append(f"### {name}\n\n{_prose(model)}\n\n{_fields(model)}")
    return "\n\n".join(parts) + "\n"


def _fields(model: Any, arms: dict[str, Any] | None = None) -> str:
    heads = ["setting", *(arms or ["default"]), "allowed", "meaning"]
    lines = [heads, ["---"] * len(heads)]
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _code(field.get_default(call_default_factory=True))
        values = [_code(getattr(settings, name)) for settings in arms.values()] if arms else [default]
        lines.append([f"`{name}`", *values, _allowed(field), field.description or ""])
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _allowed(field: Any) -> str:
    """The values of a field: the choices, or its type and bounds."""
    if get_origin(field.annotation) is Literal:
        return " or ".join(map(_code, get_args(field.annotation)))
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "pattern": "matching"}
    rules = [(sign, getattr(rule, name, None)) for rule in field.metadata for name, sign in signs.items()]
    bounds = [f"{sign} {value if sign != 'matching' else _code(value)}" for sign, value in rules if value is not None]
    name = getattr(field.annotation, "__name__", "")
    kind = name if name and not get_args(field.annotation) else re.sub(r"[\w.]+\.(?=[A-Z])", "", str(field.annotation))
    return ", ".join([_code(kind), *bounds])


def _code(value: Any) -> str:
    return f"`{value}`"


def _prose(model: Any) -> str:
    return re.sub(r"`+", "`", re.sub(r"\n +", "\n", model.__doc__ or ""))


def _source(model: Any) -> str:
    """Where the defaults are from: what the module says of itself."""
    import sys

    module = sys.modules[model.__module__]
    file = Path(str(module.__file__)).relative_to(ROOT).as_posix()
    said = " ".join((module.__doc__ or "").split("\n\n")[0].split())
    return f"*Source of the defaults:* `{file}`: {said}"


def help_page() -> str:
    """What `--help` says of every command."""
    from typer.cli import get_docs_for_click
    from typer.main import get_command

    from mlscale.commands.cli import app

    command = get_command(app)
    context: Any = command.make_context("mlscale", ["doctor"])
    text = get_docs_for_click(obj=command, ctx=context, name="mlscale")
    return text.replace("# `mlscale`", "# Every command's help", 1)


def python_page() -> str:
    """The names of the public face, from their docstrings."""
    import mlscale
    from mlscale import figures

    names, drawn = (
        [f"::: {module}.{name}\n{OPTIONS}" for module, line in offered.items() for name in line.split()]
        for offered in (mlscale._NAMES, figures._NAMES)
    )
    intro = (
        "# Python reference\n\nGenerated from docstrings. [The Python API](../api.md) says which name is for what; "
        "import all of them from `mlscale`.\n"
    )
    return "\n".join([intro, "## Names\n", *sorted(names), "## Figures\n", *sorted(drawn)]) + "\n"


def _is_source(file: File) -> bool:
    return file.src_uri.endswith(".md") and file.abs_src_path is not None
