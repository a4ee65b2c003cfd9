"""experiment.yaml: what a folder with a model gives, and what is wrong with it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.commands.new_app import new_app
from mlscale.runs import MlscaleError
from mlscale_experiment.experiment import Selection
from mlscale_experiment.settings import NAME, init, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return new_app("my_model", tmp_path)


def test_the_skeleton_comes_with_an_experiment_that_reads(folder: Path) -> None:
    settings = read(folder)
    assert settings.application.entry == "my_model.model:make"
    assert settings.bodies == folder / "bodies"
    assert settings.import_root == folder.parent
    assert (settings.name, settings.cells, settings.blocks) == ("my_model", ("core",), 8)
    assert settings.with_environments().environments[:2] == ("torchserve", "rayserve")


def test_every_line_that_the_skeleton_comments_out_is_a_setting(folder: Path) -> None:
    file = folder / NAME
    settled = [line.replace("# ", "", 1) if line.lstrip().startswith("#") else line for line in _lines(file)]
    lines = [line for line in settled if not line.strip().startswith(("check", "requirements", "trace"))]
    file.write_text("\n".join(lines) + "\n")
    settings = read(folder)
    assert settings.level_s == 0.5
    assert settings.application.calls == {"boxes": "my_model.model:make_boxes"}


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()[2:]


def test_init_finds_the_module_and_the_bodies_and_overwrites_nothing(folder: Path) -> None:
    (folder / NAME).unlink()
    assert init(folder) == folder / NAME
    assert read(folder).application.entry == "my_model.model:make"
    with pytest.raises(MlscaleError, match="it exists already"):
        init(folder)


def test_a_folder_without_a_package_is_imported_from_itself(tmp_path: Path) -> None:
    (tmp_path / "bodies").mkdir()
    (tmp_path / "scorer.py").write_text("def make():\n    return lambda body: {}\n")
    init(tmp_path)
    settings = read(tmp_path)
    assert settings.application.entry == "scorer:make"
    assert settings.import_root == tmp_path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("application: {entry: my_model.model:make}", "bodies: Field required"),
        ("[1, 2]", "not a mapping"),
        ("application: {entry: :", "can't be read"),
        ("application: {entry: my_model.model}\nbodies: bodies", "application.entry"),
        ("application: {entry: a:b}\nbodies: nowhere", "there is no .*nowhere"),
        ("application: {entry: a:b}\nbodies: bodies\nblock: 8", "block"),
        ("application: {entry: a:b}\nbodies: bodies\nblocks: 0", "blocks"),
        ("application: {entry: a:b}\nbodies: bodies\nlevel_s: .nan", "level_s"),
        ("application: {entry: a:b}\nbodies: bodies\ncells: [cor]", "unknown cell 'cor'"),
        ("application: {entry: a:b}\nbodies: bodies\nenvironments: [heroku]", "heroku"),
        ("application: {entry: a:b}\nbodies: bodies\ntrace: none.csv", "trace: there is no"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(folder: Path, text: str, named: str) -> None:
    (folder / NAME).write_text(text)
    with pytest.raises(MlscaleError, match=named) as refused:
        read(folder)
    assert "\n" not in str(refused.value)


def test_no_settings_no_model_and_no_bodies_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="mlscale experiment init"):
        read(tmp_path)
    with pytest.raises(MlscaleError, match=r"no module in it defines make\(\)"):
        init(tmp_path)
    (tmp_path / "model.py").write_text("def make(): ...\n")
    with pytest.raises(MlscaleError, match="no folder of files to send"):
        init(tmp_path)


def test_changed_code_is_another_application(folder: Path) -> None:
    before = read(folder).app()
    assert read(folder).app() == before
    with (folder / "model.py").open("a") as file:
        file.write("# changed\n")
    assert read(folder).app().version != before.version


def test_options_go_before_the_file(folder: Path) -> None:
    chosen = read(folder).selected(Selection(environments=["rayserve"], blocks=2))
    assert (chosen.environments, chosen.blocks, chosen.cells) == (("rayserve",), 2, ("core",))
    with pytest.raises(MlscaleError, match="unknown cell"):
        read(folder).selected(Selection(cells=["cor"]))
    with pytest.raises(MlscaleError, match="heroku"):
        read(folder).selected(Selection(environments=["heroku"]))
