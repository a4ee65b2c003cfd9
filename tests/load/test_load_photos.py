"""Photo sets and the ways in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.load.photos import PhotoSet
from mlscale.runs import MlscaleError


def test_bodies_and_codes_in_order_of_names(photo_folder: Path) -> None:
    photos = PhotoSet.read(photo_folder)
    assert photos.names == ("photo-000.jpg", "photo-001.jpg", "photo-002.jpg")
    assert photos.bodies == tuple(name.encode() for name in photos.names)
    assert photos.codes == (frozenset({("QR", "hello"), ("EAN13", "4006381333931")}),) * 3
    assert photos.facts["count"] == len(photos) == 3
    assert photos.facts["cpu_s"] == pytest.approx(0.027)


def test_the_digest_tells_sets_apart(photo_folder: Path) -> None:
    before = PhotoSet.read(photo_folder).facts["sha256"]
    assert PhotoSet.read(photo_folder).facts["sha256"] == before
    (photo_folder / "photo-001.jpg").write_bytes(b"other")
    changed = PhotoSet.read(photo_folder).facts["sha256"]
    labels = photo_folder / "labels.jsonl"
    labels.write_text(labels.read_text().replace("hello", "world", 1))
    assert len({before, changed, PhotoSet.read(photo_folder).facts["sha256"]}) == 3


def test_without_labels_nothing_is_known(photo_folder: Path) -> None:
    (photo_folder / "labels.jsonl").unlink()
    assert PhotoSet.read(photo_folder).codes is None


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"file": "photo-009.jpg", "codes": []}', "photo-009.jpg"),
        ('{"file": "photo-000.jpg"}', "line 4"),
        ('{"file": "photo-000.jpg", "codes": [{"kind": "QR"}]}', "line 4"),
        ("not json", "line 4"),
        ("[]", "line 4"),
    ],
)
def test_wrong_labels(photo_folder: Path, line: str, what: str) -> None:
    with (photo_folder / "labels.jsonl").open("a") as labels:
        labels.write(line + "\n")
    with pytest.raises(MlscaleError, match=what):
        PhotoSet.read(photo_folder)


def test_a_photo_without_label(photo_folder: Path) -> None:
    (photo_folder / "photo-003.png").write_bytes(b"x")
    with pytest.raises(MlscaleError, match=r"photo-003.png has no label"):
        PhotoSet.read(photo_folder)


def test_no_photos_no_folder_and_a_folder_in_place_of_a_photo(tmp_path: Path, photo_folder: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(MlscaleError, match="no photos"):
        PhotoSet.read(empty)
    with pytest.raises(MlscaleError, match="No such file"):
        PhotoSet.read(tmp_path / "none")
    (photo_folder / "photo-003.jpg").mkdir()
    with pytest.raises(MlscaleError, match=r"photo-003.jpg"):
        PhotoSet.read(photo_folder)
