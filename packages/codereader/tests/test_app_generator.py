"""Generated photos: reproducible, labelled right, of every kind."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codereader import ean, generator
from codereader.difficulties import DIFFICULTIES, LEVELS
from codereader.errors import ApplicationError
from codereader.geometry import homography, project, rectangle
from codereader.photos import photo_bytes, write_photo_set


@pytest.mark.parametrize("difficulty", DIFFICULTIES)
def test_same_seed_same_photo(difficulty: str) -> None:
    assert photo_bytes(3, 5, difficulty) == photo_bytes(3, 5, difficulty)
    assert photo_bytes(3, 5, difficulty)[0] != photo_bytes(4, 5, difficulty)[0]


def test_a_photo_set_is_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_photo_set(tmp_path / name, seed=11, count=4)
    one, two = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert [path.name for path in one] == [*(f"photo-{index:03d}.jpg" for index in range(4)), "labels.jsonl"][-1:] + [
        f"photo-{index:03d}.jpg" for index in range(4)
    ]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    labels = [json.loads(line) for line in (tmp_path / "one" / "labels.jsonl").read_text().splitlines()]
    assert [label["file"] for label in labels] == [f"photo-{index:03d}.jpg" for index in range(4)]


def test_codes_are_valid_inside_the_photo_and_of_every_kind() -> None:
    kinds = set()
    for index in range(40):
        body, label = photo_bytes(1, index, "medium")
        with Image.open(io.BytesIO(body)) as image:
            assert (image.size, image.mode) == ((640, 480), "RGB")
        for code in label["codes"]:
            corners = np.array(code["corners"])
            assert (corners >= 0).all()
            assert (corners <= (640, 480)).all()
            kinds.add(code["kind"])
            if code["kind"] != "QR":
                assert ean.is_valid(code["kind"], code["text"])
            assert code["kind"] != "EAN13" or code["text"][0] != "0"
    assert kinds == set(generator.KINDS)


def test_labelled_corners_are_where_the_modules_are() -> None:
    scene = generator.close_up(np.random.default_rng(8), "easy", "QR", version=2)
    code = scene.codes[0]
    size = len(code.modules)
    at = np.stack(np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5), axis=-1).reshape(-1, 2)
    seen = project(homography(rectangle(size, size), code.corners), at)
    grey = np.asarray(scene.photo, dtype=float)
    levels = grey[seen[:, 1].astype(int), seen[:, 0].astype(int)].reshape(size, size)
    assert levels[code.modules == 0].mean() - levels[code.modules == 1].mean() > 50
    assert ((levels < np.median(levels)) == (code.modules == 1)).mean() > 0.9


@pytest.mark.parametrize("kind", generator.KINDS)
def test_a_code_is_where_its_surface_shows_it(kind: str) -> None:
    """Bent, tilted or flat: at the places that `see` names stands what the code's modules say."""
    agreeing = []
    for index in range(12):
        rng = np.random.default_rng([index, 3])
        scene = generator.close_up(rng, "medium", kind, version=3 if kind == "QR" else None)
        (code,) = scene.codes
        rows, columns = code.modules.shape
        at = np.stack(np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows), axis=-1)
        seen = code.see(at.reshape(-1, 2))
        np.testing.assert_allclose(code.unit(seen), at.reshape(-1, 2), atol=1e-6)
        x, y = np.clip(seen.astype(int), 0, np.array(scene.photo.size) - 1).T
        levels = np.asarray(scene.photo, dtype=float)[y, x].reshape(rows, columns)
        dark = (code.modules == 1) != code.inverted
        local = levels - levels.mean(axis=1, keepdims=True)
        agreeing.append(local[~dark].mean() - local[dark].mean() > 15)
    assert sum(agreeing) >= 11


@pytest.mark.parametrize("kind", generator.KINDS)
def test_a_filled_photo_is_filled_by_its_code(kind: str) -> None:
    for index in range(8):
        scene = generator.filled(np.random.default_rng([index, 5]), "medium", kind, 288)
        (code,) = scene.codes
        assert scene.photo.size == (288, 288)
        assert np.ptp(code.corners, axis=0).max() > 0.75 * 288
        assert ((code.corners > -2) & (code.corners < 290)).all()
        at = (np.arange(5) + 0.5) / 5
        inside = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
        np.testing.assert_allclose(code.unit(code.see(inside)), inside, atol=1e-6)


def test_codes_that_the_frame_cuts_are_labelled_apart() -> None:
    cut = []
    for index in range(40):
        scene = generator.photo(np.random.default_rng([index, 1]), "hard")
        for code in scene.cut:
            outside = (code.corners < 0) | (code.corners > scene.photo.size)
            assert outside.any()
            cut.append(code)
        for code in scene.codes:
            assert ((code.corners >= 0) & (code.corners <= scene.photo.size)).all()
    assert len(cut) >= 3


def test_training_sees_more_than_is_measured() -> None:
    assert set(LEVELS) == {*DIFFICULTIES, "harsh"}


def test_unknown_difficulty_is_refused_by_name() -> None:
    with pytest.raises(ApplicationError, match="brutal"):
        photo_bytes(0, 0, "brutal")
