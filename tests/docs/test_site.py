"""`make docs`: the site builds with broken links as errors, and says of settings and commands what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from html import unescape
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.main import get_command

from mlscale import environments
from mlscale.cli import app

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


def test_every_setting_of_every_environment_is_in_the_reference(site: Path) -> None:
    text = text_of(site / "reference/settings.html")
    for name in environments.names():
        for setting, field in environments.get(name).settings.model_fields.items():
            assert setting in text, f"{name}: {setting}"
            assert field.description, f"{name}: {setting} has no description"
            assert field.description in text, f"{name}: {setting}"


def test_every_command_is_in_the_reference_with_an_example(site: Path) -> None:
    text = text_of(site / "reference/help.html")
    command = get_command(app)
    assert isinstance(command, TyperGroup)
    for name, sub in command.commands.items():
        for path, leaf in [(f"{name} {key}", each) for key, each in getattr(sub, "commands", {}).items()] or [
            (name, sub)
        ]:
            assert f"mlscale {path}" in text
            assert f"Example: mlscale {path}" in str(leaf.help), f"mlscale {path} --help has no example"


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
