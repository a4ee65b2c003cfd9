"""Folders of bodies, their labels, the ways in which both can be wrong, and how answers are judged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from load_truth import CHECK, CODES, TruthServer, reply, run
from pydantic import ValidationError

from codereader.answers import same_codes
from mlscale.loadgen.bodies import BodySet, bodies_of, check_needs_labels, load_check, same_answer
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.spec import LoadOptions, LoadSpec
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError

SCHEDULE = ClosedLoop(duration_s=0.5, stages=(ClosedStage(start_s=0, clients=1),), think_mean_s=0.02)


def test_bodies_and_labels_in_order_of_names(photo_folder: Path) -> None:
    found = BodySet.read(photo_folder)
    assert found.names == ("photo-000.jpg", "photo-001.jpg", "photo-002.jpg")
    assert found.bodies == tuple(name.encode() for name in found.names)
    assert found.content_types == ("image/jpeg",) * 3
    assert found.labels is not None
    assert [label["codes"] for label in found.labels] == [CODES] * 3
    assert found.facts["count"] == len(found) == 3
    assert found.facts["cpu_s"] == pytest.approx(0.027)


def test_any_file_is_a_body_but_hidden_ones(tmp_path: Path) -> None:
    for name in ("a.json", "b.txt", "c.unheard-of", ".hidden"):
        (tmp_path / name).write_text("{}")
    found = BodySet.read(tmp_path)
    assert found.names == ("a.json", "b.txt", "c.unheard-of")
    assert found.content_types == ("application/json", "text/plain", "application/octet-stream")
    assert found.labels is None


def test_the_digest_tells_sets_apart(photo_folder: Path) -> None:
    before = BodySet.read(photo_folder).facts["sha256"]
    assert BodySet.read(photo_folder).facts["sha256"] == before
    (photo_folder / "photo-001.jpg").write_bytes(b"other")
    changed = BodySet.read(photo_folder).facts["sha256"]
    labels = photo_folder / "labels.jsonl"
    labels.write_text(labels.read_text().replace("hello", "world", 1))
    assert len({before, changed, BodySet.read(photo_folder).facts["sha256"]}) == 3


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"file": "photo-009.jpg", "answer": 1}', "photo-009.jpg"),
        ("not json", "line 4"),
        ("[]", "line 4"),
        ('{"file": 1}\n{"file": "zzz"}', "line 4"),
        ("[" * 2000, "line 4"),
        ('{"file": "photo-000.jpg", "answer": 1}', "photo-000.jpg has a second label"),
    ],
)
def test_wrong_labels(photo_folder: Path, line: str, what: str) -> None:
    with (photo_folder / "labels.jsonl").open("a") as labels:
        labels.write(line + "\n")
    with pytest.raises(MlscaleError, match=what):
        BodySet.read(photo_folder)


def test_a_body_without_label(photo_folder: Path) -> None:
    (photo_folder / "photo-003.png").write_bytes(b"x")
    with pytest.raises(MlscaleError, match=r"photo-003.png has no label"):
        BodySet.read(photo_folder)


def test_no_files_no_folder_and_a_folder_in_place_of_a_file(tmp_path: Path, photo_folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MlscaleError, match="no files"):
        BodySet.read(empty)
    with pytest.raises(MlscaleError, match="No such file"):
        BodySet.read(tmp_path / "none")
    (photo_folder / "photo-003.jpg").mkdir()
    with pytest.raises(MlscaleError, match=r"photo-003.jpg"):
        BodySet.read(photo_folder)


@pytest.mark.parametrize("name", ["photo-003.jpg", "labels.jsonl"])
def test_what_might_never_end_is_not_read(photo_folder: Path, name: str) -> None:
    (photo_folder / name).unlink(missing_ok=True)
    os.mkfifo(photo_folder / name)
    with pytest.raises(MlscaleError, match=f"{name}: it is not a regular file"):
        BodySet.read(photo_folder)


def test_names_that_are_not_utf8(photo_folder: Path, tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(photo_folder) + b"/caf\xe9.jpg")).write_bytes(b"x")
    with pytest.raises(MlscaleError, match=r"caf\\udce9.jpg': the file's name is not UTF-8"):
        BodySet.read(photo_folder)
    out = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.arrow"))
    with LoadProcess() as load, pytest.raises(MlscaleError, match=r"caf\\udce9.arrow': it is not UTF-8"):
        load.start(LoadSpec(url="http://127.0.0.1:9/", schedule=SCHEDULE), (), [out])


def test_a_text_to_send_is_json_or_plain() -> None:
    for text, kind in {'{"a": 1}': "application/json", "[" * 2000: "text/plain; charset=utf-8"}.items():
        found = bodies_of(LoadSpec(url="http://127.0.0.1:9/", schedule=SCHEDULE, body=text))
        assert found is not None
        assert (found.bodies, found.content_types) == ((text.encode(),), (kind,))
    with pytest.raises(ValidationError, match="body"):
        LoadOptions(body="\udcff")


def test_how_answers_are_judged(photo_folder: Path) -> None:
    labels = BodySet.read(photo_folder).labels
    assert load_check(None, None) is None
    assert load_check(CHECK, labels) is same_codes
    assert load_check(None, ({"file": "a", "answer": [1]},)) is same_answer
    with pytest.raises(MlscaleError, match=r'photo-000.jpg has no "answer"'):
        load_check(None, labels)
    of_bodies = "mlscale.loadgen.bodies"
    for wrong in ("nowhere:check", f"{of_bodies}:nothing", of_bodies, ":", ".mod:fn", "json:__name__"):
        with pytest.raises(MlscaleError, match="can't be imported"):
            load_check(wrong, labels)


def test_a_check_that_would_never_be_called_is_said(photo_folder: Path) -> None:
    for check, bodies in ((CHECK, photo_folder), (None, None), ("none", None)):
        check_needs_labels(check, bodies)
    for bodies in (None, photo_folder / "photo-000.jpg", photo_folder.parent):
        with pytest.raises(MlscaleError, match=r"there is no labels\.jsonl .*\"file\": \"one\.txt\""):
            check_needs_labels(CHECK, bodies)


def test_json_bodies_with_answers_compared_as_json(truth: TruthServer, tmp_path: Path) -> None:
    """What README's own example sends: a label, not codes."""
    folder = tmp_path / "texts"
    folder.mkdir()
    lines = []
    for number, label in enumerate(("cat", "dog")):
        (folder / f"{number}.json").write_text(json.dumps({"text": label}))
        lines.append(json.dumps({"file": f"{number}.json", "answer": {"label": "cat"}}))
    (folder / "labels.jsonl").write_text("\n".join(lines))
    truth.behave["/label"] = reply(200, b'{ "label" : "cat" }')
    report = run(LoadSpec(url=truth.url + "/label", schedule=SCHEDULE, bodies=folder), tmp_path)
    assert report.sent > 3
    assert {body for _, _, body in truth.arrivals} == {b'{"text": "cat"}', b'{"text": "dog"}'}


def test_answers_are_not_checked_where_that_is_asked_for() -> None:
    assert load_check("none", ({"file": "a.txt"},)) is None


def test_a_check_may_print(
    truth: TruthServer, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = "import os\ndef check(label, answer):\n    print('{', end='', flush=True)\n    return os.write(1, b'{')\n"
    (tmp_path / "printing_check.py").write_text(check)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    truth.behave["/"] = reply(200, b"{}")
    spec = LoadSpec(url=truth.url + "/", schedule=SCHEDULE, bodies=photo_folder, check="printing_check:check")
    assert run(spec, tmp_path).sent > 3
