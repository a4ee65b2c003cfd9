"""`make docs`: the site builds with broken links as errors, and says of settings and commands what the code says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from typer import TyperException
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from browser import browser, needs_browser
from mlscale import environments
from mlscale.commands.cli import app

ROOT = Path(__file__).parents[2]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    result = build(ROOT / "mkdocs.yml", folder)
    assert result.returncode == 0, result.stderr
    return folder


def text_of(page: Path) -> str:
    return unescape(re.sub(r"<[^>]+>", "", page.read_text()))


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    loads = re.compile(r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*href="(?:https?:)?//')
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    assert not [page.name for page in pages if loads.search(page.read_text())]
    assert (site / "search/search_index.json").exists()


@needs_browser
def test_search_works_from_a_file(site: Path, tmp_path: Path) -> None:
    with browser(tmp_path) as window:
        window.open((site / "index.html").as_uri())
        window.type("input.md-search__input", "overprovisioning karpenter")
        found = window.wait("return [...document.querySelectorAll('.md-search-result__link')].map(link => link.href)")
        assert found
        window.run("document.querySelector('.md-search-result__link').click()")
        window.wait("return location.href.startsWith(arguments[0])", found[0].split("?")[0])
        assert "karpenter" in window.run("return document.querySelector('article').textContent").lower()


def test_every_setting_of_every_environment_is_in_the_reference(site: Path) -> None:
    text = text_of(site / "reference/settings.html")
    for name in environments.names():
        for setting, field in environments.get(name).settings.model_fields.items():
            assert setting in text, f"{name}: {setting}"
            assert field.description, f"{name}: {setting} has no description"
            assert field.description in text, f"{name}: {setting}"


def leaves(group: TyperGroup) -> Iterator[tuple[str, TyperCommand]]:
    """The words that name each command, and the command; not those that only name their successor."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from ((f"{name} {rest}", leaf) for rest, leaf in leaves(command))
        elif not command.hidden:
            assert isinstance(command, TyperCommand)
            yield name, command


def parse(line: str) -> None:
    """Parse a command as it is shown: up to its explanation, the first of alternatives, without what may be left out.
    Files need not exist, and a required value may be missing.

    Raises:
        TyperException: it can't be given so.
    """
    shown = re.split(r"\s{3,}|\s#|\s\|\s|\s\[", line)[0]
    known = commands()
    name = next(name for name in sorted(known, key=len, reverse=True) if f"{shown} ".startswith(f"mlscale {name} "))
    words = shlex.split(shown.removeprefix(f"mlscale {name}"))
    try:
        known[name].make_context(name, [word for word in words if word != "..."])
    except TyperException as error:
        if not re.search("does not exist|Missing", str(error)):
            raise


@cache
def commands() -> Mapping[str, TyperCommand]:
    """Every command by its words: made once, since that takes longer than parsing all lines."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(leaves(group))


def test_every_command_is_in_the_reference_with_an_example(site: Path) -> None:
    text = text_of(site / "reference/help.html")
    for name, command in commands().items():
        assert f"mlscale {name}" in text
        example = re.search(rf"Example: (mlscale {name}\b.*)", str(command.help))
        assert example, f"mlscale {name} --help has no example"
        parse(example[1])


def test_commands_can_be_given_as_the_documents_show_them() -> None:
    shown = re.compile(r"^ {4}(?:\S*bin/|KUBECONFIG=\S+ )?(mlscale [^-].*)", re.MULTILINE)
    documents = [file for place in (".", "docs", "packages/*", "examples/*") for file in ROOT.glob(f"{place}/*.md")]
    lines = [line for document in documents for line in shown.findall(document.read_text())]
    assert len(lines) > 50
    for line in lines:
        parse(line)
    with pytest.raises(TyperException, match="--scale"):
        parse("mlscale train --scale 0.1   # no such option")


def test_every_name_of_the_public_face_is_in_the_reference(site: Path) -> None:
    import mlscale

    text = text_of(site / "reference/python.html")
    assert not [name for name in mlscale.__all__ if name[0].isupper() and name not in text]


def test_a_broken_link_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/index.md").write_text("# Start\n\n[gone](gone.md)\n")
    settings = re.search(r"^validation:\n(?:  .*\n)+", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert settings
    (tmp_path / "mkdocs.yml").write_text(f"site_name: broken\n{settings[0]}")
    result = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert result.returncode != 0
    assert "gone.md" in result.stderr
